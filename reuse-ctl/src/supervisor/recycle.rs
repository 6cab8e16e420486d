//! Replaces healthy workers, for the reasons in [`recycle_rules`](super::recycle_rules). It uses the same requests as a user, so that the
//! machine's rules apply, and only while no request of a user is in progress.

use super::{
    live::{BackgroundEvent, Live},
    recycle_files::{Files, Told},
    recycle_rules::{Decision, RecycleRules, Replacement, Seen},
};
use crate::{
    app::{
        options::RecycleOptions,
        recycle_cron::{self, Timetable},
    },
    base::{InstanceId, Millis, RequestId, Text, WorkerState},
    group::Groups,
    process::{cgroup::InstanceCgroup, usage},
};
use chrono::Local;
use reuse_machine::{
    View,
    interface::{Note, NoteKind},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// So often workers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// So often it is tried again to replace all while something else is under way.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// The workers are to be looked at.
    Judge,
    /// Their memory is to be measured first.
    Measure,
}

/// The state of recycling.
#[derive(Debug)]
pub(crate) struct Recycle {
    rules: RecycleRules,
    cron: Option<Timetable<Local>>,
    next_cron_look: Instant,
    next_look: Instant,
    /// Whether memory is being measured.
    measuring: bool,
    /// The request that carries out the current replacement.
    asked: Option<RequestId>,
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

    /// Looks whether it is time, and says what is to be done then.
    pub(crate) fn look(&mut self) -> Due {
        if let Some(cron) = &mut self.cron {
            let now = Local::now();
            if cron.is_due(now) {
                self.rules.on_time();
                self.next_look = Instant::now();
            }
            self.next_cron_look = Instant::now() + cron.look_in(&now);
        }
        if Instant::now() < self.next_look {
            return Due::Nothing;
        }
        let waits = self.rules.is_waiting();
        self.next_look = Instant::now() + if waits { RETRY_EVERY } else { LOOK_EVERY };
        match (self.rules.measures(), self.measuring) {
            (false, _) => Due::Judge,
            (true, false) => Due::Measure,
            (true, true) => Due::Nothing,
        }
    }

    /// Reads files, which may take a moment: beside the task.
    pub(crate) fn measure(
        &mut self,
        live: &HashMap<InstanceId, Live>,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) {
        let cgroups: Vec<(InstanceId, Arc<InstanceCgroup>)> = live
            .iter()
            .filter(|(_, live)| live.ready)
            .map(|(&id, live)| (id, Arc::clone(&live.cgroup)))
            .collect();
        self.measuring = true;
        let background_events = background_events.clone();
        tokio::task::spawn_blocking(move || {
            let memory = cgroups
                .into_iter()
                .map(|(id, cgroup)| (id, memory_of(&cgroup)))
                .collect();
            // The controller has ended meanwhile; so be it.
            drop(background_events.blocking_send(BackgroundEvent::Measured(memory)));
        });
    }

    /// Memory was measured.
    pub(crate) fn on_measured(&mut self) {
        self.measuring = false;
    }

    /// Files have changed, or can't be watched. Returns what people should know.
    pub(crate) fn on_files(&mut self, told: Told) -> Option<String> {
        match told {
            Told::Changed(what) => {
                self.rules.on_change(what);
                self.next_look = Instant::now();
                None
            }
            Told::Problem(problem) => Some(problem),
        }
    }

    /// What is to be done with these workers; see [`RecycleRules::look`].
    pub(crate) fn judge(&mut self, now: Millis, workers: &[Seen], can_replace_all: bool) -> Decision {
        self.rules.look(now, workers, can_replace_all)
    }

    /// This request carries out what was decided.
    pub(crate) fn begin(&mut self, id: RequestId) {
        self.asked = Some(id);
    }

    /// Whether the request was made here.
    pub(crate) fn has_asked(&self, id: RequestId) -> bool {
        self.asked == Some(id)
    }

    /// What people are told when it begins.
    pub(crate) fn note(&self) -> Option<Note> {
        let replacement = self.rules.under_way()?;
        let slot = match replacement {
            Replacement::One { slot, .. } => Some(*slot),
            Replacement::All(_) => None,
        };
        Some(Note {
            slot,
            instance: None,
            kind: NoteKind::Recycled,
            message: replacement.to_string().into(),
        })
    }

    /// It was carried out.
    pub(crate) fn done(&mut self) {
        self.asked = None;
        self.rules.done();
    }

    /// Something else is in the way of it.
    pub(crate) fn not_now(&mut self) {
        self.asked = None;
        self.rules.not_now();
    }

    /// It was tried, and has failed for this reason. Returns what people are told.
    pub(crate) fn failed(&mut self, now: Millis, why: Text) -> Text {
        self.asked = None;
        let what = self
            .rules
            .under_way()
            .map(Replacement::word)
            .unwrap_or("the replacement");
        let again = match self.rules.failed(now) {
            Some(ms) => format!(
                "tried again in {}",
                humantime::format_duration(Duration::from_millis(ms))
            ),
            None => "not tried again before the next occasion".to_owned(),
        };
        Text::from(format!("{what} has failed and is {again}: ")) + why
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

/// Those that nobody is changing, and that have nothing else.
pub(crate) fn workers_seen(
    view: &View,
    live: &HashMap<InstanceId, Live>,
    groups: &Groups,
    memory: &HashMap<InstanceId, u64>,
    now: Millis,
) -> Vec<Seen> {
    let seen = view.slots.iter().filter_map(|slot| {
        let (instance, active_at) = (slot.current?, slot.active_at?);
        let is_plain = slot.state == WorkerState::Active && slot.fault.is_none() && slot.instances.len() == 1;
        if !is_plain {
            return None;
        }
        let load = groups.load_of(live.get(&instance)?.row);
        let arrived = load.established_total() + load.migrated_in_total();
        // What the controller itself has asked is no reason.
        let gone = load.migrated_out_total() + u64::from(load.directed_total());
        Some(Seen {
            slot: slot.id,
            instance,
            age_ms: now.since(slot.started_at.unwrap_or(active_at)),
            active_ms: now.since(active_at),
            memory_bytes: memory.get(&instance).copied(),
            connections: arrived.saturating_sub(gone),
        })
    });
    seen.collect()
}

/// All processes of an instance: as its cgroup counts them, else what each has resident. Pages that processes share then count for each.
fn memory_of(cgroup: &InstanceCgroup) -> u64 {
    cgroup
        .resident_bytes()
        .unwrap_or_else(|| usage::usage(&cgroup.pids().unwrap_or_default()).resident_bytes)
}
