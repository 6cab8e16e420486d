//! Where the bytes of a log are: which are still in the live file, and which in rotated copies.
//!
//! A byte keeps its offset, counted from the first byte ever written, however often the log is rotated.
//!
//! ```text
//! offset:      rotated_end − …        rotated_end                                    end
//!              ├──── .2 ────┼─── .1 ───┤├── hole ──┼── to be cut ──┼── the rest ──────┤
//!                                       ↑ the file's first byte: `shift`
//! ```

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Size of the layout at the beginning of the index. It is written in one write within one sector, so it is never half written.
pub(super) const LAYOUT_BYTES: usize = 128;
const WORDS: usize = 9;
const MAGIC: u64 = u64::from_le_bytes(*b"reuselog");

/// The file with the layout and the marks of a log: `worker-0.times` beside `worker-0.log`.
pub(super) fn index_of(log: &Path) -> PathBuf {
    log.with_extension("times")
}

/// The path of a rotated copy; 1 is the newest.
pub(super) fn rotated(log: &Path, number: u16) -> PathBuf {
    with_suffix(log, &format!(".{number}"))
}

/// The path of the copy that is about to become `.1`.
pub(super) fn in_rotation(log: &Path) -> PathBuf {
    with_suffix(log, ".rotating")
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// See the picture in the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Counts the changes, so that a reader notices them.
    pub(super) changes: u64,
    /// The offset where `.1` ends; `.2` ends where `.1` begins, and so on.
    pub(super) rotated_end: u64,
    /// The offset of the live file's first byte.
    pub(super) shift: u64,
    /// Number of bytes at the file's beginning that are a hole and could not be collapsed.
    pub(super) hole: u64,
    /// The rotation in progress.
    pub(super) cut: Cut,
    /// The inode of the live file.
    pub(super) inode: u64,
}

/// How far a rotation has got. Each step can be repeated, and it is visible which steps were done, so a crash between two steps neither
/// loses nor duplicates anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Cut {
    /// No rotation is in progress; an unfinished copy is worthless.
    #[default]
    None,
    /// The first bytes after the hole have been copied, if they are to be kept, and are now being made a hole.
    Begun(Piece),
    /// They are a hole, which is now being collapsed.
    Hollow(Piece),
}

/// The piece that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Length in bytes.
    pub(super) len: u64,
    /// Whether there is a copy of it; otherwise it is just dropped.
    pub(super) copied: bool,
}

impl Cut {
    pub(super) fn piece(self) -> Option<Piece> {
        match self {
            Self::None => None,
            Self::Begun(piece) | Self::Hollow(piece) => Some(piece),
        }
    }
}

impl Layout {
    /// Reads the layout from a log's index. A log without an index was never seen by a controller: its copies, if any, end where it begins.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub(super) fn of(log: &Path) -> io::Result<Self> {
        match File::open(index_of(log)) {
            Ok(index) => Ok(Self::read(&index)?.unwrap_or_else(|| Self::assumed(log))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::assumed(log)),
            Err(error) => Err(error),
        }
    }

    /// The layout of a log that has no index.
    pub(super) fn assumed(log: &Path) -> Self {
        let len_of = |number| fs::metadata(rotated(log, number)).ok().map(|metadata| metadata.len());
        let rotated_end = (1..=u16::MAX).map_while(len_of).sum();
        Self {
            rotated_end,
            shift: rotated_end,
            ..Self::default()
        }
    }

    /// Reads the layout; `None` if the index has no valid one.
    pub(super) fn read(index: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; LAYOUT_BYTES];
        match index.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first offset that is (or is going to be) only in the live file.
    pub(super) fn live_start(&self) -> u64 {
        let cut = self.cut.piece().map_or(0, |piece| piece.len);
        self.shift.saturating_add(self.hole).saturating_add(cut)
    }

    /// The offset where the newest copy ends.
    pub(super) fn copies_end(&self) -> u64 {
        match self.cut.piece() {
            Some(Piece { copied: true, .. }) => self.live_start(),
            _ => self.rotated_end,
        }
    }

    /// The offset of the live file's first byte at this moment.
    ///
    /// # Errors
    /// As lseek(2).
    pub(super) fn shift_of(&self, file: &File) -> io::Result<u64> {
        match self.cut {
            Cut::None | Cut::Begun(_) => Ok(self.shift),
            Cut::Hollow(piece) if begins_with_hole(file, self.hole + piece.len)? => Ok(self.shift),
            Cut::Hollow(_) => Ok(self.live_start()),
        }
    }

    pub(super) fn encode(&self) -> [u8; LAYOUT_BYTES] {
        let (phase, piece) = match self.cut {
            Cut::None => (0, None),
            Cut::Begun(piece) => (1, Some(piece)),
            Cut::Hollow(piece) => (2, Some(piece)),
        };
        let copied = piece.is_some_and(|piece| piece.copied);
        let words: [u64; WORDS] = [
            MAGIC,
            self.changes,
            self.rotated_end,
            self.shift,
            self.hole,
            phase,
            piece.map_or(0, |piece| piece.len),
            u64::from(copied),
            self.inode,
        ];
        let mut bytes = [0; LAYOUT_BYTES];
        let (words_part, rest) = bytes.split_at_mut(WORDS * 8);
        for (layout, word) in words_part.chunks_exact_mut(8).zip(words) {
            layout.copy_from_slice(&word.to_le_bytes());
        }
        rest[..8].copy_from_slice(&checksum(words_part).to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; LAYOUT_BYTES]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        if word(0) != MAGIC || word(WORDS) != checksum(&bytes[..WORDS * 8]) {
            return None;
        }
        let piece = Piece {
            len: word(6),
            copied: word(7) != 0,
        };
        let cut = match word(5) {
            0 => Cut::None,
            1 => Cut::Begun(piece),
            2 => Cut::Hollow(piece),
            _ => return None,
        };
        Some(Self {
            changes: word(1),
            rotated_end: word(2),
            shift: word(3),
            hole: word(4),
            cut,
            inode: word(8),
        })
    }
}

/// Whether the first `len` bytes are a hole. Appended data is never a hole.
///
/// # Errors
/// As lseek(2).
pub(super) fn begins_with_hole(file: &File, len: u64) -> io::Result<bool> {
    match lseek(file.as_fd(), 0, Whence::SeekData) {
        Ok(data) => Ok(data.cast_unsigned() >= len),
        // The whole file is a hole.
        Err(Errno::ENXIO) => Ok(file.metadata()?.len() >= len),
        Err(errno) => Err(errno.into()),
    }
}

/// FNV-1a. Tells a layout from other data, and a torn write from a complete one.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_is_read_as_written(words in any::<[u64; 6]>(), phase in 0..3, copied in any::<bool>(), flip in 0..(WORDS + 1) * 8) {
            let piece = Piece { len: words[4], copied };
            let layout = Layout {
                changes: words[0],
                rotated_end: words[1],
                shift: words[2],
                hole: words[3],
                cut: [Cut::None, Cut::Begun(piece), Cut::Hollow(piece)][usize::try_from(phase).expect("small")],
                inode: words[5],
            };
            let mut bytes = layout.encode();
            prop_assert_eq!(Layout::decode(&bytes), Some(layout));
            bytes[flip] ^= 1;
            prop_assert_eq!(Layout::decode(&bytes), None);
        }
    }
}
