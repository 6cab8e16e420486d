//! Finds the last lines of logs, reading from the end backwards, so that the length of a log doesn't matter.

use std::io;
use std::path::{Path, PathBuf};

use super::follow::{BLOCK_BYTES, LogLine, time_of};
use super::marks::Marks;
use super::view;

/// A log and the part of it to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The path of the log.
    pub log: PathBuf,
    /// The first offset.
    pub start: u64,
    /// The offset after the last byte.
    pub end: u64,
}

impl Range {
    /// Everything written after `offset`, or the whole log if someone has truncated it meanwhile.
    ///
    /// # Errors
    /// As open(2) and read(2). A missing file has no content.
    pub fn behind(log: &Path, offset: u64) -> io::Result<Self> {
        let (oldest, end) = view::bounds(log)?;
        Ok(Self {
            log: log.to_owned(),
            start: if offset > end { oldest } else { offset.max(oldest) },
            end,
        })
    }

    /// Everything that still exists of what was written at `since_ms` or later (0: everything), starting with a complete line.
    ///
    /// # Errors
    /// As open(2) and read(2). A missing file has no content.
    pub fn since(log: &Path, since_ms: u64) -> io::Result<Self> {
        let (oldest, end) = view::bounds(log)?;
        let mark = Marks::open(log)?.offset_at(since_ms)?;
        let mut range = Self {
            log: log.to_owned(),
            start: oldest,
            end,
        };
        if mark > oldest {
            // The mark may have been made in the middle of a line.
            let mut before = Backwards::new(Self {
                end: mark.min(end),
                ..range.clone()
            });
            if let Some(line) = before.next_line()? {
                let is_whole = line.bytes.last() == Some(&b'\n');
                range.start = if is_whole { line.end } else { line.start };
            }
        }
        Ok(range)
    }
}

/// The offset in each log from which the last `count` lines of all logs together begin. The beginning of each range if there are fewer
/// lines.
///
/// # Errors
/// As open(2) and read(2).
pub fn starts_of_last(ranges: &[Range], count: usize) -> io::Result<Vec<u64>> {
    let mut starts: Vec<u64> = ranges.iter().map(|range| range.end).collect();
    for_last(ranges, count, |log, line| starts[log] = line.start)?;
    Ok(starts)
}

/// The last `count` lines of all these logs together, ordered by time.
///
/// # Errors
/// As open(2) and read(2).
pub fn last_lines(ranges: &[Range], count: usize) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for_last(ranges, count, |_, line| {
        lines.push(LogLine::new(line.end, &line.bytes).text)
    })?;
    lines.reverse();
    Ok(lines)
}

fn for_last(ranges: &[Range], count: usize, mut take: impl FnMut(usize, Found)) -> io::Result<()> {
    let mut sources = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut source = LogBackwards {
            marks: Marks::open(&range.log)?,
            lines: Backwards::new(range.clone()),
            next: None,
        };
        source.advance()?;
        sources.push(source);
    }
    for _ in 0..count {
        // Of two lines with the same time the one of the later log comes first here, because forwards it comes last.
        let latest = (0..sources.len()).max_by_key(|log| (sources[*log].next.as_ref().map(|(at_ms, _)| *at_ms), *log));
        let Some(log) = latest else { break };
        let Some((_, line)) = sources[log].next.take() else {
            break;
        };
        take(log, line);
        sources[log].advance()?;
    }
    Ok(())
}

struct LogBackwards {
    marks: Marks,
    lines: Backwards,
    next: Option<(u64, Found)>,
}

impl LogBackwards {
    fn advance(&mut self) -> io::Result<()> {
        self.next = match self.lines.next_line()? {
            Some(line) => {
                let at_ms = time_of(&mut self.marks, &self.lines.range.log, line.end)?;
                Some((at_ms, line))
            }
            None => None,
        };
        Ok(())
    }
}

struct Found {
    start: u64,
    end: u64,
    bytes: Vec<u8>,
}

/// Yields the lines of a range, last line first.
struct Backwards {
    range: Range,
    /// Bytes that were read and not yet returned; they end where the range ends now.
    bytes: Vec<u8>,
}

impl Backwards {
    fn new(range: Range) -> Self {
        Self {
            range,
            bytes: Vec::new(),
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Found>> {
        loop {
            let before_last = self.bytes.len().saturating_sub(1);
            let start = self.bytes[..before_last].iter().rposition(|byte| *byte == b'\n');
            let is_begin = self.range.end - self.bytes.len() as u64 <= self.range.start;
            let at = match start {
                Some(newline) => newline + 1,
                None if is_begin && self.bytes.is_empty() => return Ok(None),
                // The first line of the log, or one so long that it is returned in pieces.
                None if is_begin || self.bytes.len() >= BLOCK_BYTES => 0,
                None => {
                    self.read_more()?;
                    continue;
                }
            };
            let bytes = self.bytes.split_off(at);
            let end = self.range.end;
            self.range.end -= bytes.len() as u64;
            return Ok(Some(Found {
                start: self.range.end,
                end,
                bytes,
            }));
        }
    }

    /// Reads the block before the bytes read so far.
    fn read_more(&mut self) -> io::Result<()> {
        let until = self.range.end - self.bytes.len() as u64;
        let mut block = Vec::new();
        let mut from = until.saturating_sub(BLOCK_BYTES as u64).max(self.range.start);
        while from + (block.len() as u64) < until {
            let at = from + block.len() as u64;
            let chunk = view::read(
                &self.range.log,
                at,
                usize::try_from(until - at).expect("at most a block"),
            )?;
            if chunk.bytes.is_empty() || chunk.start != at {
                // The content has been removed meanwhile, so the log now begins here.
                block.clear();
                from = if chunk.bytes.is_empty() {
                    until
                } else {
                    chunk.start.min(until)
                };
                self.range.start = from;
            } else {
                block.extend(chunk.bytes);
            }
        }
        block.append(&mut self.bytes);
        self.bytes = block;
        Ok(())
    }
}
