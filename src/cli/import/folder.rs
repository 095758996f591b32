//! The files of a folder, and what each of them holds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::super::client::MAX_FILE_LEN;
use crate::app::Contents;
use crate::digest;

/// A file with a certificate or a private key. Its text is read again when it is sent: a folder may be larger than memory.
pub(super) struct FoundFile {
    /// Below the folder.
    pub(super) path: PathBuf,
    /// SHA-256 of its bytes.
    pub(super) hash: [u8; 32],
    pub(super) contents: Contents,
}

/// What there is in a folder and below it.
#[derive(Default)]
pub(super) struct Folder {
    /// By their paths.
    pub(super) files: Vec<FoundFile>,
    /// What can't be read, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
    /// How many files are larger than 1 MiB or hold neither certificate nor private key.
    pub(super) ignored: usize,
}

impl Folder {
    /// Reads every regular file in and below the folder. Symbolic links are followed to files, and not to directories, which could lead
    /// round in a circle. Fails if the folder itself can't be read; ends early when it is told to stop.
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
            // A request's texts are.
            let message = "the text around the PEM blocks is not UTF-8: remove it";
            self.unreadable.push((path, message.to_owned()));
        } else {
            let hash = digest::sha256(&bytes);
            self.files.push(FoundFile { path, hash, contents });
        }
    }
}

/// The bytes of a regular file of at most 1 MiB; `None` if it is none, or a link that leads to none.
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
    /// Reads the text again; `None` if it is not what it was.
    pub(super) fn text(&self, root: &Path) -> Option<Zeroizing<String>> {
        let mut bytes = read(&root.join(&self.path)).ok()??;
        if digest::sha256(&bytes) != self.hash {
            return None;
        }
        // Of the same bytes it was found to be UTF-8.
        String::from_utf8(std::mem::take(&mut *bytes)).ok().map(Zeroizing::new)
    }
}
