//! A log that the controller maintains: it marks the log while it grows, and rotates it when it is too large.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use super::{
    index::Index,
    layout::{Cut, Layout, Piece, in_rotation},
    marks::Mark,
    rotate,
    seen::Seen,
    view,
};
use crate::base::whole_ms::unix_now_ms;

/// The smallest block size of any file system.
const SMALLEST_BLOCK: u64 = 4096;

/// When a log is rotated, and how many rotated files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A log larger than this is rotated. No rotated file is larger either (unless this is smaller than a block).
    pub max_bytes: u64,
    /// Number of rotated files to keep.
    pub keep: u16,
}

/// Why a log could not be rotated. The log is unchanged, or the rotation will be finished next time.
#[derive(Debug, thiserror::Error)]
#[error("{}: {step}: {source}", log.display())]
pub struct RotateError {
    /// The log.
    pub log: PathBuf,
    /// The system call.
    pub step: &'static str,
    /// The kernel's error. EOPNOTSUPP: the file system doesn't support holes.
    pub source: io::Error,
}

/// The result of a look at a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// The log doesn't exist.
    Absent,
    /// Nothing has changed since the last look.
    Same,
    /// The log has changed. `too_large`: it should be rotated.
    Changed {
        #[expect(missing_docs, reason = "said above")]
        too_large: bool,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct KeptLog {
    log: PathBuf,
    limits: Limits,
    index: Option<Index>,
    seen: Option<Seen>,
}

impl KeptLog {
    /// Creates the state without opening anything.
    pub fn new(log: PathBuf, limits: Limits) -> Self {
        Self {
            log,
            limits,
            index: None,
            seen: None,
        }
    }

    /// Sets new limits for rotation.
    pub fn set_limits(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            // The log may exceed the new limit although nobody has written to it.
            self.seen = None;
        }
    }

    /// Creates the index before there is a log: if the log fills the disk, there is no room for an index any more.
    ///
    /// # Errors
    /// As mkdir(2), open(2), write(2).
    pub fn prepare(&mut self) -> io::Result<()> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        self.index().map(drop)
    }

    /// Checks whether the log has changed since the last look, and if so adds a mark to the index. One system call if nothing has changed.
    ///
    /// # Errors
    /// As open(2), read(2), write(2).
    pub fn look(&mut self) -> io::Result<Looked> {
        let Some(mut seen) = Seen::at(&self.log)? else {
            return Ok(Looked::Absent);
        };
        if self.seen == Some(seen) {
            return Ok(Looked::Same);
        }
        if self.index.is_none() {
            // This may finish a rotation, which changes the file's size.
            self.index()?;
            let Some(again) = Seen::at(&self.log)? else {
                return Ok(Looked::Absent);
            };
            seen = again;
        }
        let limits = self.limits;
        let log = self.log.clone();
        let index = self.index()?;
        let layout = settled(index, seen)?;
        let end = layout.shift + seen.size;
        if index.last().map_or(0, |last| last.offset) < end {
            let mark = Mark {
                // The time of the last write, which is when the last line was written; never before the previous mark, even if the clock
                // was set back.
                at_ms: seen
                    .modified_ms()
                    .min(unix_now_ms())
                    .max(index.last().map_or(0, |last| last.at_ms)),
                offset: end,
            };
            // A full disk has no room for marks; a later mark will do.
            if let Err(error) = index.mark(mark, || view::bounds(&log).map_or(0, |(start, _)| start)) {
                tracing::debug!("the index of {}: {error}", log.display());
            }
        }
        self.seen = Some(seen);
        let too_large = seen.size.saturating_sub(layout.hole) > limits.max_bytes;
        Ok(Looked::Changed { too_large })
    }

    /// Rotates until the log is within its limit; with `everything`, until less than a block is left in it. Takes as long as copying does,
    /// so call it on a thread where that doesn't matter.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub fn rotate(&mut self, everything: bool, stop: impl Fn() -> bool) -> Result<(), RotateError> {
        let rotated = self.rotate_pieces(everything, stop);
        if rotated.is_err() {
            // Reopening the index shows how far the rotation has got.
            self.index = None;
        }
        rotated
    }

    fn rotate_pieces(&mut self, everything: bool, stop: impl Fn() -> bool) -> Result<(), RotateError> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.log);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed("open")(error)),
        };
        let block = file
            .metadata()
            .map_err(self.failed("fstat"))?
            .blksize()
            .max(SMALLEST_BLOCK);
        let mut everything_until = None;
        while !stop() {
            let (layout, size) = self.known_layout(&file).map_err(self.failed("read"))?;
            let size = size.saturating_sub(layout.hole);
            let end = *everything_until.get_or_insert(layout.shift + layout.hole + size);
            let wanted = everything && layout.shift + layout.hole < end;
            if size <= self.limits.max_bytes && !wanted {
                break;
            }
            let Some(piece) = self.limits.next_piece(size, block) else {
                break;
            };
            self.cut(&file, layout, piece)?;
        }
        Ok(())
    }

    fn known_layout(&mut self, file: &File) -> io::Result<(Layout, u64)> {
        let metadata = file.metadata()?;
        let layout = settled(self.index()?, Seen::of(&metadata))?;
        Ok((layout, metadata.len()))
    }

    fn cut(&mut self, file: &File, mut layout: Layout, mut piece: Piece) -> Result<(), RotateError> {
        if piece.copied {
            piece.copied = self.copy(file, layout.hole, piece.len)?;
        }
        layout.cut = Cut::Begun(piece);
        let keep = self.limits.keep;
        let log = self.log.clone();
        self.index()
            .and_then(|index| {
                index.set_layout(layout)?;
                rotate::carry_on(&log, index, file, keep)
            })
            .map_err(self.failed("take out what was copied"))
    }

    /// Copies the piece that is rotated. If the disk is full, the oldest copies are removed. False if that did not help.
    fn copy(&self, file: &File, at: u64, len: u64) -> Result<bool, RotateError> {
        let path = in_rotation(&self.log);
        loop {
            match rotate::copy_to(file, at, len, &path) {
                Ok(()) => return Ok(true),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                    drop(fs::remove_file(&path));
                    if !rotate::remove_oldest(&self.log) {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    drop(fs::remove_file(&path));
                    return Err(self.failed("copy")(error));
                }
            }
        }
    }

    /// The index, after finishing what an earlier controller may have left unfinished.
    fn index(&mut self) -> io::Result<&mut Index> {
        if self.index.is_none() {
            let mut index = Index::open(&self.log)?;
            rotate::recover(&self.log, &mut index, self.limits.keep)?;
            self.index = Some(index);
        }
        Ok(self.index.as_mut().expect("just put there"))
    }

    fn failed(&self, step: &'static str) -> impl FnOnce(io::Error) -> RotateError + use<> {
        let log = self.log.clone();
        move |source| RotateError { log, step, source }
    }
}

