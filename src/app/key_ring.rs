//! Checks that the key ring belongs to the database, and opens the service's own sealed keys.

use super::{App, Error};
use crate::seal::{self, CheckValue, KeyEncryptionKeyId, KeyRing, Row};
use crate::secret::Secret;
use crate::store::{self, Store};

/// Why the key ring can't be used with the database.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingMismatch {
    /// A key that has sealed for this database is not in the ring.
    #[error(
        "the key ring lacks the key-encryption key {0}, which has sealed private keys in this database: restore the ring that \
         belongs to it"
    )]
    KeyMissing(KeyEncryptionKeyId),
    /// The ring has another key under the id of a key that has sealed for this database.
    #[error(
        "the key ring has another key under the id {0} than the key that has sealed private keys in this database: restore the \
         line {0} from a copy of the ring"
    )]
    KeyWrong(KeyEncryptionKeyId),
    /// A service key can't be opened or created.
    #[error("the service's own keys cannot be opened: the key ring does not belong to this database")]
    Seal(#[from] seal::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Refuses a ring without a key that has sealed for this database, or with another key under its id.
pub(super) async fn check(store: &Store, key_ring: &KeyRing) -> Result<(), KeyRingMismatch> {
    for (id, recorded) in store.key_encryption_keys().await? {
        compare(key_ring, id, recorded)?;
    }
    Ok(())
}

/// Records in the database that this key of the ring seals. A key must be recorded before a value that it sealed is
/// stored.
pub(super) async fn record(store: &Store, key_ring: &KeyRing, id: KeyEncryptionKeyId) -> Result<(), KeyRingMismatch> {
    let check_value = key_ring.check_value(id).ok_or(KeyRingMismatch::KeyMissing(id))?;
    let recorded = store.record_key_encryption_key(id, check_value).await?;
    compare(key_ring, id, recorded)
}

fn compare(key_ring: &KeyRing, id: KeyEncryptionKeyId, recorded: CheckValue) -> Result<(), KeyRingMismatch> {
    match key_ring.check_value(id) {
        None => Err(KeyRingMismatch::KeyMissing(id)),
        Some(check_value) if check_value != recorded => Err(KeyRingMismatch::KeyWrong(id)),
        Some(_) => Ok(()),
    }
}

/// The service's random key for this purpose. The first call creates it.
pub(super) async fn service_key(store: &Store, key_ring: &KeyRing, purpose: &str) -> Result<Secret, KeyRingMismatch> {
    let fresh = key_ring.new_service_key(purpose)?;
    let kept = store.service_key(purpose, &fresh).await?;
    let key = key_ring.open(&kept, &Row::ServiceKey { purpose })?;
    // The record follows the opening. If two replicas bring different rings to an empty database, only one ring opens the stored
    // key, and only that ring is recorded.
    record(store, key_ring, KeyEncryptionKeyId::of_sealed(&kept)?).await?;
    Ok(key)
}

impl App {
    /// Records the key that seals, before the first upload of this process.
    pub(super) async fn record_sealing_key(&self) -> Result<(), Error> {
        let app = &self.0;
        let record = || record(&app.store, &app.key_ring, app.key_ring.sealing_id());
        app.sealing_key_recorded.get_or_try_init(record).await?;
        Ok(())
    }
}

impl From<KeyRingMismatch> for Error {
    fn from(error: KeyRingMismatch) -> Self {
        match error {
            KeyRingMismatch::Store(error) => error.into(),
            error => Self::internal(error),
        }
    }
}
