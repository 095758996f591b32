//! Postgres's log: a file of limited size in the data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Above this size, the log becomes the old log. One old log is kept.
const SIZE_MAX: u64 = 8 * 1024 * 1024;

/// Size of the tail that is shown.
const TAIL_MAX: u64 = 4 * 1024;
const TAIL_LINES: usize = 20;

/// The file for Postgres's standard error.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// The log of this data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("postgres.log"),
        }
    }

    /// Opens the file for appending. In this mode, Postgres continues at the start after a truncation.
    pub fn open(&self) -> Result<File, Error> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(Error::file(&self.path))
    }

    /// The current end of the log, for [`tail`](Self::tail).
    pub fn end(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The last lines after `start`. Empty if the log is not readable.
    pub fn tail(&self, start: u64) -> String {
        self.read_tail(start)
            .map(|bytes| last_lines(&bytes))
            .unwrap_or_default()
    }

    fn read_tail(&self, start: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        // The log may have been truncated since.
        let start = if start <= end { start } else { 0 };
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_MAX))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Moves a large log to the old log. Lines that are written at this moment may be lost.
    pub fn bound(&self) -> io::Result<()> {
        if self.end() <= SIZE_MAX {
            return Ok(());
        }
        // Copied, not renamed: Postgres keeps its file open.
        fs::copy(&self.path, self.path.with_extension("log.1"))?;
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The last lines of a program's output.
pub fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_the_end_of_the_lines_after_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::of(dir.path());
        let mut file = log.open().unwrap();
        writeln!(file, "before").unwrap();
        let start = log.end();
        for line in 0..100 {
            writeln!(file, "line {line}").unwrap();
        }
        let tail = log.tail(start);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 99"));
        assert_eq!(log.tail(log.end()), "");
    }

    #[test]
    fn a_large_log_is_moved_and_truncated() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::of(dir.path());
        let mut file = log.open().unwrap();
        file.set_len(SIZE_MAX + 1).unwrap();
        log.bound().unwrap();
        file.write_all(b"after\n").unwrap();
        assert_eq!(log.tail(SIZE_MAX), "after");
        assert_eq!(
            fs::metadata(dir.path().join("postgres.log.1")).unwrap().len(),
            SIZE_MAX + 1
        );
    }
}
