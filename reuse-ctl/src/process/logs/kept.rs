//! A log in the controller's care: marked while it grows, rotated when it is large.
//!
//! Whoever writes to the log has it open for appending, and is never disturbed. What is to be rotated is copied, made a hole
//! (FALLOC_FL_PUNCH_HOLE), and the hole is taken out of the file (FALLOC_FL_COLLAPSE_RANGE: ext4, xfs, f2fs), which moves the rest, and with it
//! the place where the next line is appended. It works in whole blocks of the file system, so that a line may begin in `.1` and end in
//! the log. Elsewhere (btrfs, tmpfs) the hole stays: it takes no room, but `ls -l` counts it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::index::Index;
use super::marks::Mark;
use super::place::{Cut, Piece, Place, begins_with_hole, in_rotation, rotated};
use super::view;
use crate::whole_ms::unix_now_ms;

/// No file system's block is smaller.
const SMALLEST_BLOCK: u64 = 4096;

/// When a log is rotated, and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A log that is larger is rotated, and no rotated file is (unless this is smaller than a block).
    pub max_bytes: u64,
    /// So many rotated files are kept.
    pub keep: u16,
}

/// Why a log could not be rotated. It is as it was, or will be finished next time.
#[derive(Debug, thiserror::Error)]
#[error("{}: {step}: {source}", log.display())]
pub struct RotateError {
    /// Which.
    pub log: PathBuf,
    /// The system call.
    pub step: &'static str,
    /// EOPNOTSUPP: the file system can't make holes.
    pub source: io::Error,
}

