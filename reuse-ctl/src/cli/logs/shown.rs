//! Which lines of logs are shown, and how.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::{Key, unreadable};
use crate::{
    base::Failure,
    cli::{
        output,
        terminal::{Paint, Tone},
    },
    process::logs::{MergeSource, Merged, Stream, TimedFollower},
};

/// Bytes of each followed log that are read in one go, so that Ctrl-C is noticed in between.
const BYTES_AT_A_TIME: u64 = 1 << 20;

/// Number of bytes collected before they are written.
const OUTPUT_BYTES: usize = 64 * 1024;

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) key: Key,
    follower: TimedFollower,
}

impl Written {
    pub(super) fn new(key: Key, path: &Path, start: u64, since_ms: u64) -> Self {
        Self {
            key,
            follower: TimedFollower::new(path, start, since_ms),
        }
    }

    /// Stops reading at offset `until`.
    pub(super) fn up_to(&mut self, until: u64) {
        self.follower.up_to(until);
    }

    pub(super) fn lines(&mut self) -> Result<Vec<(u64, String)>, Failure> {
        let lines = self.follower.lines();
        let lines = lines.map_err(|error| unreadable(self.follower.path(), &error))?;
        Ok(lines.into_iter().map(|line| (line.at_ms, line.text)).collect())
    }
}

/// The existing part of a log. Its last line may be unfinished, if no more output is expected.
pub(super) struct History<'a> {
    pub(super) log: &'a mut Written,
    pub(super) with_rest: bool,
}

impl MergeSource<String> for History<'_> {
    type Error = Failure;

    fn batch(&mut self) -> Result<Vec<(u64, String)>, Failure> {
        let mut lines = self.log.lines()?;
        if lines.is_empty() && self.with_rest {
            let rest = self.log.follower.rest();
            let rest = rest.map_err(|error| unreadable(self.log.follower.path(), &error))?;
            lines.extend(rest.map(|line| (line.at_ms, line.text)));
        }
        Ok(lines)
    }
}

/// How lines are shown.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) app: &'a str,
    pub(super) several: bool,
    pub(super) mark_err: bool,
    pub(super) timestamps: bool,
    pub(super) json: bool,
    pub(super) paint: Paint,
}

impl Shown<'_> {
    /// Shows everything that exists up to the end of each log's range; with `with_rest` also an unfinished line.
    pub(super) fn history(&self, written: &mut [Written], with_rest: bool) -> Result<(), Failure> {
        let keys: Vec<Key> = written.iter().map(|log| log.key).collect();
        let sources = written.iter_mut().map(|log| History { log, with_rest }).collect();
        let mut merged = Merged::new(sources);
        let mut text = String::new();
        while let Some((at_ms, log, line)) = merged.next_item()? {
            self.add(&mut text, at_ms, keys[log], &line);
            if text.len() > OUTPUT_BYTES {
                output::print(&text)?;
                text.clear();
            }
        }
        if text.is_empty() { Ok(()) } else { output::print(&text) }
    }

    /// Shows what was written since the last call, or a part of it. Returns whether there was anything.
    pub(super) fn fresh(&self, written: &mut [Written]) -> Result<bool, Failure> {
        let mut any = false;
        for log in written.iter_mut() {
            let fresh = log.follower.up_to_now(BYTES_AT_A_TIME);
            any |= fresh.map_err(|error| unreadable(log.follower.path(), &error))?;
        }
        if any {
            self.history(written, false)?;
        }
        Ok(any)
    }

    pub(super) fn add(&self, text: &mut String, at_ms: u64, (worker, stream): Key, line: &str) {
        #[derive(Serialize)]
        struct Line<'a> {
            at: String,
            app: &'a str,
            worker: u16,
            stream: &'a str,
            line: &'a str,
        }
        let at = || humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string();
        if self.json {
            let json = serde_json::to_string(&Line {
                at: at(),
                app: self.app,
                worker,
                stream: stream.as_str(),
                line,
            });
            text.push_str(&json.expect("text and numbers only"));
        } else {
            if self.timestamps {
                text.push_str(&self.paint.tone(Tone::Faint, &at()));
                text.push(' ');
            }
            match (stream, self.several) {
                (Stream::Out, true) => text.push_str(&self.paint.worker(worker, &format!("{worker}| "))),
                (Stream::Err, true) => text.push_str(&self.paint.worker(worker, &format!("{worker}! "))),
                (Stream::Err, false) if self.mark_err => text.push_str(&self.paint.tone(Tone::Bad, "! ")),
                (Stream::Out | Stream::Err, false) => {}
            }
            text.push_str(line);
        }
        text.push('\n');
    }
}
