//! The files of a folder and their contents.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::super::file::{MAX_FILE_LEN, read_all};
use crate::app::{Contents, FileFormat, FileFormatError, FormatCause, PemFile};
use crate::digest;
use crate::secret::Secret;

/// A file with a certificate or a private key. The text is read again before the upload: a folder may be larger than memory.
pub(super) struct FoundFile {
    /// Relative to the folder.
    pub(super) path: PathBuf,
    /// SHA-256 of the file.
    pub(super) hash: [u8; 32],
    pub(super) contents: Contents,
}

/// The contents of a folder and its subfolders.
#[derive(Default)]
pub(super) struct Folder {
    /// Sorted by path.
    pub(super) files: Vec<FoundFile>,
    /// The files that are not taken.
    pub(super) others: Vec<(PathBuf, NotTaken)>,
}

/// Why a file is not taken.
pub(super) enum NotTaken {
    /// The file cannot be read. The cause.
    Unreadable(String),
    /// The file is too large, and is of this format by its beginning.
    TooLarge(FileFormat),
    /// The contents cannot be made PEM, or are neither a certificate nor a private key.
    Format(FileFormatError),
    /// There is no regular file at this path. What there is.
    NoFile(&'static str),
}

impl Folder {
    /// Reads every regular file in the folder and its subfolders. Symbolic links to files are followed. Links to directories are not:
    /// they could form a circle. Fails if the folder itself is unreadable. Ends early after `stop`. `password` opens encrypted files.
    pub(super) fn read(root: &Path, password: Option<&Secret>, stop: &CancellationToken) -> io::Result<Self> {
        let mut folder = Self::default();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            let entries = match fs::read_dir(root.join(&directory)) {
                Ok(entries) => entries,
                Err(error) if directory.as_os_str().is_empty() => return Err(error),
                Err(error) => {
                    folder.others.push((directory, NotTaken::Unreadable(error.to_string())));
                    continue;
                }
            };
            for entry in entries {
                if stop.is_cancelled() {
                    return Ok(folder);
                }
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        let cause = NotTaken::Unreadable(error.to_string());
                        folder.others.push((directory.clone(), cause));
                        break;
                    }
                };
                let path = directory.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(path),
                    Ok(kind) if kind.is_file() || kind.is_symlink() => folder.add(root, path, password),
                    Ok(_) => folder.others.push((path, NotTaken::NoFile("not a regular file"))),
                    Err(error) => folder.others.push((path, NotTaken::Unreadable(error.to_string()))),
                }
            }
        }
        folder.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(folder)
    }

    /// Whether a password could open more files.
    pub(super) fn is_locked(&self) -> bool {
        let is_locked =
            |other: &NotTaken| matches!(other, NotTaken::Format(error) if error.cause == FormatCause::PasswordMissing);
        self.others.iter().any(|(_, other)| is_locked(other))
    }

    fn add(&mut self, root: &Path, path: PathBuf, password: Option<&Secret>) {
        match FoundFile::read(root, &path, password) {
            Ok(file) => self.files.push(file),
            Err(other) => self.others.push((path, other)),
        }
    }
}

/// The bytes of a regular file of at most 1 MiB.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, NotTaken> {
    /// The octets that tell the format of a large file.
    const BEGINNING: u64 = 4096;
    let failed = |error: io::Error| NotTaken::Unreadable(error.to_string());
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotTaken::NoFile("a link to nothing")),
        metadata => metadata.map_err(failed)?,
    };
    if metadata.is_dir() {
        return Err(NotTaken::NoFile("a link to a folder: import that folder too"));
    }
    if !metadata.is_file() {
        return Err(NotTaken::NoFile("not a regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    if metadata.len() > MAX_FILE_LEN {
        let beginning = read_all(file.take(BEGINNING), BEGINNING).map_err(failed)?;
        return Err(NotTaken::TooLarge(FileFormat::of(&beginning)));
    }
    let bytes = read_all(file, metadata.len()).map_err(failed)?;
    match bytes.len() as u64 > MAX_FILE_LEN {
        true => Err(NotTaken::TooLarge(FileFormat::of(&bytes))),
        false => Ok(bytes),
    }
}

impl FoundFile {
    fn read(root: &Path, path: &Path, password: Option<&Secret>) -> Result<Self, NotTaken> {
        let bytes = read(&root.join(path))?;
        let file = PemFile::read(&bytes, password).map_err(NotTaken::Format)?;
        let contents = Contents::of(file.text.as_bytes());
        if contents == Contents::default() {
            let cause = match file.format {
                // PEM of no kind that certkeep knows.
                FileFormat::Pem => FormatCause::HoldsNeither,
                format if format.may_hold_pair() => FormatCause::NotRead,
                _ => FormatCause::HoldsNeither,
            };
            return Err(NotTaken::Format(FileFormatError {
                format: file.format,
                cause,
            }));
        }
        Ok(Self {
            path: path.to_owned(),
            hash: digest::sha256(&bytes),
            contents,
        })
    }

    /// Reads the text again, as PEM. `None` if the file has changed.
    pub(super) fn text(&self, root: &Path, password: Option<&Secret>) -> Option<Zeroizing<String>> {
        let bytes = read(&root.join(&self.path)).ok()?;
        if digest::sha256(&bytes) != self.hash {
            return None;
        }
        // The first read made PEM of these bytes.
        PemFile::read(&bytes, password).ok().map(|file| file.text)
    }
}
