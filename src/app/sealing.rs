//! What each sealed secret is bound to, and the keys that the service keeps for itself.

use uuid::Uuid;

use crate::digest;
use crate::inventory::CertificateId;
use crate::seal::{self, KeyEncryptionKeyId, KeyRing};
use crate::secret::Secret;
use crate::store::{self, Store};

/// Why the key ring can't be used with the database.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// What the database holds was sealed with a key that the ring lacks.
    #[error(
        "the key ring lacks the key-encryption key {0}, which has sealed private keys in this database: restore the ring that \
         belongs to it"
    )]
    KeyMissing(KeyEncryptionKeyId),
    /// A service key can't be opened or made.
    #[error("the service's own keys can not be opened: the key ring does not belong to this database")]
    Seal(#[from] seal::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The row of a private key. A secret sealed for it opens for no other.
pub(super) struct PrivateKeyRow {
    pub(super) id: CertificateId,
    pub(super) key_id: Uuid,
    pub(super) spki_sha256: [u8; 32],
}

impl PrivateKeyRow {
    pub(super) fn seal(&self, key_ring: &KeyRing, private_key: &Secret) -> Result<Vec<u8>, seal::Error> {
        let account = self.id.account.as_i64().to_be_bytes();
        let created = self.id.created.millis().to_be_bytes();
        let random = self.id.random.to_be_bytes();
        let certificate = [created, random].concat();
        key_ring.seal(
            private_key,
            &[
                b"private-key",
                &account,
                &certificate,
                self.key_id.as_bytes(),
                &self.spki_sha256,
            ],
        )
    }
}

/// Refuses a ring that lacks a key which has sealed.
pub(super) async fn check_ring(store: &Store, key_ring: &KeyRing) -> Result<(), SealingError> {
    for id in store.key_encryption_keys().await? {
        let id = id
            .as_slice()
            .try_into()
            .map_err(|_| store::Error::Row("key_encryption_key"))?;
        let id = KeyEncryptionKeyId::from_bytes(id);
        if !key_ring.ids().any(|known| known == id) {
            return Err(SealingError::KeyMissing(id));
        }
    }
    Ok(())
}

/// The service's random key for this purpose, made when it is first asked for.
pub(super) async fn service_key(store: &Store, key_ring: &KeyRing, purpose: &str) -> Result<Secret, SealingError> {
    let fields: &[&[u8]] = &[b"service-key", purpose.as_bytes()];
    let fresh = digest::random_secret::<32>().map_err(seal::Error::from)?;
    let sealed = key_ring.seal(&Secret::from(fresh.to_vec()), fields)?;
    let kept = store.service_key(purpose, &sealed).await?;
    Ok(key_ring.open(&kept, fields)?)
}
