//! `logs [ID] [-f]`: what the workers have written, also those of an app that has ended, in the order of time.
//!
//! Nothing is asked of the controller: the files and their indexes have everything.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::args::{self, Since};
use super::terminal::{Paint, Tone};
use super::{Context, Failure, apps, output};
use crate::api::types::ErrorKind;
use crate::process::journal;
use crate::process::logs::{Merged, POLL, Range, Source, Stream, TimedFollower, starts_of_last};
use crate::process::paths::{AppPaths, Paths};
use crate::whole_ms::whole_ms;

/// Without `--lines` and `--since`.
const LAST_LINES: usize = 20;

/// Of each followed log, so that Ctrl-C is seen in between.
const BYTES_AT_A_TIME: u64 = 1 << 20;

/// So much is collected before it is written.
const OUTPUT_BYTES: usize = 64 * 1024;

pub(super) async fn run(context: &Context, arguments: &args::Logs) -> Result<(), Failure> {
    let paths = paths_of(context)?;
    if paths.journal_note().exists() {
        return Err(in_the_journal(&paths, arguments.id));
    }
    let wanted = Wanted::new(arguments);
    let mut logs = wanted.logs_in(paths.log_dir())?;
    if logs.is_empty() && !arguments.follow {
        return Err(nothing_written(paths.log_dir(), arguments.id));
    }
    let shown = Shown {
        app: paths.name(),
        several: arguments.id.is_none(),
        mark_err: !arguments.err && !arguments.out,
        timestamps: arguments.timestamps,
        json: context.json,
        paint: context.terminal.paint,
    };
    let mut written = wanted.written(&logs)?;
    shown.history(&mut written, !arguments.follow)?;
    if !arguments.follow {
        return Ok(());
    }
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let pause = if shown.fresh(&mut written)? {
            Duration::ZERO
        } else {
            POLL
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = &mut interrupt => return Ok(()),
        }
        for (key, path) in wanted.logs_in(paths.log_dir())? {
            if let Entry::Vacant(new) = logs.entry(key) {
                written.push(Written::new(key, &path, 0, wanted.since_ms));
                new.insert(path);
            }
        }
    }
}

/// A named app's logs can be read when it no longer runs.
fn paths_of(context: &Context) -> Result<AppPaths, Failure> {
    let chosen = apps::choose(&apps::list()?, context.app.as_deref());
    match (&context.app, chosen) {
        (_, Ok(app)) => apps::paths_of(&app.name),
        (Some(name), Err(failure)) => {
            let paths = apps::paths_of(name)?;
            if paths.log_dir().is_dir() {
                Ok(paths)
            } else {
                Err(failure)
            }
        }
        (None, Err(mut failure)) => {
            let earlier = Paths::default().logs.read_dir().into_iter().flatten().flatten().next();
            if let Some(earlier) = earlier
                && failure.kind == ErrorKind::NotFound
            {
                let name = earlier.file_name();
                failure.hint = format!(
                    "there are logs of earlier apps: `reuse-ctl --app {} logs`",
                    name.display()
                );
            }
            Err(failure)
        }
    }
}

fn nothing_written(folder: &Path, id: Option<u16>) -> Failure {
    let hint = "`reuse-ctl status` lists the workers";
    match id {
        Some(id) => Failure::not_found(format!("no log of a worker {id} in {}", folder.display()), hint),
        None => Failure::not_found(format!("no logs in {}", folder.display()), hint),
    }
}

fn in_the_journal(paths: &AppPaths, id: Option<u16>) -> Failure {
    let name = paths.name();
    let hint = match id {
        Some(id) => format!("`journalctl -t {}`", journal::identifier(name, id)),
        None => format!(
            "`journalctl -t {} -t {}`, and so on for each worker",
            journal::identifier(name, 0),
            journal::identifier(name, 1)
        ),
    };
    Failure::failed(format!("the output of {name} goes to the journal"), hint)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("read {}: {error}", path.display()), "try it with sudo")
}

/// Whose log it is.
type Key = (u16, Stream);

/// Which lines are to be shown.
#[derive(Debug)]
struct Wanted {
    id: Option<u16>,
    stream: Option<Stream>,
    lines: Option<usize>,
    since_ms: u64,
}

