//! Which file a path names.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// Device and inode of what is there, symbolic links followed.
///
/// # Errors
/// As stat(2).
pub fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}
