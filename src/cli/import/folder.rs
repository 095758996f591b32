//! The files of a folder and their contents.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::super::file::MAX_FILE_LEN;
use crate::app::Contents;
use crate::digest;

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
    /// The files that are unreadable, and the causes.
    pub(super) unreadable: Vec<(PathBuf, String)>,
    /// Number of files above 1 MiB, or with neither a certificate nor a private key.
    pub(super) ignored: usize,
}

impl Folder {
    /// Reads every regular file in the folder and its subfolders. Symbolic links to files are followed. Links to directories are not:
    /// they could form a circle. Fails if the folder itself is unreadable. Ends early after `stop`.
    pub(super) fn read(root: &Path, stop: &CancellationToken) -> io::Result<Self> {
        let mut folder = Self::default();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            let entries = match fs::read_dir(root.join(&directory)) {
                Ok(entries) => entries,
                Err(error) if directory.as_os_str().is_empty() => return Err(error),
                Err(error) => {
                    folder.unreadable.push((directory, error.to_string()));
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
                        folder.unreadable.push((directory.clone(), error.to_string()));
                        break;
                    }
                };
                let path = directory.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(path),
                    Ok(kind) if kind.is_file() || kind.is_symlink() => folder.add(root, path),
                    Ok(_) => {}
                    Err(error) => folder.unreadable.push((path, error.to_string())),
                }
            }
        }
        folder.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        folder.unreadable.sort_unstable();
        Ok(folder)
    }

    fn add(&mut self, root: &Path, path: PathBuf) {
        let bytes = match read(&root.join(&path)) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.ignored += 1,
            Err(error) => return self.unreadable.push((path, error.to_string())),
        };
        let contents = Contents::of(&bytes);
        if contents == Contents::default() {
            self.ignored += 1;
        } else if std::str::from_utf8(&bytes).is_err() {
            // The texts of a request are UTF-8.
            let message = "the text around the PEM blocks is not UTF-8: remove it";
            self.unreadable.push((path, message.to_owned()));
        } else {
            let hash = digest::sha256(&bytes);
            self.files.push(FoundFile { path, hash, contents });
        }
    }
}

/// The bytes of a regular file of at most 1 MiB. `None` for any other file, and for a dangling link.
fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE_LEN {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN.min(metadata.len()) as usize + 1));
    File::open(path)?.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE_LEN).then_some(bytes))
}

impl FoundFile {
    /// Reads the text again. `None` if the file has changed.
    pub(super) fn text(&self, root: &Path) -> Option<Zeroizing<String>> {
        let mut bytes = read(&root.join(&self.path)).ok()??;
        if digest::sha256(&bytes) != self.hash {
            return None;
        }
        // The first read found that these bytes are UTF-8.
        String::from_utf8(std::mem::take(&mut *bytes)).ok().map(Zeroizing::new)
    }
}