impl Wanted {
    fn new(arguments: &args::Logs) -> Self {
        let since = arguments.since.map(|since| match since {
            Since::Ago(ago) => SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH),
            Since::At(time) => time,
        });
        let default_lines = since.is_none().then_some(LAST_LINES);
        let since = since.map_or(Duration::ZERO, |since| {
            since.duration_since(UNIX_EPOCH).unwrap_or_default()
        });
        Self {
            id: arguments.id,
            stream: match (arguments.out, arguments.err) {
                (true, _) => Some(Stream::Out),
                (false, true) => Some(Stream::Err),
                (false, false) => None,
            },
            lines: arguments.lines.or(default_lines),
            since_ms: whole_ms(since),
        }
    }

    /// The logs in `folder`. No folder, no logs.
    fn logs_in(&self, folder: &Path) -> Result<BTreeMap<Key, PathBuf>, Failure> {
        let entries = match folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(unreadable(folder, &error)),
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let logs = paths.filter_map(|path| key_of(&path).map(|key| (key, path)));
        Ok(logs
            .filter(|((id, stream), _)| {
                self.id.is_none_or(|only| only == *id) && self.stream.is_none_or(|only| only == *stream)
            })
            .collect())
    }

    /// What is there now of each log, from where it is to be shown.
    fn written(&self, logs: &BTreeMap<Key, PathBuf>) -> Result<Vec<Written>, Failure> {
        let mut written = Vec::new();
        let workers: Vec<(&Key, &PathBuf)> = logs.iter().collect();
        for streams in workers.chunk_by(|(left, _), (right, _)| left.0 == right.0) {
            let mut ranges = Vec::new();
            for (_, path) in streams {
                ranges.push(Range::since(path, self.since_ms).map_err(|error| unreadable(path, &error))?);
            }
            if let Some(lines) = self.lines {
                let starts = starts_of_last(&ranges, lines).map_err(|error| unreadable(&ranges[0].log, &error))?;
                for (range, start) in ranges.iter_mut().zip(starts) {
                    range.start = start;
                }
            }
            for ((key, path), range) in streams.iter().zip(ranges) {
                let mut log = Written::new(**key, path, range.start, self.since_ms);
                log.follower.up_to(range.end);
                written.push(log);
            }
        }
        Ok(written)
    }
}

/// `worker-<id>.log` or `worker-<id>.err.log`.
fn key_of(path: &Path) -> Option<Key> {
    let name = path
        .file_name()?
        .to_str()?
        .strip_prefix("worker-")?
        .strip_suffix(".log")?;
    let (id, stream) = match name.strip_suffix(".err") {
        Some(id) => (id, Stream::Err),
        None => (name, Stream::Out),
    };
    Some((id.parse().ok()?, stream))
}

/// A log that is being read.
#[derive(Debug)]
struct Written {
    key: Key,
    follower: TimedFollower,
}

impl Written {
    fn new(key: Key, path: &Path, start: u64, since_ms: u64) -> Self {
        Self {
            key,
            follower: TimedFollower::new(path, start, since_ms),
        }
    }

    fn lines(&mut self) -> Result<Vec<(u64, String)>, Failure> {
        let lines = self.follower.lines();
        let lines = lines.map_err(|error| unreadable(self.follower.path(), &error))?;
        Ok(lines.into_iter().map(|line| (line.at_ms, line.text)).collect())
    }
}

/// What is there already of a log; a line that has no end yet is the last if nothing more is to come.
struct History<'a> {
    log: &'a mut Written,
    with_rest: bool,
}

impl Source<String> for History<'_> {
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
struct Shown<'a> {
    app: &'a str,
    several: bool,
    mark_err: bool,
    timestamps: bool,
    json: bool,
    paint: Paint,
}

