//! Whether a file has changed.

use std::path::Path;
use std::time::SystemTime;

/// The time and the length of a file. They differ after the file was changed or replaced.
pub(super) type Stamp = (SystemTime, u64);

/// The stamp of this file; `None` if it can't be read.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
