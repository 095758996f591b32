//! The key ring is read again when its file changes.

use std::time::Duration;

use super::DatabaseError;
use super::stamp::{Stamp, stamp};
use crate::app::{App, KeyEncryptionKeyId};
use crate::config::DatabaseConfig;
use crate::seal::{KeyRing, KeyRingError, Provider};
use crate::telemetry::{causes, metrics};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the key ring again when its file changes. `used` is the stamp of the file before the ring in use was read; `None`: this
/// process created the file. A file that can't be used, and a file that is gone, is logged once and shown in a metric, and the ring in
/// use stays. Runs until it is dropped.
pub(super) async fn follow(app: App, config: DatabaseConfig, used: Option<Stamp>) {
    let path = &config.key_ring;
    let mut used = used.or_else(|| stamp(path));
    let mut tried = used;
    metrics::key_ring_usable(true);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp(path);
        if now == used {
            continue;
        }
        let replaced = replace(&app, &config).await;
        metrics::key_ring_usable(replaced.is_ok());
        match replaced {
            Ok(()) => {
                used = now;
                tracing::info!("reloaded the key ring");
            }
            // The file is tried again, because the database may have been away. Each change is logged once.
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

async fn replace(app: &App, config: &DatabaseConfig) -> Result<(), DatabaseError> {
    let keys = KeyRing::read(&config.key_ring, &config.key_providers).await?;
    Ok(app.replace_key_ring(keys).await?)
}

/// Adds a new random key, wrapped by this provider, to the file of the key ring. The database does not need to run.
pub async fn add_key(config: &DatabaseConfig, provider: &Provider) -> Result<KeyEncryptionKeyId, KeyRingError> {
    KeyRing::add(&config.key_ring, &config.key_providers, provider).await
}
