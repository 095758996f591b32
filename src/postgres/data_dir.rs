//! The data directory. Only one certkeep holds it at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use super::Error;

/// A locked data directory. It exists, and only its owner can write to it. The lock ends when this is dropped or the process
/// ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl Drop for DataDir {
    /// Unlocks explicitly. A child that is starting at this moment may still have a copy of the file, so closing the file would not
    /// release the lock.
    fn drop(&mut self) {
        // If this fails, the end of the process releases the lock.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl DataDir {
    /// Creates `path` with its parents, and takes the lock `<path>/lock`.
    ///
    /// A new directory gets mode 0711 as root, so that the user that runs Postgres can pass through but not list it, otherwise
    /// 0700. The mode of an existing directory is not changed: the path may be a mistake.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process holds the lock. [`Error::Exposed`] if other users could write to the directory.
    /// [`Error::File`] if it cannot be created or opened.
    pub fn lock(path: &Path) -> Result<Self, Error> {
        create(path).map_err(Error::file(path))?;
        let path = fs::canonicalize(path).map_err(Error::file(path))?;
        let metadata = fs::metadata(&path).map_err(Error::file(&path))?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(Error::Exposed { data_dir: path });
        }
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(Error::file(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::InUse {
                    data_dir: path,
                    holder: holder(&mut lock),
                });
            }
            Err(errno) => return Err(Error::file(lock_path)(errno.into())),
        }
        sign(&mut lock).map_err(Error::file(lock_path))?;
        Ok(Self { path, lock })
    }

    /// The directory: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken bits away.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_holds_it_and_the_next_is_told_which() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("above/data");
        let held = DataDir::lock(&path).unwrap();
        let Err(Error::InUse { holder, .. }) = DataDir::lock(&path) else {
            panic!("locked twice")
        };
        assert_eq!(holder, Some(std::process::id()));
        drop(held);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn only_its_owner_can_list_a_new_one() {
        let parent = tempfile::tempdir().unwrap();
        let held = DataDir::lock(&parent.path().join("data")).unwrap();
        let mode = fs::metadata(held.path()).unwrap().mode() & 0o777;
        assert_eq!(mode, if geteuid().is_root() { 0o711 } else { 0o700 });
    }

    #[test]
    fn one_that_others_can_write_to_is_refused_and_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let Err(error) = DataDir::lock(dir.path()) else {
            panic!("accepted")
        };
        assert!(matches!(error, Error::Exposed { .. }), "{error}");
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o777);
    }
}
