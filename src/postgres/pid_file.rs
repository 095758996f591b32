//! `postmaster.pid`: the process id, socket directory and status of a running Postgres.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// The lines of `postmaster.pid` that certkeep needs, as Postgres's `src/include/utils/pidfile.h` defines them.
#[derive(Debug)]
pub struct PidFile {
    /// Line 1: the postmaster.
    pub pid: Pid,
    /// Line 5: the first directory with a socket.
    pub socket_dir: Option<PathBuf>,
    /// Line 8.
    pub status: Status,
}

/// The status of a postmaster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It is starting, or recovering from a crash.
    Starting,
    /// It accepts connections.
    Ready,
    /// It is shutting down.
    Stopping,
}

impl PidFile {
    /// The path of the file in `cluster`.
    pub fn path(cluster: &Path) -> PathBuf {
        cluster.join("postmaster.pid")
    }

    /// Reads the file. `None` if it does not exist or is not complete yet.
    pub fn read(cluster: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(Self::path(cluster))
            .ok()?
            .take(16 * 1024)
            .read_to_end(&mut bytes)
            .ok()?;
        Self::parse(&bytes)
    }

    /// Removes a file that names no process, after a crash of the machine for example: Postgres would refuse to start. Only for a
    /// cluster without a postmaster.
    pub fn remove_unreadable(cluster: &Path) {
        let path = Self::path(cluster);
        let Ok(bytes) = fs::read(&path) else { return };
        // A single-user server writes its negated pid, and Postgres checks whether it runs.
        if number(&bytes).is_some_and(|pid| pid != 0) {
            return;
        }
        match fs::remove_file(&path) {
            Ok(()) => tracing::warn!(path = %path.display(), "removed a postmaster.pid that names no process"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "removing postmaster.pid failed"),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
        let pid = number(bytes).filter(|pid| *pid > 0)?;
        let socket_dir = lines.get(4).filter(|line| !line.is_empty());
        let status = match lines.get(7).map(|line| line.trim_ascii()) {
            Some(b"ready") => Status::Ready,
            Some(b"stopping") => Status::Stopping,
            _ => Status::Starting,
        };
        Some(Self {
            pid: Pid::from_raw(pid)?,
            socket_dir: socket_dir.map(|line| Path::new(OsStr::from_bytes(line)).to_path_buf()),
            status,
        })
    }
}

/// The number in the first line. A single-user server writes its negated pid.
fn number(bytes: &[u8]) -> Option<i32> {
    let line = bytes.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_ready_postmaster_is_parsed() {
        let text = b"4711\n/data/postgres\n1700000000\n5432\n/data/socket\n\n  1234   5\nready   \n";
        let file = PidFile::parse(text).unwrap();
        assert_eq!(file.pid.as_raw_nonzero().get(), 4711);
        assert_eq!(file.socket_dir.as_deref(), Some(Path::new("/data/socket")));
        assert_eq!(file.status, Status::Ready);
    }

    #[test]
    fn an_incomplete_file_has_the_status_starting() {
        assert_eq!(
            PidFile::parse(b"4711\n/data/postgres\n1700000000\n5432\n")
                .unwrap()
                .status,
            Status::Starting
        );
    }

    #[test]
    fn a_file_without_a_valid_pid_is_ignored() {
        for text in [&b""[..], b"-4711\n", b"0\n", b"garbage\n", b"\xff\n"] {
            assert!(PidFile::parse(text).is_none());
        }
    }
}