impl Shown<'_> {
    fn history(&self, written: &mut [Written], with_rest: bool) -> Result<(), Failure> {
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

    /// What was written since the last time, or some of it. Returns whether there was anything.
    fn fresh(&self, written: &mut [Written]) -> Result<bool, Failure> {
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

    fn add(&self, text: &mut String, at_ms: u64, (worker, stream): Key, line: &str) {
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;

    use super::*;
    use crate::api::fake::Folder;
    use crate::process::logs::{KeptLog, Limits};

    const ALL: Wanted = Wanted {
        id: None,
        stream: None,
        lines: None,
        since_ms: 0,
    };

    const TEXT: Shown = Shown {
        app: "shop",
        several: true,
        mark_err: true,
        timestamps: false,
        json: false,
        paint: Paint::OFF,
    };

    fn lines(logs: &mut [Written]) -> Vec<(u16, &'static str, String)> {
        let mut all = Vec::new();
        for log in logs {
            let key = log.key;
            all.extend(
                log.lines()
                    .expect("readable")
                    .into_iter()
                    .map(|(_, line)| (key.0, key.1.as_str(), line)),
            );
        }
        all
    }

    #[test]
    fn logs_of_both_streams_grow() {
        let folder = Folder::new("logs");
        for (name, text) in [
            ("worker-0.log", "a\nb\nc\nhal"),
            ("worker-0.err.log", "e\n"),
            ("worker-10.log", "x\n"),
            ("controller.log", "no\n"),
            ("worker-0.times", "no\n"),
            ("worker-0.log.1", ""),
        ] {
            fs::write(folder.0.join(name), text).expect("ours");
        }
        let logs = ALL.logs_in(&folder.0).expect("readable");
        assert_eq!(logs.len(), 3);
        let mut written = ALL.written(&logs).expect("readable");
        let expected = [
            (0, "out", "a"),
            (0, "out", "b"),
            (0, "out", "c"),
            (0, "err", "e"),
            (10, "out", "x"),
        ];
        assert_eq!(
            lines(&mut written),
            expected.map(|(id, stream, line)| (id, stream, line.to_owned()))
        );
        assert_eq!(lines(&mut written), []);
        let mut log = File::options()
            .append(true)
            .open(folder.0.join("worker-0.log"))
            .expect("ours");
        log.write_all(b"f\nmore\n").expect("ours");
        assert_eq!(lines(&mut written), [], "what came later is for those who follow");
        for log in &mut written {
            log.follower.up_to(u64::MAX);
        }
        let expected = [(0, "out", "half"), (0, "out", "more")];
        assert_eq!(
            lines(&mut written),
            expected.map(|(id, stream, line)| (id, stream, line.to_owned()))
        );
    }

    #[test]
    fn one_worker_or_stream_only() {
        let folder = Folder::new("logs-one");
        for name in ["worker-1.log", "worker-2.log", "worker-2.err.log"] {
            fs::write(folder.0.join(name), "a\n").expect("ours");
        }
        let keys = |id, stream| {
            let wanted = Wanted { id, stream, ..ALL };
            let logs = wanted.logs_in(&folder.0).expect("readable");
            logs.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(keys(Some(2), None), [(2, Stream::Out), (2, Stream::Err)]);
        assert_eq!(keys(None, Some(Stream::Out)), [(1, Stream::Out), (2, Stream::Out)]);
        assert!(ALL.logs_in(&folder.0.join("none")).expect("none is fine").is_empty());
    }

    #[test]
    fn they_are_merged_in_the_order_of_time() {
        let folder = Folder::new("logs-merged");
        let limits = Limits {
            max_bytes: 1 << 20,
            keep: 1,
        };
        for (ms, name, line) in [
            (1_000, "worker-0.log", "first\n"),
            (2_000, "worker-1.log", "second\n"),
            (2_000, "worker-0.err.log", "also second\n"),
            (3_000, "worker-0.log", "third\n"),
            (4_000, "worker-0.err.log", "last\n"),
        ] {
            let path = folder.0.join(name);
            let mut log = File::options().append(true).create(true).open(&path).expect("ours");
            log.write_all(line.as_bytes()).expect("ours");
            log.set_modified(UNIX_EPOCH + Duration::from_millis(ms)).expect("ours");
            KeptLog::new(path, limits).look().expect("marked");
        }
        let shown = |lines, since_ms| {
            let wanted = Wanted { lines, since_ms, ..ALL };
            let written = wanted
                .written(&wanted.logs_in(&folder.0).expect("readable"))
                .expect("readable");
            let (mut text, mut written) = (String::new(), written);
            let keys: Vec<Key> = written.iter().map(|log| log.key).collect();
            let sources = written.iter_mut().map(|log| History { log, with_rest: true });
            let mut merged = Merged::new(sources.collect());
            while let Some((at_ms, log, line)) = merged.next_item().expect("readable") {
                TEXT.add(&mut text, at_ms, keys[log], &line);
            }
            text
        };
        assert_eq!(
            shown(None, 0),
            "0| first\n0! also second\n1| second\n0| third\n0! last\n"
        );
        assert_eq!(shown(Some(2), 0), "1| second\n0| third\n0! last\n");
        assert_eq!(shown(None, 2_001), "0| third\n0! last\n");
        assert_eq!(shown(Some(1), 1_500), "1| second\n0! last\n");

        let mut json = String::new();
        let as_json = Shown { json: true, ..TEXT };
        as_json.add(&mut json, 1_700_000_000_123, (3, Stream::Err), "say \"hi\"");
        let expected =
            r#"{"at":"2023-11-14T22:13:20.123Z","app":"shop","worker":3,"stream":"err","line":"say \"hi\""}"#;
        assert_eq!(json, format!("{expected}\n"));
    }
}
