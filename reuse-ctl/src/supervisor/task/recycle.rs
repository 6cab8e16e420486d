//! What the task does about [`recycle`](crate::supervisor::recycle).

use crate::supervisor::recycle::*;
use crate::supervisor::{
    live::BackgroundEvent,
    recycle_files::Told,
    recycle_rules::{Replacement, Seen},
    recycle_words,
    task::Task,
};
use crate::{
    base::{Failure, InstanceId, RequestId, SlotId, Text, WorkerState},
    process::cgroup::InstanceCgroup,
    wire::Reply,
};
use chrono::Local;
use reuse_machine::interface::{Command, Done, Input, Note, NoteKind, Refusal};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

impl Task {
    /// Looks whether it is time, and at the workers.
    pub(crate) fn recycle(&mut self) {
        let recycle = &mut self.recycle;
        if let Some(cron) = &mut recycle.cron {
            let now = Local::now();
            if cron.is_due(now) {
                recycle.rules.on_time();
                recycle.next_look = Instant::now();
            }
            recycle.next_cron_look = Instant::now() + cron.look_in(&now);
        }
        if Instant::now() < recycle.next_look {
            return;
        }
        let waits = recycle.rules.is_waiting();
        recycle.next_look = Instant::now() + if waits { RETRY_EVERY } else { LOOK_EVERY };
        if !recycle.rules.measures() {
            self.judge_workers(&HashMap::new());
        } else if !recycle.measuring {
            self.measure();
        }
    }

    /// Files have changed, or can't be watched.
    pub(crate) fn on_files(&mut self, told: Told) {
        match told {
            Told::Changed(what) => {
                self.recycle.rules.on_change(what);
                self.recycle.next_look = Instant::now();
            }
            Told::Problem(problem) => self.warn(None, problem),
        }
    }

    /// Memory was measured.
    pub(crate) fn on_measured(&mut self, memory: &HashMap<InstanceId, u64>) {
        self.recycle.measuring = false;
        self.judge_workers(memory);
    }

    /// Whether the request was made here.
    pub(crate) fn is_recycling(&self, id: RequestId) -> bool {
        self.recycle.asked == Some(id)
    }

    /// What has come of it.
    pub(crate) fn on_recycled(&mut self, outcome: Result<Done, Refusal>) {
        self.recycle.asked = None;
        match outcome {
            Ok(_) => self.recycle.rules.done(),
            // Stopped, scaled away: there is nothing to try again.
            Err(refusal) if refusal.culprit.is_none() => self.recycle.rules.not_now(),
            Err(refusal) => {
                let failure = self.refused(refusal);
                let why = recycle_words::with_last_line(failure.error, &failure.output);
                self.recycling_failed(why.into());
            }
        }
    }

    /// Reads files, which may take a moment: beside the task.
    fn measure(&mut self) {
        let cgroups: Vec<(InstanceId, Arc<InstanceCgroup>)> = self
            .live
            .iter()
            .filter(|(_, live)| live.ready)
            .map(|(&id, live)| (id, Arc::clone(&live.cgroup)))
            .collect();
        self.recycle.measuring = true;
        let background_events = self.background_events.clone();
        tokio::task::spawn_blocking(move || {
            let memory = cgroups
                .into_iter()
                .map(|(id, cgroup)| (id, memory_of(&cgroup)))
                .collect();
            // The controller has ended meanwhile; so be it.
            drop(background_events.blocking_send(BackgroundEvent::Measured(memory)));
        });
    }

    fn judge_workers(&mut self, memory: &HashMap<InstanceId, u64>) {
        let now = self.now();
        let workers = self.workers_seen(memory);
        let can_replace_all = self.machine.would_take(&Command::Reload { stop_first: false });
        let decision = self.recycle.rules.look(now, &workers, can_replace_all);
        for (slot, words) in decision.warnings {
            self.warn(Some(slot), format!("worker {slot} {words}"));
        }
        if let Some(replacement) = decision.replacement {
            self.begin_recycling(&replacement);
        }
    }

    /// Those that nobody is changing, and that have nothing else.
    fn workers_seen(&self, memory: &HashMap<InstanceId, u64>) -> Vec<Seen> {
        let now = self.now();
        let view = self.machine.view();
        let seen = view.slots.iter().filter_map(|slot| {
            let (instance, active_at) = (slot.current?, slot.active_at?);
            let is_plain = slot.state == WorkerState::Active && slot.fault.is_none() && slot.instances.len() == 1;
            if !is_plain {
                return None;
            }
            let load = self.groups.load_of(self.live.get(&instance)?.row);
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

    fn begin_recycling(&mut self, replacement: &Replacement) {
        let command = match *replacement {
            Replacement::One { slot, .. } => Command::Restart {
                slot,
                stop_first: false,
            },
            Replacement::All(_) => Command::Reload { stop_first: false },
        };
        if !self.machine.would_take(&command) {
            return self.recycle.rules.not_now();
        }
        let id = self.next_request_id();
        self.recycle.asked = Some(id);
        self.request(id, command);
    }

    /// The env files were read: what was decided begins.
    pub(crate) fn feed_recycling(&mut self, id: RequestId, command: Command) {
        if !self.machine.would_take(&command) {
            self.recycle.asked = None;
            return self.recycle.rules.not_now();
        }
        if let Some(replacement) = self.recycle.rules.under_way() {
            let slot = match replacement {
                Replacement::One { slot, .. } => Some(*slot),
                Replacement::All(_) => None,
            };
            let note = Note {
                slot,
                instance: None,
                kind: NoteKind::Recycled,
                message: replacement.to_string().into(),
            };
            self.note(note);
        }
        self.feed(Input::Request { id, command });
    }

    /// The env files can't be used, or the app stops.
    pub(crate) fn on_not_begun(&mut self, reply: Reply) {
        self.recycle.asked = None;
        if self.machine.view().stopping {
            return self.recycle.rules.not_now();
        }
        let failure = Failure::from(reply);
        self.recycling_failed(Text::from(failure.error) + "; " + failure.hint);
    }

    fn recycling_failed(&mut self, why: Text) {
        let now = self.now();
        let what = self
            .recycle
            .rules
            .under_way()
            .map(Replacement::word)
            .unwrap_or("the replacement");
        let again = match self.recycle.rules.failed(now) {
            Some(ms) => format!(
                "tried again in {}",
                humantime::format_duration(Duration::from_millis(ms))
            ),
            None => "not tried again before the next occasion".to_owned(),
        };
        self.warn(None, Text::from(format!("{what} has failed and is {again}: ")) + why);
    }

    /// An event, and a line for people.
    pub(crate) fn warn(&mut self, slot: Option<SlotId>, message: impl Into<Text>) {
        self.note(Note {
            slot,
            instance: None,
            kind: NoteKind::Warning,
            message: message.into(),
        });
    }
}
