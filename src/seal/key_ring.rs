//! The key ring: the file that holds the key-encryption keys.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key_encryption_key::KeyEncryptionKey;
use super::provider::{self, KeyText};
use super::{CheckValue, KeyEncryptionKeyId, Provider, ProviderError};
use crate::config::KeyProviders;
use crate::digest;
use crate::secret::{Existing, PrivateFileError, Secret, read_private};

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
    /// The file can't be read, other users may read it, or it is not a regular file.
    #[error("the key ring cannot be used")]
    Unreadable(#[source] PrivateFileError),
    /// A line is not an id with 16 hex digits and a key.
    #[error(
        "line {0} of the key ring is not an id of 16 hex digits, a space and a key: 64 hex digits, pkcs11:LABEL:HEX or \
         transit:CIPHERTEXT"
    )]
    Line(usize),
    /// The provider of a line can't open its key.
    #[error("the key {id} of the key ring cannot be opened")]
    Open {
        /// The id of the key.
        id: KeyEncryptionKeyId,
        /// The error of the provider.
        #[source]
        error: ProviderError,
    },
    /// The provider can't wrap a new key.
    #[error("a new key cannot be made")]
    Wrap(#[source] ProviderError),
    /// Two lines have the same id.
    #[error("the key ring has the id {0} twice")]
    Twice(KeyEncryptionKeyId),
    /// No line has a key.
    #[error("the key ring holds no key")]
    Empty,
    /// The file can't be written.
    #[error("the key ring {0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] digest::Error),
}

/// A line of the file.
struct Line {
    id: KeyEncryptionKeyId,
    key: KeyText,
}

impl Line {
    fn parse(text: &[u8]) -> Option<Self> {
        let (id, key) = text.split_at_checked(2 * KeyEncryptionKeyId::LEN)?;
        Some(Self {
            id: KeyEncryptionKeyId::parse(std::str::from_utf8(id).ok()?)?,
            key: KeyText::parse(key.strip_prefix(b" ")?)?,
        })
    }

    fn to_text(&self) -> Zeroizing<String> {
        let (id, key) = (self.id.to_string(), self.key.to_text());
        // Room for the whole line: no reallocation leaves a copy in memory.
        let mut line = Zeroizing::new(String::with_capacity(id.len() + key.len() + 2));
        for part in [&id, " ", &key, "\n"] {
            line.push_str(part);
        }
        line
    }
}

impl KeyRing {
    /// Reads the ring from this file, and lets the providers open its keys. [`read_private`] says who may have access to the
    /// file.
    pub async fn read(path: &Path, providers: &KeyProviders) -> Result<Self, KeyRingError> {
        Self::of_text(&read_file(path)?, providers).await
    }

    /// The ring with the lines of this text, which the providers open.
    pub async fn of_text(text: &Secret, providers: &KeyProviders) -> Result<Self, KeyRingError> {
        Self::of_lines(parse(text)?, providers).await
    }

    async fn of_lines(lines: Vec<Line>, providers: &KeyProviders) -> Result<Self, KeyRingError> {
        let mut keys = Vec::with_capacity(lines.len());
        for Line { id, key } in lines {
            let opened = provider::open(providers, key).await;
            let key = opened.map_err(|error| KeyRingError::Open { id, error })?;
            keys.push(KeyEncryptionKey::new(id, key));
        }
        Ok(Self(keys))
    }

    /// Creates a ring with one random key, and writes it to a new file with mode 0600.
    pub fn create(path: &Path) -> Result<Self, KeyRingError> {
        let (id, key) = (KeyEncryptionKeyId::random()?, digest::random_secret()?);
        let line = Line {
            id,
            key: KeyText::Plain(key.clone()),
        };
        let text = format!("{HEADER}{}", *line.to_text());
        let failed = |error| KeyRingError::Write(path.to_owned(), error);
        Secret::from(text).write(path, Existing::Keep).map_err(failed)?;
        Ok(Self(vec![KeyEncryptionKey::new(id, key)]))
    }

    /// Adds a random key, wrapped by this provider, to the end of the file, and returns its id. After a crash, the file is complete or
    /// unchanged.
    pub async fn add(
        path: &Path,
        providers: &KeyProviders,
        provider: &Provider,
    ) -> Result<KeyEncryptionKeyId, KeyRingError> {
        let id = KeyEncryptionKeyId::random()?;
        let key = provider::random(providers, provider)
            .await
            .map_err(KeyRingError::Wrap)?;
        let line = Line { id, key }.to_text();
        let text = read_file(path)?;
        // Room for the whole file: no reallocation leaves a copy in memory.
        let mut file = Zeroizing::new(Vec::with_capacity(text.expose().len() + 1 + line.len()));
        file.extend_from_slice(text.expose());
        if !file.is_empty() && !file.ends_with(b"\n") {
            file.push(b'\n');
        }
        file.extend_from_slice(line.as_bytes());
        let file = Secret::from(std::mem::take(&mut *file));
        // The service would refuse the file.
        parse(&file)?;
        let failed = |error| KeyRingError::Write(path.to_owned(), error);
        file.write(path, Existing::Replace).map_err(failed)?;
        Ok(id)
    }

