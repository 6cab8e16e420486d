//! A cgroup and all cgroups below it as a folder tree, any part of which may vanish at any time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::cgroup::{CgroupError, Result};
use super::handle::ProcessHandle;

/// Number of attempts to remove a cgroup: the kernel frees it shortly after its last process was reaped.
const REMOVE_ATTEMPTS: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);
/// Number of rounds of SIGKILL. Without `cgroup.kill` (Linux < 5.14) processes may fork faster than they are killed; each round leaves
/// fewer.
const KILL_ROUNDS: u32 = 200;

pub(super) fn inode(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(CgroupError::io("stat", path))?.ino())
}

/// Whether a cgroup has been removed. Reading one of its files then fails with ENODEV, opening one with ENOENT.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Calls `each` for `path` and everything below, parents first.
pub(super) fn visit(path: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    each(path)?;
    for child in children(path)? {
        visit(&child, each)?;
    }
    Ok(())
}

fn children(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(CgroupError::io("read", path)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.file_type()?.is_dir(), entry.path()))) {
            Ok((true, child)) => found.push(child),
            Ok((false, _)) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(CgroupError::io("read", path)(error)),
        }
    }
    Ok(found)
}

pub(super) fn pids_below(path: &Path) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    visit(path, &mut |path| {
        let file = path.join("cgroup.procs");
        match fs::read_to_string(&file) {
            // 0 is a process of another pid namespace, which has no number here.
            Ok(text) => pids.extend(
                text.lines()
                    .filter_map(|line| line.parse::<u32>().ok())
                    .filter(|pid| *pid != 0),
            ),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(CgroupError::io("read", &file)(error)),
        }
        Ok(())
    })?;
    Ok(pids)
}

pub(super) fn kill(path: &Path) -> Result<()> {
    let file = path.join("cgroup.kill");
    match OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|mut file| file.write_all(b"1"))
    {
        Ok(()) => Ok(()),
        Err(error) if is_gone(&error) => kill_one_by_one(path),
        Err(error) => Err(CgroupError::io("write", &file)(error)),
    }
}

pub(super) fn kill_one_by_one(path: &Path) -> Result<()> {
    for _ in 0..KILL_ROUNDS {
        let pids = pids_below(path)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            // A process that has ended, or is a zombie, needs no killing.
            if let Ok(process) = ProcessHandle::open(pid) {
                drop(process.signal(Signal::SIGKILL));
            }
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the kernel tells nobody when a dying process has left its cgroup; the loop is bounded"
        )]
        std::thread::sleep(REMOVE_PAUSE);
    }
    Err(CgroupError::Unkillable {
        path: path.to_owned(),
        pids: pids_below(path)?,
    })
}

pub(super) fn remove_tree(path: &Path) -> Result<()> {
    for child in children(path)? {
        remove_tree(&child)?;
    }
    let mut attempts = 1;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempts < REMOVE_ATTEMPTS => {
                attempts += 1;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the kernel tells nobody when a dying process has left its cgroup; the loop is bounded"
                )]
                std::thread::sleep(REMOVE_PAUSE);
            }
            Err(error) => return Err(CgroupError::io("rmdir", path)(error)),
        }
    }
}
