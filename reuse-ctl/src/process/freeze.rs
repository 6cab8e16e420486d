//! Freezes every process of an instance for a moment.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{cgroup::InstanceCgroup, thaw_guard::ThawGuard};

/// Freezes cgroups for a moment, one at a time, and never for good: a separate process thaws a frozen cgroup if this process dies or hangs.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Freezer {
    guard: Arc<Mutex<Option<ThawGuard>>>,
}

/// The frozen processes of a cgroup. Dropping this thaws them, unless another program had frozen them before. The processes notice only
/// that time has passed.
#[derive(Debug)]
pub struct Frozen {
    control: PathBuf,
    /// `None` in tests.
    freezer: Option<Freezer>,
    /// Another program had frozen the cgroup before, and has to thaw it.
    by_another: bool,
    /// Whether all processes have stopped, and not only been told to.
    pub complete: bool,
}

impl Freezer {
    /// Freezes every process in the cgroup and below, and waits at most `patience` until all have stopped. This usually takes 0.1 to 0.2
    /// ms, and some milliseconds the first time. A process in an uninterruptible kernel call doesn't stop in time, but it will stop before
    /// it runs its own code again.
    ///
    /// # Errors
    /// Fails if the cgroup's files can't be used, or if the guard process that would thaw it can't be started. Nothing is frozen then.
    pub fn freeze(&self, cgroup: &InstanceCgroup, patience: Duration) -> io::Result<Frozen> {
        self.say(|guard| guard.watch(&control_of(cgroup.path())))?;
        let mut frozen = freeze(cgroup.path(), patience);
        match &mut frozen {
            Ok(frozen) => frozen.freezer = Some(self.clone()),
            Err(_) => self.say(ThawGuard::rest)?,
        }
        frozen
    }

    /// If the guard has ended, the next call starts a new one.
    fn say(&self, what: impl FnOnce(&mut ThawGuard) -> io::Result<()>) -> io::Result<()> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let said = match &mut *guard {
            Some(guard) => what(guard),
            none => what(none.insert(ThawGuard::start()?)),
        };
        said.inspect_err(|_| *guard = None)
    }
}

fn control_of(cgroup: &Path) -> PathBuf {
    cgroup.join("cgroup.freeze")
}

pub(crate) fn freeze(cgroup: &Path, patience: Duration) -> io::Result<Frozen> {
    let deadline = Instant::now() + patience;
    let mut events = File::open(cgroup.join("cgroup.events"))?;
    let control = control_of(cgroup);
    let by_another = fs::read_to_string(&control)?.trim() == "1";
    let mut frozen = Frozen {
        control,
        freezer: None,
        by_another,
        complete: false,
    };
    fs::write(&frozen.control, "1")?;
    let mut text = String::new();
    loop {
        text.clear();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        frozen.complete = text.lines().any(|line| line == "frozen 1");
        let left = deadline.saturating_duration_since(Instant::now());
        if frozen.complete || left.is_zero() {
            return Ok(frozen);
        }
        // The kernel reports POLLPRI when the file has changed since it was read.
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
        if let Some(Err(error)) = self.freezer.take().map(|freezer| freezer.say(ThawGuard::rest)) {
            tracing::warn!("the guard of frozen workers has ended: {error}");
        }
    }
}

impl Frozen {
    fn thaw(&self) {
        if self.by_another {
            return;
        }
        // If the cgroup is gone, no process is frozen.
        if let Err(error) = fs::write(&self.control, "0")
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", self.control.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_frozen_stays_so() {
        for before in ["0", "1"] {
            let cgroup = std::env::temp_dir().join(format!("reuse-ctl-freeze-{}-{before}", std::process::id()));
            fs::create_dir(&cgroup).expect("a folder");
            let control = cgroup.join("cgroup.freeze");
            fs::write(cgroup.join("cgroup.events"), "populated 1\nfrozen 1\n").expect("written");
            fs::write(&control, format!("{before}\n")).expect("written");
            let frozen = freeze(&cgroup, Duration::ZERO).expect("frozen");
            assert!(frozen.complete);
            assert_eq!(fs::read_to_string(&control).expect("read"), "1");
            drop(frozen);
            assert_eq!(fs::read_to_string(&control).expect("read").trim(), before);
            fs::remove_dir_all(&cgroup).expect("removed");
        }
    }
}
