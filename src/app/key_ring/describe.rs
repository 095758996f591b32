//! Describes the key ring: the keys, the live replicas and the rotation.

use crate::app::{App, Error};
use crate::store::{KeyEncryptionKey, Replica, Rotation};

/// The key ring.
#[derive(Debug)]
pub struct DescribedKeyRing {
    /// The keys that the database knows: the sealing key, then the others, the newest first.
    pub keys: Vec<KeyEncryptionKey>,
    /// The live replicas, oldest first.
    pub replicas: Vec<Replica>,
    /// The rotation that is in progress, or else the last one.
    pub rotation: Option<Rotation>,
}

impl App {
    /// Describes the key ring.
    pub async fn describe_key_ring(&self) -> Result<DescribedKeyRing, Error> {
        let store = &self.0.store;
        Ok(DescribedKeyRing {
            keys: store.key_encryption_keys().await?,
            replicas: store.replicas().await?,
            rotation: store.rotation().await?,
        })
    }
}
