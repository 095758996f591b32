//! The key ring and the database: whether they belong together, and the keys that the service seals for itself.

use crate::seal::{self, KeyEncryptionKeyId, KeyRing, Row};
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
    /// A service key can't be opened or created.
    #[error("the service's own keys can not be opened: the key ring does not belong to this database")]
    Seal(#[from] seal::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Refuses a ring without a key that has sealed for this database.
pub(super) async fn check(store: &Store, key_ring: &KeyRing) -> Result<(), KeyRingMismatch> {
    for id in store.key_encryption_keys().await? {
        let id = id
            .as_slice()
            .try_into()
            .map_err(|_| store::Error::Row("key_encryption_key"))?;
        let id = KeyEncryptionKeyId::from_bytes(id);
        if !key_ring.ids().any(|known| known == id) {
            return Err(KeyRingMismatch::KeyMissing(id));
        }
    }
    Ok(())
}

/// The service's random key for this purpose. The first call creates it.
pub(super) async fn service_key(store: &Store, key_ring: &KeyRing, purpose: &str) -> Result<Secret, KeyRingMismatch> {
    let fresh = key_ring.new_service_key(purpose)?;
    let kept = store.service_key(purpose, &fresh).await?;
    Ok(key_ring.open(&kept, &Row::ServiceKey { purpose })?)
}
