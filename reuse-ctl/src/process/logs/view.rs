//! Reading a log by offset, wherever its bytes are, while it is written to and rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::place::{Cut, Place, in_rotation, rotated};

/// A rotation changes the place three times; whoever reads at that moment reads again.
const ATTEMPTS: usize = 1000;

/// Bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The offset of the first: more than was asked for if what was there is gone.
    pub(super) start: u64,
    /// None: there are no more.
    pub(super) bytes: Vec<u8>,
    /// Where the log ended then.
    pub(super) log_end: u64,
    /// Where the file began that is written to.
    pub(super) live_start: u64,
}

/// Reads at most `max` bytes from offset `from` on, or from where the log begins if that is later.
///
/// # Errors
/// As open(2) and read(2). No file, no bytes.
pub(super) fn read(log: &Path, from: u64, max: usize) -> io::Result<Chunk> {
    consistently(log, |view| view.read(log, from, max))
}

/// Where a log begins and ends.
///
/// # Errors
/// As open(2) and read(2). No file, no bytes.
pub(super) fn bounds(log: &Path) -> io::Result<(u64, u64)> {
    consistently(log, |view| {
        let oldest = view.copies(log, 0)?.last().map(|copy| copy.start);
        Ok((oldest.unwrap_or(view.place.live_start()), view.end()))
    })
}

/// Where a log ends.
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

/// How the log is laid out at one moment.
struct View {
    place: Place,
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
        let place = Place::of(log)?;
        let live = open(log)?;
        // In this order: if the file is cut between the two, that is seen in the end.
        let (shift, size) = match &live {
            Some(file) => (place.shift_of(file)?, file.metadata()?.len()),
            None => (place.shift, 0),
        };
        Ok(Self {
            place,
            live,
            shift,
            size,
        })
    }

    fn is_current(&self, log: &Path) -> io::Result<bool> {
        if Place::of(log)? != self.place {
            return Ok(false);
        }
        match &self.live {
            Some(file) if matches!(self.place.cut, Cut::Hollow(_)) => Ok(self.place.shift_of(file)? == self.shift),
            _ => Ok(true),
        }
    }

    fn end(&self) -> u64 {
        match self.live {
            Some(_) => self.shift + self.size,
            None => self.place.live_start(),
        }
    }

    fn read(&self, log: &Path, from: u64, max: usize) -> io::Result<Chunk> {
        let copies = self.copies(log, from)?;
        let copy = copies.iter().rev().find(|copy| copy.end > from);
        let (start, file, file_start, file_end) = match (copy, &self.live) {
            (Some(copy), _) => (from.max(copy.start), &copy.file, copy.start, copy.end),
            (None, Some(live)) => (from.max(self.place.live_start()), live, self.shift, self.end()),
            (None, None) => {
                return Ok(Chunk {
                    start: from,
                    bytes: Vec::new(),
                    log_end: self.end(),
                    live_start: self.place.live_start(),
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
            live_start: self.place.live_start(),
        })
    }

    /// The rotated parts that end behind `from`, newest first.
    ///
    /// A rotation gives them higher numbers, beginning with the highest: whoever opens them in the order of their numbers misses none, but
    /// may meet one twice, or a gap.
    fn copies(&self, log: &Path, from: u64) -> io::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        let mut inodes = Vec::new();
        let mut end = self.place.copies_end();
        let mut gaps = 0;
        let newest = self.place.cut.piece().is_some_and(|piece| piece.copied);
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

/// Fewer bytes at the end of the file.
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
