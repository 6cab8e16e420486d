//! Replaces healthy workers, for the reasons in [`recycle_rules`](super::recycle_rules). It uses the same requests as a user, so that the
//! machine's rules apply, and only while no request of a user is in progress.

use super::{
    live::BackgroundEvent,
    recycle_files::{Files, WatchError},
    recycle_rules::RecycleRules,
};
use crate::{
    app::{
        options::{RecycleOptions, WatchOptions},
        recycle_changes::Ignored,
        recycle_cron::{self, Timetable},
    },
    base::RequestId,
    process::{cgroup::InstanceCgroup, usage},
};
use chrono::Local;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Interval of looks at the workers.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Interval of attempts to replace all workers while something else is in progress.
pub(crate) const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Starts to watch files; the app's own `folders` are excluded. Needs a runtime.
///
/// # Errors
/// Fails if a path is missing or can't be watched.
pub(crate) fn watch(options: &WatchOptions, base: &Path, folders: Vec<PathBuf>) -> Result<Files, WatchError> {
    // The globs were checked together with the options.
    let ignored = Ignored::new(&options.ignore, base, folders).expect("check() has seen them");
    Files::watch(&options.paths, base, ignored, options.delay)
}

/// The state of recycling.
#[derive(Debug)]
pub(crate) struct Recycle {
    pub(crate) rules: RecycleRules,
    pub(crate) cron: Option<Timetable<Local>>,
    pub(crate) next_cron_look: Instant,
    pub(crate) next_look: Instant,
    /// Whether memory is being measured.
    pub(crate) measuring: bool,
    /// The request that carries out the current replacement.
    pub(crate) asked: Option<RequestId>,
    watching: Option<JoinHandle<()>>,
}

impl Recycle {
    /// Starts with `files` being watched.
    pub(crate) fn new(
        options: &RecycleOptions,
        files: Option<Files>,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) -> Self {
        Self {
            rules: RecycleRules::new(options, fastrand::u64(..)),
            cron: timetable(options),
            next_cron_look: Instant::now(),
            next_look: Instant::now() + LOOK_EVERY,
            measuring: false,
            asked: None,
            watching: files.map(|files| tokio::spawn(files.tell(background_events.clone()))),
        }
    }

    /// Sets new options. What is in progress, waits or pauses because of the old options continues.
    pub(crate) fn change(&mut self, old: &RecycleOptions, new: &RecycleOptions) {
        self.rules.change(new);
        if old.cron != new.cron {
            self.cron = timetable(new);
            self.next_cron_look = Instant::now();
        }
        self.next_look = self.next_look.min(Instant::now() + LOOK_EVERY);
    }

    /// Watches other files from now on, or none.
    pub(crate) fn watch(&mut self, files: Option<Files>, background_events: &mpsc::Sender<BackgroundEvent>) {
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        self.watching = files.map(|files| tokio::spawn(files.tell(background_events.clone())));
    }

    /// When the next look is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let look = (self.rules.looks_at_workers() || self.rules.is_waiting()).then_some(self.next_look);
        let cron = self.cron.as_ref().map(|_| self.next_cron_look);
        [look, cron].into_iter().flatten().min()
    }
}

fn timetable(options: &RecycleOptions) -> Option<Timetable<Local>> {
    let cron = recycle_cron::parse(options.cron.as_deref()?).ok()?;
    Some(Timetable::new(cron, Local::now()))
}

impl Drop for Recycle {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}

/// The memory of all processes of an instance: as its cgroup counts it, else the sum of their resident memory, in which shared pages count
/// for each.
pub(crate) fn memory_of(cgroup: &InstanceCgroup) -> u64 {
    cgroup
        .resident_bytes()
        .unwrap_or_else(|| usage::usage(&cgroup.pids().unwrap_or_default()).resident_bytes)
}
