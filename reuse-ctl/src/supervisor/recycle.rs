//! Replaces healthy workers, for the reasons of [`recycle_rules`](super::recycle_rules): through the same requests as a person would
//! make, so that the machine's rules hold, and only when none of a person's is under way.

use super::{live::BackgroundEvent, recycle_files::Files, recycle_rules::RecycleRules};
use crate::{
    app::{
        options::RecycleOptions,
        recycle_cron::{self, Timetable},
    },
    base::RequestId,
    process::{cgroup::InstanceCgroup, usage},
};
use chrono::Local;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, task::JoinHandle};

/// So often workers are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// So often it is tried again to replace all while something else is under way.
pub(crate) const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What is going on.
#[derive(Debug)]
pub(crate) struct Recycle {
    pub(crate) rules: RecycleRules,
    pub(crate) cron: Option<Timetable<Local>>,
    pub(crate) next_cron_look: Instant,
    pub(crate) next_look: Instant,
    /// Memory is being measured.
    pub(crate) measuring: bool,
    /// The request that carries out what is under way.
    pub(crate) asked: Option<RequestId>,
    watching: Option<JoinHandle<()>>,
}

impl Recycle {
    /// `files` are watched from now on.
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

    /// Other options from now on: what is under way, waits or pauses because of the old ones does so still.
    pub(crate) fn change(&mut self, old: &RecycleOptions, new: &RecycleOptions) {
        self.rules.change(new);
        if old.cron != new.cron {
            self.cron = timetable(new);
            self.next_cron_look = Instant::now();
        }
        self.next_look = self.next_look.min(Instant::now() + LOOK_EVERY);
    }

    /// Other files are watched from now on, or none.
    pub(crate) fn watch(&mut self, files: Option<Files>, background_events: &mpsc::Sender<BackgroundEvent>) {
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        self.watching = files.map(|files| tokio::spawn(files.tell(background_events.clone())));
    }

    /// When something is to be looked at.
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

/// All processes of an instance: as its cgroup counts them, else what each has resident. Pages that processes share then count for each.
pub(crate) fn memory_of(cgroup: &InstanceCgroup) -> u64 {
    cgroup
        .resident_bytes()
        .unwrap_or_else(|| usage::usage(&cgroup.pids().unwrap_or_default()).resident_bytes)
}
