//! `logs [ID] [-f]`: what the workers have written, also those of an app that has ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::apps::{self, LOG_FOLDER};
use super::{Context, Failure, args, output};

/// How often followed files are looked at.
const POLL: Duration = Duration::from_millis(200);
/// How much is read at once; older lines than these last ones are not looked for.
const TAIL_BYTES: u64 = 4 << 20;

pub(super) async fn run(context: &Context, arguments: &args::Logs) -> Result<(), Failure> {
    let folder = folder_of(context)?;
    let mut files = Files::default();
    files.look(&folder, arguments.id)?;
    if files.by_worker.is_empty() && !arguments.follow {
        return Err(nothing_written(&folder, arguments.id));
    }
    let several = arguments.id.is_none();
    for (id, lines) in files.last_lines(arguments.lines)? {
        show(context, id, several, &lines)?;
    }
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    while arguments.follow {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = &mut interrupt => break,
        }
        files.look(&folder, arguments.id)?;
        for (id, lines) in files.new_lines()? {
            show(context, id, several, &lines)?;
        }
    }
    Ok(())
}

/// A named app's logs can be read when it no longer runs.
fn folder_of(context: &Context) -> Result<PathBuf, Failure> {
    let logs = Path::new(LOG_FOLDER);
    match (&context.app, apps::choose(&apps::list()?, context.app.as_deref())) {
        (_, Ok(app)) => Ok(logs.join(app.name)),
        (Some(name), Err(_)) if !name.contains('/') && name != ".." && logs.join(name).is_dir() => Ok(logs.join(name)),
        (Some(_), Err(failure)) => Err(failure),
        (None, Err(mut failure)) => {
            let earlier: Vec<String> = logs
                .read_dir()
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            if let [first, ..] = &*earlier
                && failure.kind == crate::api::types::ErrorKind::NotFound
            {
                failure.hint = format!("there are logs of earlier apps: `reuse-ctl --app {first} logs`");
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

/// The followed files by worker.
#[derive(Debug, Default)]
struct Files {
    by_worker: BTreeMap<u16, Followed>,
    /// The folder was looked at before: files that appear now are shown from their beginning.
    was_looked_at: bool,
}

#[derive(Debug)]
struct Followed {
    path: PathBuf,
    inode: u64,
    /// Where what was not read yet begins.
    offset: u64,
    /// The beginning of a line that is not complete yet.
    partial: Vec<u8>,
    /// Its end was not looked for yet.
    is_fresh: bool,
}

impl Files {
    /// Finds the log files, also those that have appeared since the last look.
    fn look(&mut self, folder: &Path, only: Option<u16>) -> Result<(), Failure> {
        let entries = match folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(folder, &error)),
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(id) = worker_of(&path).filter(|id| only.is_none_or(|only| only == *id)) else {
                continue;
            };
            let is_fresh = !self.was_looked_at;
            let file = || Followed {
                path,
                inode: 0,
                offset: 0,
                partial: Vec::new(),
                is_fresh,
            };
            self.by_worker.entry(id).or_insert_with(file);
        }
        self.was_looked_at = true;
        Ok(())
    }

    /// The last `count` lines of each.
    fn last_lines(&mut self, count: usize) -> Result<Vec<(u16, Vec<String>)>, Failure> {
        let mut lines = self.new_lines()?;
        for (_, lines) in &mut lines {
            lines.drain(..lines.len().saturating_sub(count));
        }
        Ok(lines)
    }

    /// The complete lines that were written since the last call.
    fn new_lines(&mut self) -> Result<Vec<(u16, Vec<String>)>, Failure> {
        let read = |(id, file): (&u16, &mut Followed)| file.new_lines().map(|lines| (*id, lines));
        let lines: Result<Vec<_>, _> = self.by_worker.iter_mut().map(read).collect();
        Ok(lines?.into_iter().filter(|(_, lines)| !lines.is_empty()).collect())
    }
}

impl Followed {
    fn new_lines(&mut self) -> Result<Vec<String>, Failure> {
        let bytes = match self.new_bytes() {
            Ok(bytes) => bytes,
            // It is being rotated; it comes back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&self.path, &error)),
        };
        self.partial.extend(bytes);
        let complete = self
            .partial
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let text: Vec<u8> = self.partial.drain(..complete).collect();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    fn new_bytes(&mut self) -> io::Result<Vec<u8>> {
        let found = fs::metadata(&self.path)?;
        let was_replaced = self.inode != 0 && self.inode != found.ino();
        if was_replaced || found.len() < self.offset {
            self.offset = 0;
            self.partial.clear();
        }
        self.inode = found.ino();
        let mut bytes = Vec::new();
        if found.len() == self.offset {
            return Ok(bytes);
        }
        let mut file = File::open(&self.path)?;
        let skipped = std::mem::take(&mut self.is_fresh)
            .then(|| found.len().saturating_sub(TAIL_BYTES))
            .unwrap_or_default();
        self.offset = self.offset.max(skipped);
        file.seek(SeekFrom::Start(self.offset))?;
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        self.offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if skipped > 0 {
            // It most likely begins within a line.
            let first = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            bytes.drain(..first);
        }
        Ok(bytes)
    }
}

/// `worker-<id>.log`.
fn worker_of(path: &Path) -> Option<u16> {
    path.file_name()?
        .to_str()?
        .strip_prefix("worker-")?
        .strip_suffix(".log")?
        .parse()
        .ok()
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("read {}: {error}", path.display()), "try it with sudo")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::api::fake::Folder;

    #[test]
    fn tails_follows_and_survives_rotation() {
        let folder = Folder::new("logs");
        let path = |id: u16| folder.0.join(format!("worker-{id}.log"));
        fs::write(path(0), "a\nb\nc\nhal").expect("ours");
        fs::write(path(10), "x\n").expect("ours");
        fs::write(folder.0.join("controller.log"), "no\n").expect("ours");
        let mut files = Files::default();
        files.look(&folder.0, None).expect("readable");
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            files.last_lines(2).expect("readable"),
            [(0, owned(&["b", "c"])), (10, owned(&["x"]))]
        );
        assert_eq!(files.new_lines().expect("readable"), []);
        let mut log = File::options().append(true).open(path(0)).expect("ours");
        log.write_all(b"f\nmore\n").expect("ours");
        assert_eq!(files.new_lines().expect("readable"), [(0, owned(&["half", "more"]))]);
        fs::rename(path(0), folder.0.join("worker-0.log.1")).expect("ours");
        assert_eq!(files.new_lines().expect("it comes back"), []);
        fs::write(path(0), "new\n").expect("ours");
        fs::write(path(3), "late\n").expect("ours");
        files.look(&folder.0, None).expect("readable");
        assert_eq!(
            files.new_lines().expect("readable"),
            [(0, owned(&["new"])), (3, owned(&["late"]))]
        );
        fs::write(path(10), "").expect("ours");
        assert_eq!(files.new_lines().expect("readable"), []);
        fs::write(path(10), "y\n").expect("ours");
        assert_eq!(files.new_lines().expect("readable"), [(10, owned(&["y"]))]);
    }

    #[test]
    fn one_worker_only() {
        let folder = Folder::new("logs-one");
        fs::write(folder.0.join("worker-1.log"), "a\n").expect("ours");
        fs::write(folder.0.join("worker-2.log"), "b\n").expect("ours");
        let mut files = Files::default();
        files.look(&folder.0, Some(2)).expect("readable");
        assert_eq!(files.last_lines(9).expect("readable"), [(2, vec!["b".to_owned()])]);
    }
}
