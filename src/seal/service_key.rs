//! Keys of the service itself.

use super::key_encryption_key::KEY_LEN;
use super::{Error, KeyRing, Row, Sealed};
use crate::digest;
use crate::secret::Secret;

impl KeyRing {
    /// Creates a random key of 256 bits for this purpose, and seals it. [`open`](Self::open) it with
    /// [`Row::ServiceKey`].
    pub fn new_service_key(&self, purpose: &str) -> Result<Sealed, Error> {
        let key = digest::random_secret::<KEY_LEN>()?;
        self.seal_secret(&Secret::from(key.to_vec()), &Row::ServiceKey { purpose })
    }
}
