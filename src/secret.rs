//! Secret octets, and the files that contain them.

mod file;

pub use file::{Exposed, PrivateFileError, check_private_directory, quoted, read_private, read_private_or_pipe};

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Secret octets: a private key in any form, or the secret of an access key. They are wiped when they are dropped. A secret
/// has no `Display`, and its `Debug` is `<redacted>`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The octets. The caller must not copy them to memory that is not wiped.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The octets, for a message that leaves the process. Whoever takes them wipes them.
    pub fn into_octets(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// The text, for a message that leaves the process. Whoever takes it wipes it. A secret that is not UTF-8 has no text.
    pub fn into_text(self) -> String {
        String::from_utf8(self.into_octets()).unwrap_or_default()
    }
}

/// The action if the file exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// Keep the file. The write fails with `AlreadyExists`.
    Keep,
    /// Replace the file. The new file has the same owner and group. A file of root that its group may read stays so.
    Replace,
}

impl Secret {
    /// Writes the secret to a file with mode 0600, or 0640 if the group, and nobody else, could read root's file that it replaces. After an error or a crash, the file is complete or unchanged. An error leaves no other
    /// file with the secret.
    pub fn write(&self, path: &Path, existing: Existing) -> io::Result<()> {
        // The file has a temporary name until it is complete and on disk.
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        let written = self.write_as(file, &partial, path, existing);
        if written.is_err() || existing == Existing::Keep {
            let removed = std::fs::remove_file(&partial);
            written.and(removed)?;
        }
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.map_or_else(|| PathBuf::from("."), Path::to_owned))?.sync_all()
    }

    fn write_as(&self, mut file: File, partial: &Path, path: &Path, existing: Existing) -> io::Result<()> {
        file.write_all(&self.0)?;
        if existing == Existing::Replace {
            keep_owner(&file, path)?;
        }
        file.sync_all()?;
        match existing {
            Existing::Replace => std::fs::rename(partial, path),
            // A hard link, unlike a rename, replaces nothing.
            Existing::Keep => std::fs::hard_link(partial, path),
        }
    }
}

/// Gives a new file to the owner of the file at this path, if there is one. An administrator who changes a file of the service does
/// not take it away from the service.
fn keep_owner(new: &File, path: &Path) -> io::Result<()> {
    let old = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let current = new.metadata()?;
    if (current.uid(), current.gid()) != (old.uid(), old.gid()) {
        std::os::unix::fs::fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    match old.uid() == 0 && old.mode() & 0o047 == 0o040 {
        true => new.set_permissions(Permissions::from_mode(old.mode() & 0o640)),
        false => Ok(()),
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for Secret {
    /// Takes over the memory of the string, without a copy.
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_never_shown() {
        assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "<redacted>");
    }

    #[test]
    fn is_written_for_its_owner_alone_and_replaces_only_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let [first, second] = ["first", "second"].map(|text| Secret::from(text.to_owned()));
        first.write(&path, Existing::Keep).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            second.write(&path, Existing::Keep).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        second.write(&path, Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // As root: the group that reads root's file can read the new one.
        if std::fs::metadata(&path).unwrap().uid() == 0 {
            std::os::unix::fs::chown(&path, None, Some(5)).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            first.write(&path, Existing::Replace).unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!((metadata.gid(), metadata.mode() & 0o777), (5, 0o640));
        }
        // Nothing is left of a write that failed.
        let directory = dir.path().join("directory");
        std::fs::create_dir(&directory).unwrap();
        second.write(&directory, Existing::Replace).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
