//! Takes the oldest part out of a log while others write to it.
//!
//! Writers have the log open for appending, and are never disturbed. The oldest part is copied and made a hole (FALLOC_FL_PUNCH_HOLE). Then
//! the hole is removed from the file (FALLOC_FL_COLLAPSE_RANGE: ext4, xfs), which moves the rest to the front, and with it the position
//! where the next line is appended. This works in whole blocks of the file system, so a line may begin in `.1` and end in the log. On other
//! file systems (btrfs, tmpfs) the hole stays: it takes no space, but `ls -l` counts it.
//!
//! Before each step, the index records what is going to be done ([`Cut`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::unistd::{Gid, Uid};

use super::index::Index;
use super::layout::{Cut, begins_with_hole, in_rotation, rotated};

/// Finishes what an earlier controller had begun.
pub(super) fn recover(log: &Path, index: &mut Index, keep: u16) -> io::Result<()> {
    let layout = index.layout();
    if layout.cut == Cut::None {
        // Removes a copy that is unfinished or worthless.
        return remove_if_there(&in_rotation(log));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(log);
    match file {
        Ok(file) if file.metadata()?.ino() == layout.inode => carry_on(log, index, &file, keep),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // The piece was removed meanwhile; the copy is what is left of it.
        Ok(_) | Err(_) => after_cut(log, index, layout.live_start(), 0, keep),
    }
}

/// Makes the piece that the layout names a hole, and collapses the hole. If the piece is to be kept, it must have been copied. Some of these
/// steps may have been done already.
///
/// # Errors
/// As fallocate(2): nothing was cut. As lseek(2), rename(2), write(2): the rotation can be continued later.
pub(super) fn carry_on(log: &Path, index: &mut Index, file: &File, keep: u16) -> io::Result<()> {
    let mut layout = index.layout();
    let piece = layout.cut.piece().expect("asked for when there is one");
    let hollow = layout.hole + piece.len;
    if matches!(layout.cut, Cut::Begun(_)) {
        if !begins_with_hole(file, hollow)?
            && let Err(error) = fallocate(file, PUNCH, layout.hole, piece.len)
        {
            layout.cut = Cut::None;
            index.set_layout(layout)?;
            remove_if_there(&in_rotation(log))?;
            return Err(error);
        }
        if !begins_with_hole(file, hollow)? {
            // The file system doesn't show its holes, so it could not be seen later whether this one was collapsed. It is left in the file.
            return after_cut(log, index, layout.shift, hollow, keep);
        }
        layout.cut = Cut::Hollow(piece);
        index.set_layout(layout)?;
    }
    // A hole that can't be collapsed stays, whatever the reason.
    let stays = begins_with_hole(file, hollow)? && fallocate(file, COLLAPSE, 0, hollow).is_err();
    let (shift, hole) = if stays {
        (layout.shift, hollow)
    } else {
        (layout.live_start(), 0)
    };
    after_cut(log, index, shift, hole, keep)
}

fn after_cut(log: &Path, index: &mut Index, shift: u64, hole: u64, keep: u16) -> io::Result<()> {
    let mut layout = index.layout();
    if layout.cut.piece().is_some_and(|piece| piece.copied) {
        shift_copies(log, keep)?;
    } else {
        // Copies older than dropped content are dropped too.
        while remove_oldest(log) {}
    }
    layout.rotated_end = shift + hole;
    layout.shift = shift;
    layout.hole = hole;
    layout.cut = Cut::None;
    index.set_layout(layout)
}

/// Makes the new copy `.1`, gives each older copy the next number, and removes the one beyond the limit. Repeating it after a crash is
/// safe: a gap in the numbers shows how far it had got.
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
    // An earlier controller may have kept more copies.
    let mut number = keep + 1;
    while rotated(log, number).exists() {
        fs::remove_file(rotated(log, number))?;
        number += 1;
    }
    Ok(())
}

/// Removes the oldest copy. False if there is none.
pub(super) fn remove_oldest(log: &Path) -> bool {
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

/// The copy gets the log's owner, and is written to disk before the piece is cut from the log.
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
