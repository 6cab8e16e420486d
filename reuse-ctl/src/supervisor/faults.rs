//! What is done for a worker that does not accept: its queue is moved to others, and a connection shows when it accepts again.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use super::{
    connections::{Aim, Outcome},
    interface::{InstanceId, SlotId},
    live::Live,
    task::Task,
};
use crate::{
    api::types::Event,
    group::{GroupError, Opened},
};

/// How long an instance may take to stand still. On a busy machine with two cores it took 29 ms at most; what does not within this time sleeps
/// in the kernel, where it can't look at its listener.
const FREEZE_PATIENCE: Duration = Duration::from_millis(100);

/// Who is nudged: a connection of the controller's own is kept in the queue of each of these, so that it is seen when they accept.
#[derive(Debug, Default)]
pub(super) struct Nudges {
    wanted: BTreeSet<InstanceId>,
}

impl Nudges {
    /// Whether anybody is.
    pub(super) fn any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// The instance has ended.
    pub(super) fn forget(&mut self, id: InstanceId) {
        self.wanted.remove(&id);
    }
}

impl Task {
    /// Moves what is queued on the instance to others, while it stands still: what is woken by its listener's closing, or polls it in that
    /// moment, would see a hang-up (see docs/rescue.md for what servers make of that).
    pub(super) fn rescue(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        let (slot, row, who, cgroup) = (live.slot, live.row, name_of(live), Arc::clone(&live.cgroup));
        let own = self.own_in_queue(id, |_| true);
        // They would be moved as well, and what others do with them says nothing of this one.
        self.recall(
            id,
            |aim| !aim.is_proof(),
            "it does not accept; what was queued on it was moved to others",
        );
        let frozen = match cgroup.freeze(FREEZE_PATIENCE) {
            Ok(frozen) => frozen,
            Err(error) => {
                return self.console.warn(&format!(
                    "what is queued on {who} could not be moved: freezing it: {error}"
                ));
            }
        };
        if !frozen.complete {
            tracing::debug!(%slot, "a process does not stand still: it sleeps uninterruptibly, and sees nothing either");
        }
        self.connections.forget_abandoned(id);
        let rescued = self.groups.rescue(row, &cgroup.pids().unwrap_or_default());
        drop(frozen);
        match rescued {
            Ok(moved) => self.tell_rescued(id, slot, &who, moved.saturating_sub(own)),
            Err(error) => self.on_failed_rescue(id, &who, &error),
        }
        self.renew_nudges();
        self.watch.hurry();
    }

    fn tell_rescued(&self, id: InstanceId, slot: SlotId, who: &str, moved: u64) {
        if moved == 0 {
            return;
        }
        let connections = if moved == 1 { "connection" } else { "connections" };
        let message = format!("{moved} {connections} queued on {who} moved to others");
        self.console.say(&message);
        self.tell(Event {
            at_ms: 0,
            worker: Some(slot.0),
            pid: self.live.get(&id).and_then(Live::pid),
            event: "rescued".into(),
            message,
        });
    }

    fn on_failed_rescue(&mut self, id: InstanceId, who: &str, error: &GroupError) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if matches!(error, GroupError::Reopen { .. } | GroupError::Bpf(_)) {
            // It would look alive and never get a connection again.
            live.problem = Some(error.to_string());
            live.kill();
            self.console.warn(&format!("{who} is ended: {error}"));
        } else {
            self.console
                .warn(&format!("what is queued on {who} could not be moved: {error}"));
        }
    }

    /// The queue of an instance as the machine has to know it. What the controller has put into the queue of a hung one beside the nudge
    /// (health checks, requests of a person, and what is left of such) needs no rescue.
    pub(super) fn queue_to_tell(&mut self, id: InstanceId, queue: u32) -> u32 {
        if queue == 0 {
            self.connections.forget_abandoned(id);
        }
        if queue <= 1 || !self.nudges.wanted.contains(&id) {
            return queue;
        }
        let beside = self.own_in_queue(id, |aim| !aim.is_nudge());
        queue.saturating_sub(u32::try_from(beside).unwrap_or(u32::MAX))
    }

    pub(super) fn nudge(&mut self, id: InstanceId) {
        self.nudges.wanted.insert(id);
        self.set_watch(self.core.view().policy);
        self.renew_nudges();
        self.watch.hurry();
    }

    pub(super) fn stop_nudging(&mut self, id: InstanceId) {
        self.nudges.forget(id);
        self.recall(id, Aim::is_nudge, "");
        self.set_watch(self.core.view().policy);
    }

    /// Opens the nudges that are wanted and not under way: new ones, and those that were refused, closed or moved.
    pub(super) fn renew_nudges(&mut self) {
        for id in self.nudges.wanted.clone() {
            if self.connections.has(id, Aim::is_nudge) {
                continue;
            }
            let Some(addr) = self.live.get(&id).and_then(|live| {
                let served = self.groups.served_by(live.row);
                served.first().copied()
            }) else {
                continue;
            };
            let keep_open = |opened: io::Result<Opened>| async move {
                if let Ok(opened) = opened {
                    opened.closed().await;
                }
                Outcome::NudgeEnded
            };
            match self.way_to(id, addr) {
                Ok(way) => self.direct(way, Aim::Nudge, None, keep_open),
                Err(problem) => tracing::debug!(problem, "no nudge"),
            }
        }
    }
}

/// `worker 2 (pid 411)`.
fn name_of(live: &Live) -> String {
    match live.pid() {
        Some(pid) => format!("worker {} (pid {pid})", live.slot),
        None => format!("worker {}", live.slot),
    }
}
