//! Reads a log forwards, line by line, as it grows.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::marks::Marks;
use super::seen::Seen;
use super::view::{self, Chunk};

/// Maximum number of bytes read at once. A longer line is returned in pieces.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// Interval of looks for new lines.
pub const POLL: Duration = Duration::from_millis(200);

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The offset of the line's end.
    pub end: u64,
    /// The text without the newline. Invalid UTF-8 is replaced by U+FFFD.
    pub text: String,
}

impl LogLine {
    pub(super) fn new(end: u64, bytes: &[u8]) -> Self {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Self {
            end,
            text: String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// Reads a log as it grows, across rotations.
#[derive(Debug)]
pub struct Follower {
    log: PathBuf,
    /// The next offset to read.
    offset: u64,
    /// Reading stops at this offset.
    until: u64,
    /// The beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
    /// The state of the file when everything in it had been read.
    finished: Option<Seen>,
}

impl Follower {
    /// Starts at `offset`, as counted by [`len`](super::len). The file may not exist yet.
    pub fn new(log: impl Into<PathBuf>, offset: u64) -> Self {
        Self {
            log: log.into(),
            offset,
            until: u64::MAX,
            partial: Vec::new(),
            finished: None,
        }
    }

    /// The path of the log.
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// Waits for the next complete lines, looking every 200 ms. Cancel-safe: lines that were not returned are returned by the next call.
    ///
    /// # Errors
    /// As open(2) and read(2). A missing file is waited for.
    pub async fn next(&mut self) -> io::Result<Vec<String>> {
        loop {
            let lines = self.poll()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The complete lines available now; only some of them if there are many.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        Ok(self.lines()?.into_iter().map(|line| line.text).collect())
    }

    /// As [`Self::poll`], with the offsets of the lines.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn lines(&mut self) -> io::Result<Vec<LogLine>> {
        loop {
            // Usually nothing is new and many logs are watched; then this is the only system call.
            let seen = Seen::at(&self.log)?;
            if seen.is_some() && seen == self.finished {
                return Ok(Vec::new());
            }
            let wanted = (self.until.saturating_sub(self.offset)).min(BLOCK_BYTES as u64);
            let wanted = usize::try_from(wanted).expect("at most a block");
            let chunk = view::read(&self.log, self.offset, wanted)?;
            let was_cut_short = chunk.log_end < self.offset && chunk.live_start < self.offset;
            if chunk.bytes.is_empty() && !was_cut_short {
                if chunk.log_end <= self.offset {
                    self.finished = seen;
                }
                return Ok(Vec::new());
            }
            let lines = self.take(chunk);
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }

    /// The part of an unfinished line, when no more output is expected.
    pub fn rest(&mut self) -> Option<LogLine> {
        let partial = std::mem::take(&mut self.partial);
        (!partial.is_empty()).then(|| LogLine::new(self.offset, &partial))
    }

    fn take(&mut self, mut chunk: Chunk) -> Vec<LogLine> {
        if chunk.log_end < self.offset && chunk.live_start < self.offset {
            // Someone has truncated the file. Its content is new.
            self.offset = chunk.live_start;
            self.partial.clear();
            return Vec::new();
        }
        if chunk.start != self.offset {
            // The old content is gone, and with it the rest of a line begun before.
            self.partial.clear();
        }
        self.offset = chunk.start + chunk.bytes.len() as u64;
        self.partial.append(&mut chunk.bytes);
        let complete = match self.partial.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if self.partial.len() >= BLOCK_BYTES => self.partial.len(),
            None => return Vec::new(),
        };
        let rest = self.partial.split_off(complete);
        let text = std::mem::replace(&mut self.partial, rest);
        let mut end = self.offset - (self.partial.len() + text.len()) as u64;
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| {
                end += line.len() as u64;
                LogLine::new(end, line)
            })
            .collect()
    }
}

/// A line and the time when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedLine {
    /// Milliseconds since 1970; at most about 200 ms late while a controller runs.
    pub at_ms: u64,
    /// The line.
    pub text: String,
}

/// A [`Follower`] that knows when the lines were written.
#[derive(Debug)]
pub struct TimedFollower {
    follower: Follower,
    marks: Marks,
    /// Older lines are skipped.
    since_ms: u64,
    last_ms: u64,
}

impl TimedFollower {
    /// Starts at `offset`, and skips lines older than `since_ms`.
    pub fn new(log: impl Into<PathBuf>, offset: u64, since_ms: u64) -> Self {
        Self {
            follower: Follower::new(log, offset),
            marks: Marks::default(),
            since_ms,
            last_ms: 0,
        }
    }

    /// Stops reading at offset `until`.
    pub fn up_to(&mut self, until: u64) {
        self.follower.until = until;
    }

    /// Limits reading to what is there now, and to at most `max_bytes`. Returns false if nothing is new.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub fn up_to_now(&mut self, max_bytes: u64) -> io::Result<bool> {
        let follower = &mut self.follower;
        let seen = Seen::at(&follower.log)?;
        if seen.is_none() || seen == follower.finished {
            return Ok(false);
        }
        let end = view::end(&follower.log)?;
        if end == follower.offset {
            follower.finished = seen;
            return Ok(false);
        }
        // If someone has truncated the file, reading finds out where to continue.
        follower.until = end
            .min(follower.offset.saturating_add(max_bytes))
            .max(follower.offset + 1);
        Ok(true)
    }

    /// The path of the log.
    pub fn path(&self) -> &Path {
        self.follower.path()
    }

    /// As [`Follower::lines`].
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub fn lines(&mut self) -> io::Result<Vec<TimedLine>> {
        loop {
            let lines = self.follower.lines()?;
            let Some(last) = lines.last() else {
                return Ok(Vec::new());
            };
            if self.marks.last()?.is_none_or(|mark| mark.offset < last.end) {
                self.marks = Marks::open(self.path())?;
            }
            let timed = self.timed(lines)?;
            if !timed.is_empty() {
                return Ok(timed);
            }
        }
    }

    /// As [`Follower::rest`].
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub fn rest(&mut self) -> io::Result<Option<TimedLine>> {
        let rest = self.follower.rest().into_iter().collect();
        Ok(self.timed(rest)?.pop())
    }

    fn timed(&mut self, lines: Vec<LogLine>) -> io::Result<Vec<TimedLine>> {
        let mut timed = Vec::with_capacity(lines.len());
        for line in lines {
            let at_ms = time_of(&mut self.marks, self.follower.path(), line.end)?.max(self.last_ms);
            self.last_ms = at_ms;
            if at_ms >= self.since_ms {
                timed.push(TimedLine { at_ms, text: line.text });
            }
        }
        Ok(timed)
    }
}

/// When the line that ends at `end` was written. A part that no controller has seen yet has the time of the last write to the file.
pub(super) fn time_of(marks: &mut Marks, log: &Path, end: u64) -> io::Result<u64> {
    if let Some(at_ms) = marks.time_of(end)? {
        return Ok(at_ms);
    }
    let last = marks.last()?.map_or(0, |mark| mark.at_ms);
    Ok(Seen::at(log)?.map_or(0, |seen| seen.modified_ms()).max(last))
}
