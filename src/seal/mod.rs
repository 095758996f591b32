//! Envelope encryption of private keys and of the service's own keys.
//!
//! Each secret is encrypted with a data key of its own, the payload. The data key is encrypted with a key-encryption key
//! of the key ring, the wrap. [`KeyRing::rewrap`] replaces the wrap and copies the payload.
//!
//! A sealed secret has these parts:
//!
//! | octets | content |
//! | --- | --- |
//! | 1 | format: 1 |
//! | 8 | id of the key-encryption key |
//! | 12 + 32 + 16 | the wrap: nonce, encrypted data key, tag |
//! | 12 + n + 16 | the payload: nonce, encrypted secret, tag |
//!
//! Both are encrypted with AES-256-GCM (NIST SP 800-38D). Their associated data name the [`Row`] that will store the
//! secret, so that a sealed secret opens for no other row:
//!
//! | part | associated data |
//! | --- | --- |
//! | wrap | `wrap`, format, id of the key-encryption key, row |
//! | payload | `payload`, format, row |
//!
//! A field of the associated data is its length in 4 octets, big-endian, and its content.
//!
//! Nonces are random. A data key encrypts one payload. A key-encryption key must encrypt at most 2^32 data keys
//! (SP 800-38D 8.3).

mod envelope;
mod key_encryption_key;
mod key_ring;
mod provider;
mod row;
mod sealed_pair;
mod service_key;

pub use envelope::{Error, Sealed, decrypt, encrypt};
pub use key_encryption_key::{CheckValue, KeyEncryptionKeyId};
pub use key_ring::{KeyRing, KeyRingError};
pub use provider::{Pkcs11Error, Provider, ProviderError, TransitError};
pub use row::Row;
pub use sealed_pair::{SealedKey, SealedPair};
pub use service_key::SERVICE_KEYS;
