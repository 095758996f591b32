//! A key-encryption key: it encrypts data keys.

use std::fmt;

use zeroize::Zeroizing;

use crate::digest;

/// The length of AES-256 keys, in octets.
pub(super) const KEY_LEN: usize = 32;

/// The id of a key-encryption key: 64 random bits, written in lower-case hex. It is no secret.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyEncryptionKeyId([u8; Self::LEN]);

impl KeyEncryptionKeyId {
    pub(super) const LEN: usize = 8;

    /// The id with these octets.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// A new random id.
    pub(super) fn random() -> Result<Self, digest::Error> {
        Ok(Self(digest::random()?))
    }

    /// Reads 16 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; Self::LEN];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }

    /// The id's octets.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for KeyEncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A value by which the database recognizes a key-encryption key. It is no secret: the key has 256 random bits, and
/// the value is a MAC under another key that HMAC derives from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckValue([u8; Self::LEN]);

impl CheckValue {
    const LEN: usize = 32;

    /// The value with these octets.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The value's octets.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// A key and its id. The key is wiped when it is dropped.
pub(super) struct KeyEncryptionKey {
    id: KeyEncryptionKeyId,
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl KeyEncryptionKey {
    pub(super) fn new(id: KeyEncryptionKeyId, key: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self { id, key }
    }

    pub(super) fn id(&self) -> KeyEncryptionKeyId {
        self.id
    }

    /// The check value: HMAC-SHA256 of the id, under a key that HMAC-SHA256 derives from this one.
    pub(super) fn check_value(&self) -> CheckValue {
        let derived = Zeroizing::new(digest::hmac_sha256(self.key.as_slice(), b"certkeep check value"));
        CheckValue(digest::hmac_sha256(derived.as_slice(), &self.id.0))
    }

    /// The key. The caller must not copy it anywhere that is not wiped.
    pub(super) fn expose(&self) -> &[u8] {
        self.key.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_value(id: &str, key: &str) -> String {
        let mut octets = Zeroizing::new([0; KEY_LEN]);
        hex::decode_to_slice(key, octets.as_mut_slice()).unwrap();
        let key = KeyEncryptionKey::new(KeyEncryptionKeyId::parse(id).unwrap(), octets);
        hex::encode(key.check_value().as_bytes())
    }

    /// Computed with Python's hmac module. The database stores these values.
    #[test]
    fn the_check_value_is_fixed_and_tells_keys_and_ids_apart() {
        let (id, key) = ("0011223344556677", "5a".repeat(32));
        let expected = "44614c457497624b786c068bfb4b5fb8a7a7b2398980355e7346c04cd04ba93a";
        assert_eq!(check_value(id, &key), expected);
        assert_ne!(check_value(id, &format!("5b{}", &key[2..])), expected);
        assert_ne!(check_value("0011223344556678", &key), expected);
        assert_ne!(key, expected);
    }
}
