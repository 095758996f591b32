//! The key ring: the file that holds the key-encryption keys.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key_encryption_key::KeyEncryptionKey;
use super::{CheckValue, KeyEncryptionKeyId};
use crate::digest;
use crate::secret::{Existing, Secret};

const HEADER: &str = "# certkeep key ring. Whoever has it and the database has every private key: keep it secret, and keep a copy\n\
                      # apart from the database's backups. A line is an id and a key. The database records which key seals.\n";
/// The limit of the file: some thousand keys. A ring has a few.
const MAX_FILE_LEN: u64 = 256 * 1024;

/// At least one key-encryption key. Every key opens what it sealed. The database records which key seals.
pub struct KeyRing(Vec<KeyEncryptionKey>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// Why the key ring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The file does not exist.
    #[error(
        "there is no key ring at {0}: copy it from a backup or another replica; `certkeep bootstrap` makes the first one"
    )]
    Absent(PathBuf),
    /// Other users may read the file.
    #[error("the key ring {path} has mode {mode:03o}, others may read it: run `chmod 600` on it")]
    Exposed {
        /// The ring's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is larger than any key ring.
    #[error("the key ring {0} is larger than 256 KiB")]
    TooLarge(PathBuf),
    /// A line is not an id with 16 hex digits and a key with 64.
    #[error("line {0} of the key ring is not an id of 16 hex digits, a space and a key of 64 hex digits")]
    Line(usize),
    /// Two lines have the same id.
    #[error("the key ring has the id {0} twice")]
    Twice(KeyEncryptionKeyId),
    /// No line has a key.
    #[error("the key ring holds no key")]
    Empty,
    /// The file can't be read or written.
    #[error("the key ring {0} cannot be read or written")]
    File(PathBuf, #[source] io::Error),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
}

impl KeyRing {
    /// Reads the ring from this file. Only its owner may have access to the file (mode 0600 or less).
    pub fn read(path: &Path) -> Result<Self, KeyRingError> {
        Self::parse(&read_file(path)?)
    }

    /// Adds a random key to the end of the file, and returns its id. After a crash, the file is complete or unchanged.
    pub fn add(path: &Path) -> Result<KeyEncryptionKeyId, KeyRingError> {
        let text = read_file(path)?;
        let ring = Self::parse(&text)?;
        let key = KeyEncryptionKey::random()?;
        if ring.has(key.id()) {
            // A chance of 1 in 2^64.
            return Err(KeyRingError::Twice(key.id()));
        }
        let line = key.to_line();
        // Room for the whole file: no reallocation leaves a copy in memory.
        let mut file = Vec::with_capacity(text.expose().len() + 1 + line.len());
        file.extend_from_slice(text.expose());
        if !file.is_empty() && !file.ends_with(b"\n") {
            file.push(b'\n');
        }
        file.extend_from_slice(line.as_bytes());
        let failed = |error| KeyRingError::File(path.to_owned(), error);
        Secret::from(file).write(path, Existing::Replace).map_err(failed)?;
        Ok(key.id())
    }

    /// Creates a ring with one random key, and writes it to a new file with mode 0600.
    pub fn create(path: &Path) -> Result<Self, KeyRingError> {
        let failed = |error| KeyRingError::File(path.to_owned(), error);
        let key = KeyEncryptionKey::random()?;
        let text = format!("{HEADER}{}", *key.to_line());
        Secret::from(text).write(path, Existing::Keep).map_err(failed)?;
        Ok(Self(vec![key]))
    }

    pub(super) fn parse(text: &Secret) -> Result<Self, KeyRingError> {
        let mut keys: Vec<KeyEncryptionKey> = Vec::new();
        for (number, line) in text.expose().split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = KeyEncryptionKey::parse(line).ok_or(KeyRingError::Line(number + 1))?;
            if keys.iter().any(|other| other.id() == key.id()) {
                return Err(KeyRingError::Twice(key.id()));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            Err(KeyRingError::Empty)
        } else {
            Ok(Self(keys))
        }
    }

    /// The ids of all keys, in the order of the file.
    pub fn ids(&self) -> impl Iterator<Item = KeyEncryptionKeyId> {
        self.0.iter().map(KeyEncryptionKey::id)
    }

    /// The id of the first key. It seals in a database in which no key has sealed yet.
    pub fn first_id(&self) -> KeyEncryptionKeyId {
        // `parse` and `create` make no empty ring.
        self.0[0].id()
    }

    /// Whether the ring has the key with this id.
    pub fn has(&self, id: KeyEncryptionKeyId) -> bool {
        self.ids().any(|other| other == id)
    }

    /// The check value of the key with this id; `None` if the ring does not have the key.
    pub fn check_value(&self, id: KeyEncryptionKeyId) -> Option<CheckValue> {
        self.find(id).map(KeyEncryptionKey::check_value)
    }

    pub(super) fn find(&self, id: KeyEncryptionKeyId) -> Option<&KeyEncryptionKey> {
        self.0.iter().find(|key| key.id() == id)
    }
}

/// The content of a file that only its owner may access.
fn read_file(path: &Path) -> Result<Secret, KeyRingError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyRingError::Absent(path.to_owned()),
        _ => KeyRingError::File(path.to_owned(), error),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let len = metadata.len();
    if len > MAX_FILE_LEN {
        return Err(KeyRingError::TooLarge(path.to_owned()));
    }
    // Room for the whole file: no reallocation leaves a copy in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(len as usize + 64));
    file.take(len).read_to_end(&mut text).map_err(failed)?;
    Ok(Secret::from(std::mem::take(&mut *text)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(text: &str) -> Result<KeyRing, KeyRingError> {
        KeyRing::parse(&Secret::from(text.to_owned()))
    }

    #[test]
    fn a_created_ring_is_read_again_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        let created = KeyRing::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = KeyRing::read(&path).unwrap();
        assert_eq!(read.ids().collect::<Vec<_>>(), created.ids().collect::<Vec<_>>());
        assert!(matches!(KeyRing::create(&path), Err(KeyRingError::File(..))));
        assert_eq!(
            KeyRing::read(&path).unwrap().ids().collect::<Vec<_>>(),
            created.ids().collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_added_key_follows_the_other_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        let first = KeyRing::create(&path).unwrap().first_id();
        let before = std::fs::read_to_string(&path).unwrap();
        // A last line without its end.
        let cut = Secret::from(before.trim_end().to_owned());
        cut.write(&path, Existing::Replace).unwrap();
        let added = KeyRing::add(&path).unwrap();
        assert_eq!(KeyRing::read(&path).unwrap().ids().collect::<Vec<_>>(), [first, added]);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(&before));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_ring_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        KeyRing::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            KeyRing::read(&path),
            Err(KeyRingError::Exposed { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_ring_of_256_kib_is_read_and_a_larger_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        KeyRing::create(&path).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        text.resize(256 * 1024, b'\n');
        std::fs::write(&path, &text).unwrap();
        KeyRing::read(&path).unwrap();
        text.push(b'\n');
        std::fs::write(&path, &text).unwrap();
        assert!(matches!(KeyRing::read(&path), Err(KeyRingError::TooLarge(_))));
    }

    #[test]
    fn an_absent_ring_and_a_broken_one_have_different_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            KeyRing::read(&dir.path().join("none")),
            Err(KeyRingError::Absent(_))
        ));
        let id = "0011223344556677";
        let key = "00".repeat(32);
        assert!(matches!(parse(""), Err(KeyRingError::Empty)));
        assert!(matches!(parse("# only this\n"), Err(KeyRingError::Empty)));
        assert!(matches!(
            parse(&format!("{id} {key}\n{id}\n")),
            Err(KeyRingError::Line(2))
        ));
        for line in [
            format!("{id} {key}0"),
            format!("{id} 0x{key}"),
            format!("0x{id} {key}"),
            format!("0x{} {key}", &id[2..]),
        ] {
            assert!(matches!(parse(&format!("{line}\n")), Err(KeyRingError::Line(1))));
        }
        assert!(matches!(
            parse(&format!("{id} {key}\n{id} {key}\n")),
            Err(KeyRingError::Twice(_))
        ));
    }

    #[test]
    fn debug_shows_ids_only() {
        let key = "5a".repeat(32);
        let ring = parse(&format!("0011223344556677 {key}\n")).unwrap();
        assert!(!format!("{ring:?}").contains("5a5a"));
    }
}