/// What a look at a log has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It is not there.
    Absent,
    /// Nothing has changed since the last look.
    Same,
    /// It has; `too_large`: it should be rotated.
    Changed {
        #[expect(missing_docs, reason = "said above")]
        too_large: bool,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub struct KeptLog {
    log: PathBuf,
    limits: Limits,
    index: Option<Index>,
    seen: Option<Seen>,
}

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    /// # Errors
    /// As stat(2). None: there is no file.
    pub(super) fn at(log: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(log) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// When it was last written to, in milliseconds since 1970.
    pub(super) fn modified_ms(&self) -> u64 {
        let (seconds, nanoseconds) = self.modified;
        u64::try_from(seconds * 1000 + nanoseconds / 1_000_000).unwrap_or(0)
    }
}

impl KeptLog {
    /// Nothing is opened yet.
    pub fn new(log: PathBuf, limits: Limits) -> Self {
        Self {
            log,
            limits,
            index: None,
            seen: None,
        }
    }

    /// From now on it is rotated by these.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// Makes the index, before there is a log: on a disk that the log fills there would be no room for it any more.
    ///
    /// # Errors
    /// As mkdir(2), open(2), write(2).
    pub fn prepare(&mut self) -> io::Result<()> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        self.index().map(drop)
    }

    /// Whether it has changed since the last look; if so, that is marked in the index. One system call if not.
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
            // That may end a rotation, which changes the file's size.
            self.index()?;
            let Some(again) = Seen::at(&self.log)? else {
                return Ok(Looked::Absent);
            };
            seen = again;
        }
        let limits = self.limits;
        let log = self.log.clone();
        let index = self.index()?;
        let place = settled(index, seen)?;
        let end = place.shift + seen.size;
        if index.last().is_none_or(|last| last.offset < end) {
            let mark = Mark {
                // The time of the last write, which is what the last line wants; never before the mark before, whatever the clock does.
                at_ms: seen
                    .modified_ms()
                    .min(unix_now_ms())
                    .max(index.last().map_or(0, |last| last.at_ms)),
                offset: end,
            };
            // On a full disk there is no room for marks; a later one will do.
            if let Err(error) = index.mark(mark, || view::bounds(&log).map_or(0, |(start, _)| start)) {
                tracing::debug!("the index of {}: {error}", log.display());
            }
        }
        self.seen = Some(seen);
        let too_large = seen.size.saturating_sub(place.hole) > limits.max_bytes;
        Ok(Looked::Changed { too_large })
    }

    /// Rotates until the log is no larger than it may be; with `everything`, until less than a block is left in it. Takes as long as copying
    /// it does: call it where that disturbs nobody.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub fn rotate(&mut self, everything: bool, stop: impl Fn() -> bool) -> Result<(), RotateError> {
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
            let (place, size) = self.placed(&file).map_err(self.failed("read"))?;
            let size = size.saturating_sub(place.hole);
            let end = *everything_until.get_or_insert(place.shift + place.hole + size);
            let wanted = everything && place.shift + place.hole < end;
            if size <= self.limits.max_bytes && !wanted {
                break;
            }
            let Some(piece) = self.limits.next_piece(size, block) else {
                break;
            };
            self.cut(&file, place, piece)?;
        }
        Ok(())
    }

    fn placed(&mut self, file: &File) -> io::Result<(Place, u64)> {
        let metadata = file.metadata()?;
        let place = settled(self.index()?, Seen::of(&metadata))?;
        Ok((place, metadata.len()))
    }

    fn cut(&mut self, file: &File, mut place: Place, mut piece: Piece) -> Result<(), RotateError> {
        if piece.copied {
            piece.copied = self.copy(file, place.hole, piece.len)?;
        }
        place.cut = Cut::Begun(piece);
        self.set_place(place)?;
        match fallocate(file, PUNCH, place.hole, piece.len) {
            Ok(()) => finish(
                &self.log,
                self.index.as_mut().expect("just written"),
                file,
                self.limits.keep,
            )
            .map_err(self.failed("rotation")),
            Err(error) => {
                place.cut = Cut::None;
                self.set_place(place)?;
                drop(fs::remove_file(in_rotation(&self.log)));
                Err(self.failed("fallocate(FALLOC_FL_PUNCH_HOLE)")(error))
            }
        }
    }

    /// Copies what is to be rotated. If there is no room for it the oldest copies have to go; false if that did not help.
    fn copy(&self, file: &File, at: u64, len: u64) -> Result<bool, RotateError> {
        let path = in_rotation(&self.log);
        loop {
            match copy_to(file, at, len, &path) {
                Ok(()) => return Ok(true),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                    drop(fs::remove_file(&path));
                    if !remove_oldest(&self.log) {
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

    fn set_place(&mut self, place: Place) -> Result<(), RotateError> {
        let written = self.index().and_then(|index| index.set_place(place));
        written.map_err(self.failed("write the index"))
    }

    /// The index, after what an earlier controller may have left half done was finished.
    fn index(&mut self) -> io::Result<&mut Index> {
        if self.index.is_none() {
            let mut index = Index::open(&self.log)?;
            recover(&self.log, &mut index, self.limits.keep)?;
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
    /// What of a log with `size` bytes is rotated next. The last block, whole or not, always stays: a range that reaches the end of a file
    /// can't be taken out of it.
    fn next_piece(self, size: u64, block: u64) -> Option<Piece> {
        let whole = |bytes: u64| bytes / block * block;
        let all = whole(size.saturating_sub(1));
        // Where somebody writes faster than it is rotated, what would be dropped in a moment is not copied before.
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

/// The place, after the file was compared with it: someone else may have cut it short or replaced it. What is in it then is new.
fn settled(index: &mut Index, seen: Seen) -> io::Result<Place> {
    let mut place = index.place();
    let known_end = index.last().map_or(0, |last| last.offset).max(place.live_start());
    let replaced = place.inode != 0 && place.inode != seen.inode;
    if replaced || place.shift + seen.size < known_end {
        place = Place {
            rotated_end: place.rotated_end,
            shift: known_end,
            inode: seen.inode,
            ..Place::default()
        };
        index.set_place(place)?;
    } else if place.inode == 0 {
        place.inode = seen.inode;
        index.set_place(place)?;
    }
    Ok(index.place())
}

/// Ends what an earlier controller had begun.
fn recover(log: &Path, index: &mut Index, keep: u16) -> io::Result<()> {
    let place = index.place();
    let Some(piece) = place.cut.piece() else {
        // A copy that was not finished, or was worth nothing.
        return remove_if_there(&in_rotation(log));
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(log);
    match file {
        Ok(file) if file.metadata()?.ino() == place.inode => {
            if matches!(place.cut, Cut::Begun(_)) {
                fallocate(&file, PUNCH, place.hole, piece.len)?;
            }
            finish(log, index, &file, keep)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // It was taken away meanwhile; the copy is what is left of it.
        Ok(_) | Err(_) => after_cut(log, index, place.live_start(), 0, keep),
    }
}

/// What is to be cut is a hole, and copied if it is to be kept: takes it out of the file. It may have been taken out already.
fn finish(log: &Path, index: &mut Index, file: &File, keep: u16) -> io::Result<()> {
    let mut place = index.place();
    let piece = place.cut.piece().expect("asked for when there is one");
    let hollow = place.hole + piece.len;
    if matches!(place.cut, Cut::Begun(_)) {
        if !begins_with_hole(file, hollow)? {
            // The file system doesn't show its holes: it could not be seen later whether it was taken out. So it stays.
            return after_cut(log, index, place.shift, hollow, keep);
        }
        place.cut = Cut::Hollow(piece);
        index.set_place(place)?;
    }
    // What can't be taken out stays as a hole, whatever the reason.
    let stays = begins_with_hole(file, hollow)? && fallocate(file, COLLAPSE, 0, hollow).is_err();
    let (shift, hole) = if stays {
        (place.shift, hollow)
    } else {
        (place.live_start(), 0)
    };
    after_cut(log, index, shift, hole, keep)
}

fn after_cut(log: &Path, index: &mut Index, shift: u64, hole: u64, keep: u16) -> io::Result<()> {
    let mut place = index.place();
    if place.cut.piece().is_some_and(|piece| piece.copied) {
        shift_copies(log, keep)?;
    } else {
        // What is older than what was dropped is dropped too.
        while remove_oldest(log) {}
    }
    place.rotated_end = shift + hole;
    place.shift = shift;
    place.hole = hole;
    place.cut = Cut::None;
    index.set_place(place)
}

/// The new copy becomes `.1`, each older one gets the next number, and the one without a place is removed. Done twice it is done once: a gap in
/// the numbers shows how far it had got.
fn shift_copies(log: &Path, keep: u16) -> io::Result<()> {
    let fresh = in_rotation(log);
    if !fresh.try_exists()? {
        return Ok(());
    }
    let keep = keep.max(1);
    let free = (1..keep).find(|number| !rotated(log, *number).exists()).unwrap_or(keep);
    for number in (1..free).rev() {
        fs::rename(rotated(log, number), rotated(log, number + 1))?;
    }
    fs::rename(fresh, rotated(log, 1))?;
    // With an earlier controller it may have been more of them.
    let mut number = keep + 1;
    while rotated(log, number).exists() {
        fs::remove_file(rotated(log, number))?;
        number += 1;
    }
    Ok(())
}

/// False: there is none.
fn remove_oldest(log: &Path) -> bool {
    let oldest = (1..=u16::MAX)
        .take_while(|number| rotated(log, *number).exists())
        .last();
    oldest.is_some_and(|number| fs::remove_file(rotated(log, number)).is_ok())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is copied belongs to whom the log belongs, and is on the disk before it is taken out of the log.
pub(super) fn copy_to(file: &File, at: u64, len: u64, path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    let metadata = file.metadata()?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    nix::unistd::fchown(
        &copy,
        Some(Uid::from_raw(metadata.uid())),
        Some(Gid::from_raw(metadata.gid())),
    )?;
    let mut from = file;
    from.seek(SeekFrom::Start(at))?;
    let copied = io::copy(&mut from.take(len), &mut copy)?;
    if copied != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    copy.sync_data()
}

pub(super) const PUNCH: libc::c_int = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
pub(super) const COLLAPSE: libc::c_int = libc::FALLOC_FL_COLLAPSE_RANGE;

pub(super) fn fallocate(file: &File, mode: libc::c_int, at: u64, len: u64) -> io::Result<()> {
    let number = |bytes: u64| libc::off64_t::try_from(bytes).map_err(io::Error::other);
    let (at, len) = (number(at)?, number(len)?);
    loop {
        // SAFETY: an open descriptor and three integers.
        if unsafe { libc::fallocate64(file.as_raw_fd(), mode, at, len) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
