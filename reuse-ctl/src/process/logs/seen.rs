//! The state of a file at one look.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The attributes that tell a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) inode: u64,
    pub(super) size: u64,
    modified: (i64, i64),
}

impl Seen {
    /// # Errors
    /// As stat(2). `None`: there is no file.
    pub(super) fn at(log: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(log) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// The time of the last write, in milliseconds since 1970.
    pub(super) fn modified_ms(&self) -> u64 {
        let (seconds, nanoseconds) = self.modified;
        u64::try_from(seconds * 1000 + nanoseconds / 1_000_000).unwrap_or(0)
    }
}
