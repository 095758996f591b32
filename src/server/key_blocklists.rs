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

/// The stamp of each file.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| stamp(file)).collect()
}

/// Reads the lists again when a file changes. `used` are the stamps before the lists in use were read. If a file can't be used, the lists in
/// use stay, and the error is logged once. Runs until it is dropped.
pub(super) async fn follow(app: App, files: Vec<PathBuf>, mut used: Vec<Option<Stamp>>) {
    let mut tried = used.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamps(&files);
        if now == used || now == tried {
            continue;
        }
        let wanted = files.clone();
        match tokio::task::spawn_blocking(move || read_key_blocklists(&wanted)).await {
            Ok(Ok(lists)) => {
                app.replace_key_blocklists(lists);
                used.clone_from(&now);
                tracing::info!("reloaded the lists of compromised keys");
            }
            Ok(Err(error)) => tracing::error!(
                cause = causes(&error),
                "a list of compromised keys cannot be used: this process keeps the lists that it has, but a start would fail"
            ),
            // The process ends.
            Err(_) => return,
        }
        tried = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
