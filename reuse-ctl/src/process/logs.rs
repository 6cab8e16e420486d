//! The output of workers. Each slot has one file for standard output and one for standard error, to which the worker process itself
//! appends. The controller only watches the files, so its death or slowness never blocks a worker.
//!
//! While it watches, it records how long each file was at which time (`marks`), from which the times of lines are taken. It rotates files
//! that have grown too large while their writers go on writing (`kept`, `rotate`). Both are recorded in an index beside the log
//! (`index`). With the index every other process reads a log and its rotated parts as one (`view`): forwards (`follow`), from the end
//! (`last`), or several logs together (`merge`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::unistd::{Gid, Uid};

mod follow;
mod index;
mod kept;
mod last;
mod layout;
mod marks;
mod merge;
mod rotate;
mod seen;
mod view;

pub use follow::{Follower, LogLine, POLL, TimedFollower, TimedLine};
pub use kept::{KeptLog, Limits, Looked, RotateError};
pub use last::{Range, last_lines, starts_of_last};
pub use merge::{MergeSource, Merged};

/// One of the two output streams of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// The short name: `out` or `err`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

/// Opens a slot's log for a worker, which becomes its owner. Creates the file and its folder if necessary. Follows no symbolic link,
/// because the caller is root.
///
/// # Errors
/// As mkdir(2), open(2), fchown(2).
pub fn open_for_append(path: &Path, uid: u32, gid: u32) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        nix::unistd::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(file)
}

/// Number of bytes ever written to a log, including rotated and dropped ones. Taken before a spawn, it separates the new instance's output
/// from the old one's. 0 if the log can't be read.
pub fn len(log: &Path) -> u64 {
    view::end(log).unwrap_or(0)
}

#[cfg(test)]
#[path = "logs/tests.rs"]
mod tests;
