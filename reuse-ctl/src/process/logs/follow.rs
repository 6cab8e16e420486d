//! Reads a log forwards, line by line, as it grows.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::marks::Marks;
use super::seen::Seen;
use super::view::{self, Chunk};

/// No more than this is read at once, and a line that is longer is given out in pieces.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// How often a log is looked at for new lines.
pub const POLL: Duration = Duration::from_millis(200);

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The offset behind it.
    pub end: u64,
    /// Without its end; what is not UTF-8 is U+FFFD.
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

/// Reads a log as it grows, over rotations too.
#[derive(Debug)]
pub struct Follower {
    log: PathBuf,
    /// What is to be read next.
    offset: u64,
    /// Nothing is read from there on.
    until: u64,
    /// The beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
    /// How the file was when everything in it had been read.
    finished: Option<Seen>,
}

impl Follower {
    /// Begins at `offset`, as [`len`](super::len) counts; the file may not be there yet.
    pub fn new(log: impl Into<PathBuf>, offset: u64) -> Self {
        Self {
            log: log.into(),
            offset,
            until: u64::MAX,
            partial: Vec::new(),
            finished: None,
        }
    }

    /// The log.
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// Waits for the next complete lines, looking every 200 ms. Cancel-safe: what was not given out is given out next time.
    ///
    /// # Errors
    /// As open(2) and read(2). No file is waited for.
    pub async fn next(&mut self) -> io::Result<Vec<String>> {
        loop {
            let lines = self.poll()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The complete lines that are there now, some of them if there are many.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        Ok(self.lines()?.into_iter().map(|line| line.text).collect())
    }

    /// As [`Self::poll`], with their places.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn lines(&mut self) -> io::Result<Vec<LogLine>> {
        loop {
            // Most often nothing is new, and many logs are looked at: this is the one system call then.
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

    /// What was written of a line that has no end, when nothing more is expected.
    pub fn rest(&mut self) -> Option<LogLine> {
        let partial = std::mem::take(&mut self.partial);
        (!partial.is_empty()).then(|| LogLine::new(self.offset, &partial))
    }

    fn take(&mut self, mut chunk: Chunk) -> Vec<LogLine> {
        if chunk.log_end < self.offset && chunk.live_start < self.offset {
            // Someone has cut the file short. What is in it is new.
            self.offset = chunk.live_start;
            self.partial.clear();
            return Vec::new();
        }
        if chunk.start != self.offset {
            // What was there is gone, and the rest of a line begun before with it.
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

/// A line and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedLine {
    /// Milliseconds since 1970: at most some 200 ms too late while a controller runs.
    pub at_ms: u64,
    /// The line.
    pub text: String,
}

/// A [`Follower`] that knows when the lines were written.
#[derive(Debug)]
pub struct TimedFollower {
    follower: Follower,
    marks: Marks,
    /// What is older is left out.
    since_ms: u64,
    last_ms: u64,
}

impl TimedFollower {
    /// Begins at `offset`, and leaves out what is older than `since_ms`.
    pub fn new(log: impl Into<PathBuf>, offset: u64, since_ms: u64) -> Self {
        Self {
            follower: Follower::new(log, offset),
            marks: Marks::default(),
            since_ms,
            last_ms: 0,
        }
    }

    /// Reads nothing from offset `until` on.
    pub fn up_to(&mut self, until: u64) {
        self.follower.until = until;
    }

    /// Reads what is there now and no more, nor more than `max_bytes`. False: nothing is new.
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
        // If it was cut short by someone, where to go on is found when it is read.
        follower.until = end
            .min(follower.offset.saturating_add(max_bytes))
            .max(follower.offset + 1);
        Ok(true)
    }

    /// The log.
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

/// When the line that ends at `end` was written. What no controller has seen yet has the time of the last write to the file.
pub(super) fn time_of(marks: &mut Marks, log: &Path, end: u64) -> io::Result<u64> {
    if let Some(at_ms) = marks.time_of(end)? {
        return Ok(at_ms);
    }
    let last = marks.last()?.map_or(0, |mark| mark.at_ms);
    Ok(Seen::at(log)?.map_or(0, |seen| seen.modified_ms()).max(last))
}
