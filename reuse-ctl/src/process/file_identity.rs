//! Identifies the file that a path refers to.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// Device and inode of the file, with symbolic links followed.
///
/// # Errors
/// As stat(2).
pub fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}
