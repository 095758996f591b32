//! Why a key ring can't be used with the database.

use crate::app::Error;
use crate::seal::{self, KeyEncryptionKeyId};
use crate::store;

/// Why the key ring can't be used with the database.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingMismatch {
    /// The ring lacks a key that is not retired.
    #[error(
        "the key ring lacks the key-encryption key {0}, with which this database's secrets are sealed: restore the ring that \
         belongs to it"
    )]
    KeyMissing(KeyEncryptionKeyId),
    /// The ring has another key under the id of a key of the database.
    #[error(
        "the key ring has another key under the id {0} than the key ring that this database knows: restore the line {0} from a \
         copy of the ring"
    )]
    KeyWrong(KeyEncryptionKeyId),
    /// No key seals, although a start makes one.
    #[error(
        "the database names no key-encryption key that seals: certkeep has never sealed anything in it, or the table \
         key_encryption_key was changed by hand"
    )]
    NoSealingKey,
    /// A service key can't be opened or created.
    #[error("the service's own keys cannot be opened: the key ring does not belong to this database")]
    Seal(#[from] seal::Error),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] crate::digest::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<KeyRingMismatch> for Error {
    fn from(error: KeyRingMismatch) -> Self {
        match error {
            KeyRingMismatch::Store(error) => error.into(),
            error => Self::internal(error),
        }
    }
}
