//! Whether a file has changed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The inode of a file, the time of its last change, and its length. They differ after the file, its owner or its mode was changed, or
/// the file was replaced.
pub(super) type Stamp = (u64, (i64, i64), u64);

/// The stamp of this file; `None` if it can't be read.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        (metadata.ctime(), metadata.ctime_nsec()),
        metadata.len(),
    ))
}
