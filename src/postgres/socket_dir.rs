//! The directory of the unix socket: a short path, private, removed when Postgres stops.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::access::PORT;
use super::run_as::RunAs;
use crate::digest;

/// Maximum length of a socket's path in bytes: `sun_path` (unix(7)) without its NUL.
const PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Prefix of the names in /tmp. 32 hexadecimal digits follow.
const TMP_PREFIX: &str = "certkeep-";

/// The directory of the socket, with mode 0700. It belongs to the user that runs Postgres.
#[derive(Clone, Debug)]
pub struct SocketDir {
    path: PathBuf,
}

impl SocketDir {
    /// A path for a new directory: in `data_dir`, or, if that path is too long, in /tmp with a random name.
    pub fn choose(data_dir: &Path) -> Result<Self, Error> {
        let beside = Self {
            path: data_dir.join("socket"),
        };
        if beside.socket().as_os_str().len() <= PATH_MAX {
            return Ok(beside);
        }
        let name = hex::encode(digest::random::<16>()?);
        Ok(Self {
            path: Path::new("/tmp").join(format!("{TMP_PREFIX}{name}")),
        })
    }

    /// The directory `path`, if [`choose`](Self::choose) could have chosen it. The path comes from a file of the user that runs
    /// Postgres. This check keeps that user from making root remove another directory.
    pub fn recognise(path: &Path, data_dir: &Path) -> Option<Self> {
        let is_random = |name: &OsStr| {
            name.to_str()
                .and_then(|name| name.strip_prefix(TMP_PREFIX))
                .is_some_and(|digits| {
                    digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                })
        };
        let in_tmp = path.parent() == Some(Path::new("/tmp")) && path.file_name().is_some_and(is_random);
        (path == data_dir.join("socket") || in_tmp).then(|| Self {
            path: path.to_path_buf(),
        })
    }

    /// Creates an empty directory. Files of a killed Postgres would block the next one, so an old directory is removed first.
    pub fn make(&self, run_as: &RunAs) -> Result<(), Error> {
        self.remove()
            .and_then(|()| DirBuilder::new().mode(0o700).create(&self.path))
            .and_then(|()| run_as.give(&self.path))
            .map_err(Error::file(&self.path))
    }

    /// Removes the directory if it exists.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the socket exists. An error other than its absence says nothing.
    pub fn has_socket(&self) -> bool {
        self.socket().try_exists().unwrap_or(true)
    }

    /// The socket in it.
    pub fn socket(&self) -> PathBuf {
        self.path.join(format!(".s.PGSQL.{PORT}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_allowed_path_is_used() {
        let fits = Path::new("/").join("d".repeat(PATH_MAX - "//socket/.s.PGSQL.5432".len()));
        let chosen = SocketDir::choose(&fits).unwrap();
        assert_eq!(chosen.path(), fits.join("socket"));
        assert_eq!(chosen.socket().as_os_str().len(), PATH_MAX);
    }

    #[test]
    fn a_longer_path_is_replaced_by_a_random_one() {
        let long = Path::new("/").join("d".repeat(PATH_MAX - "/socket/.s.PGSQL.5432".len()));
        let (one, other) = (SocketDir::choose(&long).unwrap(), SocketDir::choose(&long).unwrap());
        assert_ne!(one.path(), other.path());
        assert!(one.socket().as_os_str().len() <= PATH_MAX);
        assert!(SocketDir::recognise(one.path(), &long).is_some());
    }

    #[test]
    fn no_other_directory_is_recognised() {
        let data_dir = Path::new("/data");
        assert!(SocketDir::recognise(Path::new("/data/socket"), data_dir).is_some());
        for path in [
            "/etc",
            "/data",
            "/tmp",
            "/tmp/certkeep-",
            "/tmp/certkeep-00/../../etc",
            "/var/run/postgresql",
        ] {
            assert!(SocketDir::recognise(Path::new(path), data_dir).is_none(), "{path}");
        }
    }
}