impl Limits {
    /// The next piece to rotate of a log with `size` bytes. The last block, complete or not, always stays, because a range that reaches the
    /// end of a file can't be collapsed.
    fn next_piece(self, size: u64, block: u64) -> Option<Piece> {
        let whole = |bytes: u64| bytes / block * block;
        let all = whole(size.saturating_sub(1));
        // If the log grows faster than it is rotated, pieces that would soon be dropped are not copied at all.
        let lasting = self.max_bytes.saturating_mul(u64::from(self.keep) + 1).max(block * 2);
        let piece = if self.keep == 0 {
            Piece {
                len: all,
                copied: false,
            }
        } else if size > lasting {
            Piece {
                len: whole(size - lasting).max(block).min(all),
                copied: false,
            }
        } else {
            Piece {
                len: all.min(whole(self.max_bytes).max(block)),
                copied: true,
            }
        };
        (piece.len > 0).then_some(piece)
    }
}

/// The layout after a comparison with the file, which someone may have truncated or replaced. Its content is new then.
fn settled(index: &mut Index, seen: Seen) -> io::Result<Layout> {
    let mut layout = index.layout();
    let known_end = index.last().map_or(0, |last| last.offset).max(layout.live_start());
    let replaced = layout.inode != 0 && layout.inode != seen.inode;
    if replaced || layout.shift + seen.size < known_end {
        layout = Layout {
            rotated_end: layout.rotated_end,
            shift: known_end,
            inode: seen.inode,
            ..Layout::default()
        };
        index.set_layout(layout)?;
    } else if layout.inode == 0 {
        layout.inode = seen.inode;
        index.set_layout(layout)?;
    }
    Ok(index.layout())
}
