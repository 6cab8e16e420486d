//! Reads a log by offset, wherever its bytes are, while it is written to and rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::layout::{Cut, Layout, in_rotation, rotated};

/// Maximum number of attempts. A rotation changes the layout three times, and a reader that meets it starts again.
const ATTEMPTS: usize = 1000;

/// Bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The offset of the first byte; larger than requested if the requested bytes are gone.
    pub(super) start: u64,
    /// The bytes; empty at the end of the log.
    pub(super) bytes: Vec<u8>,
    /// The offset of the log's end at that time.
    pub(super) log_end: u64,
    /// The offset where the live file began at that time.
    pub(super) live_start: u64,
}

/// Reads at most `max` bytes from offset `from` on, or from the log's beginning if that is later.
///
/// # Errors
/// As open(2) and read(2). A missing file has no bytes.
pub(super) fn read(log: &Path, from: u64, max: usize) -> io::Result<Chunk> {
    consistently(log, |view| view.read(log, from, max))
}

/// The offsets of a log's beginning and end.
///
/// # Errors
/// As open(2) and read(2). A missing file has no bytes.
pub(super) fn bounds(log: &Path) -> io::Result<(u64, u64)> {
    consistently(log, |view| {
        let oldest = view.copies(log, 0)?.last().map(|copy| copy.start);
        Ok((oldest.unwrap_or(view.layout.live_start()), view.end()))
    })
}

/// The offset of a log's end.
///
/// # Errors
/// As [`bounds`].
pub(super) fn end(log: &Path) -> io::Result<u64> {
    consistently(log, |view| Ok(view.end()))
}

fn consistently<T>(log: &Path, look: impl Fn(&View) -> io::Result<T>) -> io::Result<T> {
    let mut attempts = 0;
    loop {
        let view = View::take(log)?;
        let seen = look(&view);
        if view.is_current(log)? {
            return seen;
        }
        attempts += 1;
        if attempts == ATTEMPTS {
            return Err(io::Error::other("it is rotated faster than it can be read"));
        }
        std::thread::yield_now();
    }
}

/// The layout of a log at one moment.
struct View {
    layout: Layout,
    live: Option<File>,
    /// The offset of the live file's first byte.
    shift: u64,
    /// The live file's size.
    size: u64,
}

/// A rotated part.
struct Copy {
    start: u64,
    end: u64,
    file: File,
}

impl View {
    fn take(log: &Path) -> io::Result<Self> {
        let layout = Layout::of(log)?;
        let live = open(log)?;
        // In this order: if the file is cut between the two calls, the check at the end notices it.
        let (shift, size) = match &live {
            Some(file) => (layout.shift_of(file)?, file.metadata()?.len()),
            None => (layout.shift, 0),
        };
        Ok(Self {
            layout,
            live,
            shift,
            size,
        })
    }

    fn is_current(&self, log: &Path) -> io::Result<bool> {
        if Layout::of(log)? != self.layout {
            return Ok(false);
        }
        match &self.live {
            Some(file) if matches!(self.layout.cut, Cut::Hollow(_)) => Ok(self.layout.shift_of(file)? == self.shift),
            _ => Ok(true),
        }
    }

    fn end(&self) -> u64 {
        match self.live {
            Some(_) => self.shift + self.size,
            None => self.layout.live_start(),
        }
    }

    fn read(&self, log: &Path, from: u64, max: usize) -> io::Result<Chunk> {
        let copies = self.copies(log, from)?;
        let copy = copies.iter().rev().find(|copy| copy.end > from);
        let (start, file, file_start, file_end) = match (copy, &self.live) {
            (Some(copy), _) => (from.max(copy.start), &copy.file, copy.start, copy.end),
            (None, Some(live)) => (from.max(self.layout.live_start()), live, self.shift, self.end()),
            (None, None) => {
                return Ok(Chunk {
                    start: from,
                    bytes: Vec::new(),
                    log_end: self.end(),
                    live_start: self.layout.live_start(),
                });
            }
        };
        let wanted = file_end.saturating_sub(start).min(max as u64);
        let mut bytes = vec![0; usize::try_from(wanted).expect("at most `max`")];
        let read = read_at_most(file, &mut bytes, start - file_start)?;
        bytes.truncate(read);
        Ok(Chunk {
            start,
            bytes,
            log_end: self.end(),
            live_start: self.layout.live_start(),
        })
    }

    /// The rotated parts that end after `from`, newest first.
    ///
    /// A rotation gives the parts higher numbers, beginning with the highest. So a reader that opens them in ascending order misses none,
    /// but may meet one twice, or a gap.
    fn copies(&self, log: &Path, from: u64) -> io::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        let mut inodes = Vec::new();
        let mut end = self.layout.copies_end();
        let mut gaps = 0;
        let newest = self.layout.cut.piece().is_some_and(|piece| piece.copied);
        let names = newest.then(|| in_rotation(log)).into_iter();
        for path in names.chain((1..=u16::MAX).map(|number| rotated(log, number))) {
            if end <= from || gaps == 2 {
                break;
            }
            let Some(file) = open(&path)? else {
                gaps += 1;
                continue;
            };
            gaps = 0;
            let metadata = file.metadata()?;
            if inodes.contains(&metadata.ino()) {
                continue;
            }
            inodes.push(metadata.ino());
            let start = end.saturating_sub(metadata.len());
            copies.push(Copy { start, end, file });
            end = start;
        }
        Ok(copies)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads into the buffer; fewer bytes at the end of the file.
fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
