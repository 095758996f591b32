//! Retires a key-encryption key that seals nothing any more. Then the key rings may lack it.

use std::time::Duration;

use crate::app::{App, Call, Error, Resource};
use crate::seal::KeyEncryptionKeyId;
use crate::store::{self, KeyState, SealedCursor};
use crate::telemetry::causes;

use super::key_of_request;

/// The number of values in a step of the search.
const STEP: usize = 10_000;
/// How long running transactions may take.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

impl App {
    /// Retires a key that has sealed none of the stored values. The search completes even if the caller leaves.
    pub async fn retire_key_encryption_key(&self, call: &Call, key: &str) -> Result<(), Error> {
        let key = key_of_request(key)?;
        let known = self.0.store.key_encryption_keys().await?;
        match known.iter().find(|known| known.id == key).map(|known| known.state) {
            None => return Err(Error::NotFound(Resource::KeyEncryptionKey)),
            // A repeated call.
            Some(KeyState::Retired) => return Ok(()),
            Some(KeyState::Prepared | KeyState::Sealing | KeyState::Opening) => {}
        }
        let (app, call) = (self.clone(), call.clone());
        let retiring = async move { app.retire(&call, key).await };
        self.0.storing.spawn(retiring).await.map_err(Error::internal)?
    }

    async fn retire(&self, call: &Call, key: KeyEncryptionKeyId) -> Result<(), Error> {
        let store = &self.0.store;
        if !store.close_key(key).await? {
            return Err(Error::KeyInUse(key));
        }
        let retired = match self.seals_nothing(key).await {
            Ok(true) => store.retire_key(&call.actor(), key).await.map_err(Error::from),
            Ok(false) => Ok(false),
            Err(error) => Err(error),
        };
        match retired {
            Ok(true) => {
                tracing::info!(key_encryption_key_id = %key, "retired a key-encryption key");
                Ok(())
            }
            refused => {
                if let Err(error) = store.reopen_key(key).await {
                    tracing::warn!(
                        cause = causes(&error),
                        "a key-encryption key stays closed for new values"
                    );
                }
                refused.and(Err(Error::KeyInUse(key)))
            }
        }
    }

    /// Whether no stored value is sealed by a key that is closed.
    async fn seals_nothing(&self, key: KeyEncryptionKeyId) -> Result<bool, Error> {
        let store = &self.0.store;
        // A transaction that began before the key was closed may still store a value.
        let running = store.running_transactions().await?;
        let ended = tokio::time::timeout(LONGEST_TRANSACTION, async {
            while !store.have_ended(&running).await? {
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<_, store::Error>(())
        });
        match ended.await {
            Ok(ended) => ended?,
            Err(_) => return Err(store::Error::busy().into()),
        }
        let mut next = Some(SealedCursor::START);
        while let Some(cursor) = next {
            let (found, after) = store.sealed_by_of_all_accounts(key, &cursor, STEP).await?;
            if found > 0 {
                return Ok(false);
            }
            next = after;
        }
        Ok(true)
    }
}
