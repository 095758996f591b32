//! The key ring is read again when its file changes.

use std::time::Duration;

use super::DatabaseError;
use super::stamp::stamp;
use crate::app::{App, KeyEncryptionKeyId};
use crate::config::DatabaseConfig;
use crate::seal::{KeyRing, KeyRingError, Provider};
use crate::telemetry::causes;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the key ring again when its file changes. A file that can't be used is logged once, and the ring in use stays. Runs until
/// it is dropped.
pub(super) async fn follow(app: App, config: DatabaseConfig) {
    let path = &config.key_ring;
    let mut used = stamp(path);
    let mut tried = used;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp(path);
        if now == used {
            continue;
        }
        match replace(&app, &config).await {
            Ok(()) => {
                used = now;
                tracing::info!("reloaded the key ring");
            }
            // The file is tried again, because the database may have been away. Each change is logged once.
            Err(error) if tried != now => {
                tracing::error!(
                    cause = causes(&error),
                    "the key ring changed and cannot be used: the earlier one stays in use"
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
