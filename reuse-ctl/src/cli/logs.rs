//! `logs [ID] [-f]`: what the workers have written, also those of an app that has ended.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::{Context, Failure, apps, args, output};
use crate::api::types::ErrorKind;
use crate::process::logs::{Follower, offset_of_last, tail_since};
use crate::process::paths::Paths;

/// How often followed logs are looked at.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn run(context: &Context, arguments: &args::Logs) -> Result<(), Failure> {
    let folder = folder_of(context)?;
    let several = arguments.id.is_none();
    if !arguments.follow {
        let logs = logs_in(&folder, arguments.id)?;
        if logs.is_empty() {
            return Err(nothing_written(&folder, arguments.id));
        }
        for (id, path) in logs {
            let lines = tail_since(&path, 0, arguments.lines).map_err(|error| unreadable(&path, &error))?;
            show(context, id, several, &lines)?;
        }
        return Ok(());
    }
    let mut followed = Followed::new(folder, arguments.id);
    let mut lines_before = Some(arguments.lines);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        followed.look(lines_before.take())?;
        for (id, lines) in followed.new_lines()? {
            show(context, id, several, &lines)?;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = &mut interrupt => return Ok(()),
        }
    }
}

/// A named app's logs can be read when it no longer runs.
fn folder_of(context: &Context) -> Result<PathBuf, Failure> {
    let chosen = apps::choose(&apps::list()?, context.app.as_deref());
    match (&context.app, chosen) {
        (_, Ok(app)) => Ok(apps::paths_of(&app.name)?.log_dir().to_owned()),
        (Some(name), Err(failure)) => {
            let folder = apps::paths_of(name)?.log_dir().to_owned();
            if folder.is_dir() { Ok(folder) } else { Err(failure) }
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

fn show(context: &Context, id: u16, several: bool, lines: &[String]) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        worker: u16,
        line: &'a str,
    }
    if context.json {
        return lines
            .iter()
            .try_for_each(|line| output::print_json(&Line { worker: id, line }));
    }
    let prefix = if several {
        context.terminal.paint.worker(id, &format!("{id}| "))
    } else {
        String::new()
    };
    let text: String = lines.iter().flat_map(|line| [prefix.as_str(), line, "\n"]).collect();
    output::print(&text)
}

/// The logs in `folder` by worker: `worker-<id>.log`. No folder, no logs.
fn logs_in(folder: &Path, only: Option<u16>) -> Result<BTreeMap<u16, PathBuf>, Failure> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let logs = paths.filter_map(|path| worker_of(&path).map(|id| (id, path)));
    Ok(logs.filter(|(id, _)| only.is_none_or(|only| only == *id)).collect())
}

fn worker_of(path: &Path) -> Option<u16> {
    path.file_name()?
        .to_str()?
        .strip_prefix("worker-")?
        .strip_suffix(".log")?
        .parse()
        .ok()
}

/// Logs that are read as they grow, and as workers are added.
#[derive(Debug)]
struct Followed {
    folder: PathBuf,
    only: Option<u16>,
    by_worker: BTreeMap<u16, (PathBuf, Follower)>,
}

impl Followed {
    fn new(folder: PathBuf, only: Option<u16>) -> Self {
        Self {
            folder,
            only,
            by_worker: BTreeMap::new(),
        }
    }

    /// Finds logs that it does not know yet; of these the last `lines` will be read, or everything.
    fn look(&mut self, lines: Option<usize>) -> Result<(), Failure> {
        for (id, path) in logs_in(&self.folder, self.only)? {
            if self.by_worker.contains_key(&id) {
                continue;
            }
            let offset = lines.map_or(Ok(0), |lines| offset_of_last(&path, lines));
            let offset = offset.map_err(|error| unreadable(&path, &error))?;
            self.by_worker.insert(id, (path.clone(), Follower::new(path, offset)));
        }
        Ok(())
    }

    /// The complete lines that were written since the last call.
    fn new_lines(&mut self) -> Result<Vec<(u16, Vec<String>)>, Failure> {
        let mut all = Vec::new();
        for (id, (path, follower)) in &mut self.by_worker {
            loop {
                let lines = follower.poll().map_err(|error| unreadable(path, &error))?;
                if lines.is_empty() {
                    break;
                }
                all.push((*id, lines));
            }
        }
        Ok(all)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("read {}: {error}", path.display()), "try it with sudo")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;

    use super::*;
    use crate::api::fake::Folder;

    #[test]
    fn logs_grow_and_appear() {
        let folder = Folder::new("logs");
        let path = |id: u16| folder.0.join(format!("worker-{id}.log"));
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        fs::write(path(0), "a\nb\nc\nhal").expect("ours");
        fs::write(path(10), "x\n").expect("ours");
        fs::write(folder.0.join("controller.log"), "no\n").expect("ours");
        let mut followed = Followed::new(folder.0.clone(), None);
        followed.look(Some(2)).expect("readable");
        assert_eq!(
            followed.new_lines().expect("readable"),
            [(0, owned(&["b", "c"])), (10, owned(&["x"]))]
        );
        assert_eq!(followed.new_lines().expect("readable"), []);
        let mut log = File::options().append(true).open(path(0)).expect("ours");
        log.write_all(b"f\nmore\n").expect("ours");
        fs::write(path(3), "late\nlines\nall\n").expect("ours");
        followed.look(None).expect("readable");
        let expected = [(0, owned(&["half", "more"])), (3, owned(&["late", "lines", "all"]))];
        assert_eq!(followed.new_lines().expect("readable"), expected);
    }

    #[test]
    fn one_worker_only() {
        let folder = Folder::new("logs-one");
        for id in [1, 2] {
            fs::write(folder.0.join(format!("worker-{id}.log")), "a\n").expect("ours");
        }
        let found: Vec<u16> = logs_in(&folder.0, Some(2)).expect("readable").into_keys().collect();
        assert_eq!(found, [2]);
        assert!(logs_in(&folder.0.join("none"), None).expect("none is fine").is_empty());
    }
}