    /// A ring of these keys, at least one.
    #[cfg(test)]
    pub(super) fn of_keys(keys: Vec<KeyEncryptionKey>) -> Self {
        Self(keys)
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

fn read_file(path: &Path) -> Result<Secret, KeyRingError> {
    read_private(path, MAX_FILE_LEN).map_err(|error| match error {
        PrivateFileError::File(_, cause) if cause.kind() == io::ErrorKind::NotFound => {
            KeyRingError::Absent(path.to_owned())
        }
        error => KeyRingError::Unreadable(error),
    })
}

/// The lines with keys. There is at least one.
fn parse(text: &Secret) -> Result<Vec<Line>, KeyRingError> {
    let mut lines: Vec<Line> = Vec::new();
    for (number, line) in text.expose().split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = Line::parse(line).ok_or(KeyRingError::Line(number + 1))?;
        if lines.iter().any(|other| other.id == line.id) {
            return Err(KeyRingError::Twice(line.id));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        Err(KeyRingError::Empty)
    } else {
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Duration;

    use super::*;
    use crate::secret::Exposed;

    async fn read_ring(path: &Path) -> Result<KeyRing, KeyRingError> {
        KeyRing::read(path, &KeyProviders::default()).await
    }

    fn parse(text: &str) -> Result<Vec<Line>, KeyRingError> {
        super::parse(&Secret::from(text.to_owned()))
    }

    #[tokio::test]
    async fn a_created_ring_is_read_again_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        let created = KeyRing::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = read_ring(&path).await.unwrap();
        assert_eq!(read.ids().collect::<Vec<_>>(), created.ids().collect::<Vec<_>>());
        assert!(matches!(KeyRing::create(&path), Err(KeyRingError::Write(..))));
        assert_eq!(
            read_ring(&path).await.unwrap().ids().collect::<Vec<_>>(),
            created.ids().collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn an_added_key_follows_the_other_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        let first = KeyRing::create(&path).unwrap().first_id();
        let before = std::fs::read_to_string(&path).unwrap();
        // A last line without its end.
        let cut = Secret::from(before.trim_end().to_owned());
        cut.write(&path, Existing::Replace).unwrap();
        let added = KeyRing::add(&path, &KeyProviders::default(), &Provider::File)
            .await
            .unwrap();
        assert_eq!(
            read_ring(&path).await.unwrap().ids().collect::<Vec<_>>(),
            [first, added]
        );
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(&before));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_ring_that_others_may_read_and_a_pipe_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        KeyRing::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(
            read_ring(&path).await,
            Err(KeyRingError::Unreadable(PrivateFileError::Exposed(Exposed {
                mode: 0o604,
                ..
            })))
        ));
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let read = tokio::time::timeout(Duration::from_secs(5), read_ring(&path))
            .await
            .unwrap();
        assert!(matches!(
            read,
            Err(KeyRingError::Unreadable(PrivateFileError::NotRegular(..)))
        ));
    }

    #[tokio::test]
    async fn a_ring_of_256_kib_is_read_and_a_larger_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-ring");
        KeyRing::create(&path).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        text.resize(256 * 1024, b'\n');
        std::fs::write(&path, &text).unwrap();
        read_ring(&path).await.unwrap();
        text.push(b'\n');
        std::fs::write(&path, &text).unwrap();
        assert!(matches!(
            read_ring(&path).await,
            Err(KeyRingError::Unreadable(PrivateFileError::TooLarge(..)))
        ));
    }

    #[tokio::test]
    async fn an_absent_ring_and_a_broken_one_have_different_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            read_ring(&dir.path().join("none")).await,
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

    #[tokio::test]
    async fn debug_shows_ids_only() {
        let lines = parse(&format!("0011223344556677 {}\n", "5a".repeat(32))).unwrap();
        let ring = KeyRing::of_lines(lines, &KeyProviders::default()).await.unwrap();
        assert_eq!(
            format!("{ring:?}"),
            "[KeyEncryptionKeyId([0, 17, 34, 51, 68, 85, 102, 119])]"
        );
    }

    #[tokio::test]
    async fn a_line_whose_provider_is_not_configured_is_refused_with_the_settings() {
        for (line, setting) in [
            ("pkcs11:label:00", "pkcs11_module"),
            ("transit:vault:v1:AA==", "transit_url"),
        ] {
            let lines = parse(&format!("0011223344556677 {line}\n")).unwrap();
            let error = KeyRing::of_lines(lines, &KeyProviders::default()).await.unwrap_err();
            let shown = crate::telemetry::causes(&error);
            assert!(shown.contains("0011223344556677") && shown.contains(setting), "{shown}");
        }
    }
}
