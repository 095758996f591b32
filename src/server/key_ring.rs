//! The key ring is read again when its file changes.

use std::time::{Duration, Instant};

use super::DatabaseError;
use super::stamp::{Stamp, stamp};
use crate::app::{App, KeyEncryptionKeyId};
use crate::config::DatabaseConfig;
use crate::seal::{KeyRing, KeyRingError, Provider, ProviderError};
use crate::telemetry::{causes, metrics};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause before a file is tried again that could not be used, for a reason other than the database or a token.
const RETRY_EVERY: Duration = Duration::from_secs(300);

/// Reads the key ring again when its file changes. `used` is the stamp of the file before the ring in use was read; `None`: this
/// process created the file. A file that can't be used, and a file that is gone, is logged once and shown in a metric, and the ring in
/// use stays. Runs until it is dropped.
pub(super) async fn follow(app: App, config: DatabaseConfig, used: Option<Stamp>) {
    let path = &config.key_ring;
    let mut used = used.or_else(|| stamp(path));
    let mut tried = used;
    let mut retry: Option<Instant> = None;
    metrics::key_ring_usable(true);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp(path);
        if now == used {
            // The file can be reached again.
            metrics::key_ring_usable(true);
            tried = now;
            continue;
        }
        if now == tried && retry.is_none_or(|at| Instant::now() < at) {
            continue;
        }
        let replaced = replace(&app, &config).await;
        metrics::key_ring_usable(replaced.is_ok());
        retry = replaced
            .as_ref()
            .err()
            .and_then(pause_after)
            .map(|pause| Instant::now() + pause);
        match replaced {
            Ok(()) => {
                used = now;
                tracing::info!("reloaded the key ring");
            }
            // Each change of the file is logged once.
            Err(error) if tried != now => {
                tracing::error!(
                    cause = causes(&error),
                    "the file of the key ring cannot be used: this process keeps the ring that it has, but a start would fail"
                );
            }
            Err(_) => {}
        }
        tried = now;
    }
}

/// The pause before an unchanged file is tried again. `None`: it is tried when it changes. Each attempt logs into the token, and a
/// token locks itself after a few wrong PINs.
fn pause_after(error: &DatabaseError) -> Option<Duration> {
    match error {
        error if error.may_pass() => Some(LOOK_EVERY),
        DatabaseError::KeyRing(KeyRingError::Open {
            error: ProviderError::Pkcs11(_),
            ..
        }) => None,
        _ => Some(RETRY_EVERY),
    }
}

async fn replace(app: &App, config: &DatabaseConfig) -> Result<(), DatabaseError> {
    let keys = KeyRing::read(&config.key_ring, &config.key_providers).await?;
    Ok(app.replace_key_ring(keys).await?)
}

/// Adds a new random key, wrapped by this provider, to the file of the key ring. The database does not need to run.
pub async fn add_key(config: &DatabaseConfig, provider: &Provider) -> Result<KeyEncryptionKeyId, KeyRingError> {
    KeyRing::add(&config.key_ring, &config.key_providers, provider).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Pkcs11Error;
    use crate::store;

    /// SoftHSM and devices lock a user out after a few wrong PINs.
    #[test]
    fn a_token_is_tried_once_for_each_change_of_the_file_and_a_database_each_second() {
        let id = KeyEncryptionKeyId::from_bytes([1; 8]);
        let of_token = KeyRingError::Open {
            id,
            error: ProviderError::Pkcs11(Pkcs11Error::NoToken("t".to_owned())),
        };
        assert_eq!(pause_after(&of_token.into()), None);
        assert_eq!(pause_after(&KeyRingError::Empty.into()), Some(RETRY_EVERY));
        assert_eq!(pause_after(&DatabaseError::ReadOnly), Some(LOOK_EVERY));
        assert_eq!(pause_after(&store::Error::busy().into()), Some(LOOK_EVERY));
    }
}
