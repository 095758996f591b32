//! Rotates to another key-encryption key: lets it seal, and then encrypts every data key with it. No private key is opened.

use crate::app::{App, Call, Error, Resource};
use crate::seal::{self, KeyEncryptionKeyId};
use crate::store::{KeyState, Rotation, RotationStep, SealedCursor};

use super::key_of_request;

/// The number of rows in a step.
const STEP: usize = 200;
/// Another replica continues a rotation that has stood still for so many seconds.
const STANDS_STILL_SECS: i64 = 5;
/// The number of replicas that an error names.
const NAMED_REPLICAS: usize = 10;

/// What a call of [`App::rotate_step`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RotationProgress {
    /// No rotation is in progress.
    None,
    /// Another replica works on it, or a replica does not seal with the new key yet.
    Waiting,
    /// The step is done.
    Moved,
}

impl App {
    /// Lets this key seal, and begins to rotate to it. A repeated call continues the rotation; after its end, it begins again.
    pub async fn rotate_key_ring(&self, call: &Call, key: &str) -> Result<Rotation, Error> {
        let key = key_of_request(key)?;
        let (store, actor) = (&self.0.store, call.actor());
        // Other calls and replicas change the state at the same time. Then the reason is in the new state.
        for _ in 0..3 {
            let begun = match self.may_rotate(key).await? {
                Some(rotation) => return Ok(rotation),
                None => store.begin_rotation(&actor, key).await? || store.repeat_rotation(&actor, key).await?,
            };
            if begun {
                tracing::info!(key_encryption_key_id = %key, "rotating the key ring");
                self.heartbeat().await?;
                let rotation = store.rotation().await?;
                return rotation.ok_or_else(|| Error::internal(crate::store::Error::Row("key_rotation")));
            }
        }
        Err(Error::internal(crate::store::Error::Row("key_rotation")))
    }

    /// The rotation to this key if it is in progress. `None`: it may begin.
    async fn may_rotate(&self, key: KeyEncryptionKeyId) -> Result<Option<Rotation>, Error> {
        let store = &self.0.store;
        let is_known = |known: &crate::store::KeyEncryptionKey| known.id == key && known.state != KeyState::Retired;
        if !store.key_encryption_keys().await?.iter().any(is_known) {
            return Err(Error::NotFound(Resource::KeyEncryptionKey));
        }
        match store.rotation().await? {
            Some(rotation) if rotation.ended.is_none() && rotation.key == key => return Ok(Some(rotation)),
            Some(rotation) if rotation.ended.is_none() => return Err(Error::RotationInProgress(rotation.key)),
            Some(_) | None => {}
        }
        let replicas = store.replicas().await?;
        let lacking = replicas.iter().filter(|replica| !replica.key_ids.contains(&key));
        let mut lacking: Vec<_> = lacking
            .map(|replica| format!("{} ({})", replica.host, replica.id))
            .collect();
        if lacking.is_empty() {
            return Ok(None);
        }
        if lacking.len() > NAMED_REPLICAS {
            let more = lacking.len() - NAMED_REPLICAS;
            lacking.truncate(NAMED_REPLICAS);
            lacking.push(format!("{more} more"));
        }
        Err(Error::KeyNotOnAllReplicas { key, replicas: lacking })
    }

    /// Does the next step of the rotation that is in progress. `continues`: this process did the step before.
    ///
    /// The rotation starts when all live replicas seal with the new key. So no value is sealed with the old key behind it. One
    /// replica works at a time: the statement of a step takes effect only if the rotation is where the step began.
    pub async fn rotate_step(&self, continues: bool) -> Result<RotationProgress, Error> {
        let store = &self.0.store;
        let Some(rotation) = store.rotation().await?.filter(|rotation| rotation.ended.is_none()) else {
            return Ok(RotationProgress::None);
        };
        if rotation.cursor == SealedCursor::START {
            let replicas = store.replicas().await?;
            if !replicas.iter().all(|replica| replica.sealing_ids == [rotation.key]) {
                return Ok(RotationProgress::Waiting);
            }
        } else if !continues && rotation.idle_secs < STANDS_STILL_SECS {
            return Ok(RotationProgress::Waiting);
        }
        match self.rewrap_rows(&rotation).await? {
            true => Ok(RotationProgress::Moved),
            false => Ok(RotationProgress::Waiting),
        }
    }

    async fn rewrap_rows(&self, rotation: &Rotation) -> Result<bool, Error> {
        let (store, keys) = (&self.0.store, self.0.key_ring.current().keys.clone());
        let page = store.sealed_rows_of_all_accounts(&rotation.cursor, STEP).await?;
        let passed = page.rows.len();
        let (mut rewrapped, mut failures) = (Vec::new(), Vec::new());
        for row in page.rows {
            if KeyEncryptionKeyId::of_sealed(&row.sealed).is_ok_and(|id| id == rotation.key) {
                continue;
            }
            match keys.rewrap(rotation.key, &row.sealed, &row.row()) {
                Ok(sealed) => rewrapped.push((row, sealed)),
                Err(error @ (seal::Error::Unreadable | seal::Error::KeyMissing(_))) => {
                    let name = row.cursor().to_string();
                    tracing::error!(row = name, %error, "a data key does not open: the rotation leaves it as it is");
                    failures.push(name);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let step = RotationStep {
            key: rotation.key,
            from: &rotation.cursor,
            next: page.next.as_ref(),
            passed,
            rewrapped: &rewrapped,
            failures: &failures,
        };
        let moved = store.rewrap_of_all_accounts(&step).await?;
        if moved && page.next.is_none() {
            let passed = rotation.passed + passed as i64;
            let failed = rotation.failed + failures.len() as i64;
            tracing::info!(key_encryption_key_id = %rotation.key, passed, failed, "rotated the key ring");
        }
        Ok(moved)
    }
}
