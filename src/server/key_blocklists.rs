//! The operator's lists of compromised keys are read again when their files change.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::stamp::{Stamp, stamp};
use crate::app::{App, KeyBlocklist, KeyBlocklistError};
use crate::telemetry::causes;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The limit of all files together. In memory, a list takes as much as its file or less. `blocklist.dat` of badkeys has about 60 MB.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Why a list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BlocklistError {
    /// The file can't be read.
    #[error("key_blocklist names {0}, which cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is no list.
    #[error("key_blocklist names {0}, which cannot be used")]
    Format(PathBuf, #[source] KeyBlocklistError),
    /// The files are too long.
    #[error("the files of key_blocklist have more than 256 MiB together")]
    TooLong,
}

/// Reads these lists. Each is named by its file, without the folder.
pub fn read_key_blocklists(files: &[PathBuf]) -> Result<Vec<KeyBlocklist>, BlocklistError> {
    let mut left = MAX_BYTES;
    files.iter().map(|file| read(file, &mut left)).collect()
}

fn read(path: &Path, left: &mut u64) -> Result<KeyBlocklist, BlocklistError> {
    let failed = |error| BlocklistError::Read(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let read = file.take(*left + 1).read_to_end(&mut bytes).map_err(failed)?;
    *left = left.checked_sub(read as u64).ok_or(BlocklistError::TooLong)?;
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    KeyBlocklist::read(name, &bytes).map_err(|error| BlocklistError::Format(path.to_owned(), error))
}

/// Logs which lists are in use from now on.
pub(super) fn log(lists: &[KeyBlocklist]) {
    for list in lists {
        tracing::info!(
            list = list.name(),
            keys = list.keys(),
            "loaded a list of compromised keys"
        );
    }
}

/// The stamp of each file.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| stamp(file)).collect()
}

/// Decides when files are read again.
struct Looks {
    /// The stamps of the files that were read last, whether they could be used or not.
    read: Vec<Option<Stamp>>,
    /// The stamps at the last look.
    seen: Vec<Option<Stamp>>,
}

impl Looks {
    /// Whether the files have changed, but not since the last look: someone may be writing a file that changes.
    fn are_due(&mut self, now: Vec<Option<Stamp>>) -> bool {
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && self.seen != self.read
    }
}

/// Reads the lists again when a file has changed. `read` are the stamps before the lists in use were read. If a file can't be used, the lists
/// in use stay, and the error is logged once. Runs until it is dropped.
pub(super) async fn follow(app: App, files: Vec<PathBuf>, read: Vec<Option<Stamp>>) {
    let seen = read.clone();
    let mut looks = Looks { read, seen };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !looks.are_due(stamps(&files)) {
            continue;
        }
        let wanted = files.clone();
        let outcome = tokio::task::spawn_blocking(move || read_key_blocklists(&wanted)).await;
        if stamps(&files) != looks.seen {
            // A file changed while it was read. The next looks try again.
            continue;
        }
        match outcome {
            Ok(Ok(lists)) => {
                log(&lists);
                app.replace_key_blocklists(lists);
            }
            Ok(Err(error)) => tracing::error!(
                cause = causes(&error),
                "a list of compromised keys cannot be used: this process keeps the lists that it has, but a start would fail"
            ),
            // The process ends.
            Err(_) => return,
        }
        looks.read.clone_from(&looks.seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_again_when_they_have_not_changed_for_one_look() {
        let stamps = |length| vec![Some((1, (2, 3), 32)), Some((4, (5, 6), length))];
        let mut looks = Looks {
            read: stamps(1),
            seen: stamps(1),
        };
        assert!(!looks.are_due(stamps(1)));
        // Someone writes.
        for length in [2, 3, 4] {
            assert!(!looks.are_due(stamps(length)));
        }
        assert!(looks.are_due(stamps(4)));
        assert!(looks.are_due(stamps(4)), "it was not read, because it changed");
        looks.read = stamps(4);
        assert!(!looks.are_due(stamps(4)));
        // A file vanishes, and comes back.
        assert!(!looks.are_due(vec![None, None]));
        assert!(!looks.are_due(stamps(4)));
        assert!(!looks.are_due(stamps(4)));
    }

    #[test]
    fn files_are_read_and_errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let good = path("good.txt", "ab".repeat(32).as_bytes());
        let lists = read_key_blocklists(&[good.clone(), path("blocklist.dat", &[0xff; 32])]).unwrap();
        assert_eq!(
            format!("{lists:?}"),
            "[KeyBlocklist(good.txt, 1 keys), KeyBlocklist(blocklist.dat, 2 keys)]"
        );
        let told = |files: &[PathBuf]| causes(&read_key_blocklists(files).unwrap_err());
        let bad = told(&[good, path("bad.txt", b"hello")]);
        assert!(bad.contains("bad.txt, which cannot be used: line 1 "), "{bad}");
        let absent = told(&[folder.path().join("absent")]);
        assert!(absent.contains("absent, which cannot be read: "), "{absent}");
        let empty = told(&[path("empty.txt", b"")]);
        assert!(
            empty.contains("empty.txt, which cannot be used: the file lists no key"),
            "{empty}"
        );
    }
}
