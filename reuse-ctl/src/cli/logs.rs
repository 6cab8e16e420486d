//! `logs [ID] [-f]`: prints the workers' output in the order of time, also that of an app that has ended.
//!
//! The controller is not asked: the files and their indexes contain everything.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod shown;

use shown::{Shown, Written};

use super::{
    apps,
    args::{self, Since, Whose},
};
use crate::{
    app::names,
    base::{ErrorKind, Failure, Verb, whole_ms::whole_ms},
    cli::context::Context,
    process::{
        journal,
        logs::{POLL, Range, Stream, starts_of_last},
        paths::{AppPaths, Paths},
    },
};

/// Number of lines without `--lines` and `--since`.
const LAST_LINES: usize = 20;

pub(super) async fn run(context: &Context, arguments: &args::Logs) -> Result<(), Failure> {
    let id = id_of(arguments)?;
    let paths = paths_of(context)?;
    if paths.journal_note().exists() {
        return Err(in_the_journal(&paths, id));
    }
    let wanted = Wanted::new(arguments, id);
    let mut logs = wanted.logs_in(paths.log_dir())?;
    if logs.is_empty() && !arguments.follow {
        return Err(nothing_written(paths.log_dir(), id));
    }
    let shown = Shown {
        app: paths.name(),
        several: id.is_none(),
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

/// The worker whose output is wanted; `None`: all.
fn id_of(arguments: &args::Logs) -> Result<Option<u16>, Failure> {
    match &arguments.id {
        None | Some(Whose::All) => Ok(None),
        Some(Whose::Worker(id)) => Ok(Some(*id)),
        Some(Whose::Other(text)) => {
            let is_app = names::paths_of(text).is_ok_and(|paths| paths.log_dir().is_dir());
            Err(Failure::usage(
                format!("{text} is not a worker: workers are named by their numbers"),
                if is_app {
                    format!("the logs of that app: `reuse-ctl logs --app {text}`").into()
                } else {
                    Verb::Logs.run() + " shows all, " + Verb::Logs.with(0) + " those of worker 0"
                },
            ))
        }
    }
}

/// The paths of the app. The logs of a named app can be read even if it no longer runs.
fn paths_of(context: &Context) -> Result<AppPaths, Failure> {
    let chosen = apps::choose(&apps::list()?, context.app.as_deref());
    match (&context.app, chosen) {
        (_, Ok(app)) => names::paths_of(&app.name),
        (Some(name), Err(failure)) => {
            let paths = names::paths_of(name)?;
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
                )
                .into();
            }
            Err(failure)
        }
    }
}

fn nothing_written(folder: &Path, id: Option<u16>) -> Failure {
    let hint = Verb::Status.run() + " lists the workers";
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

/// The slot and stream of a log.
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
    fn new(arguments: &args::Logs, id: Option<u16>) -> Self {
        let since = arguments.since.map(|since| match since {
            Since::Ago(ago) => SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH),
            Since::At(time) => time,
        });
        let default_lines = since.is_none().then_some(LAST_LINES);
        let since = since.map_or(Duration::ZERO, |since| {
            since.duration_since(UNIX_EPOCH).unwrap_or_default()
        });
        Self {
            id,
            stream: match (arguments.out, arguments.err) {
                (true, _) => Some(Stream::Out),
                (false, true) => Some(Stream::Err),
                (false, false) => None,
            },
            lines: arguments.lines.or(default_lines),
            since_ms: whole_ms(since),
        }
    }

    /// The logs in `folder`. A missing folder contains no logs.
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

    /// The part of each log that is to be shown and exists now.
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
                log.up_to(range.end);
                written.push(log);
            }
        }
        Ok(written)
    }
}

/// The slot and stream of a path: `worker-<id>.log` or `worker-<id>.err.log`.
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

#[cfg(test)]
mod tests;
