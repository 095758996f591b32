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
    pub(super) fn random() -> Result<Self, digest::Error> {
        Ok(Self {
            id: KeyEncryptionKeyId(digest::random()?),
            key: digest::random_secret()?,
        })
    }

    /// Reads a line of a key ring: the id, a space and the key, in hex.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let (id, key) = line.split_at_checked(2 * KeyEncryptionKeyId::LEN)?;
        let mut parsed = Self {
            id: KeyEncryptionKeyId([0; KeyEncryptionKeyId::LEN]),
            key: Zeroizing::new([0; KEY_LEN]),
        };
        hex::decode_to_slice(id, &mut parsed.id.0).ok()?;
        // const-hex skips a leading 0x: the length refuses one.
        let key = key.strip_prefix(b" ").filter(|key| key.len() == 2 * KEY_LEN)?;
        hex::decode_to_slice(key, parsed.key.as_mut_slice()).ok()?;
        Some(parsed)
    }

    /// The line of a key ring.
    pub(super) fn to_line(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(hex::encode(self.key.as_slice()));
        Zeroizing::new(format!("{} {}\n", self.id, *key))
    }

    pub(super) fn id(&self) -> KeyEncryptionKeyId {
        self.id
    }

    /// The key. The caller must not copy it anywhere that is not wiped.
    pub(super) fn expose(&self) -> &[u8] {
        self.key.as_slice()
    }
}
