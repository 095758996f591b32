//! Keys of the service itself.

use super::key_encryption_key::KEY_LEN;
use super::{Error, KeyEncryptionKeyId, KeyRing, Row, Sealed};
use crate::digest;
use crate::secret::Secret;

/// The purposes of the service keys.
pub const SERVICE_KEYS: [&str; 3] = ["page-token", "client-token", "audit"];

impl KeyRing {
    /// Creates a random key of 256 bits for this purpose, and seals it with the key `sealing`. [`open`](Self::open) it
    /// with [`Row::ServiceKey`].
    pub fn new_service_key(&self, sealing: KeyEncryptionKeyId, purpose: &str) -> Result<Sealed, Error> {
        let key = digest::random_secret::<KEY_LEN>()?;
        self.seal_secret(sealing, &Secret::from(key.to_vec()), &Row::ServiceKey { purpose })
    }
}
