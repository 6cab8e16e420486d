//! What is done for a worker that does not accept: its queue is moved to others, and a connection shows when it accepts again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use reuse_common::ids::Row;

use super::{
    connections::{Aim, Outcome},
    live::Live,
    task::Task,
};
use crate::{
    base::{InstanceId, Millis, SlotId},
    group::{GroupError, Opened, diag::Queue},
    wire::Event,
};

/// How long an instance may take to stand still. On a busy machine with two cores it took 29 ms at most; what does not within this time sleeps
/// in the kernel, where it can't look at its listener.
const FREEZE_PATIENCE: Duration = Duration::from_millis(100);

/// Who is nudged: a connection of the controller's own is kept in the queue of each of these, so that it is seen when they accept.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    wanted: BTreeSet<InstanceId>,
    /// What people were told already, of the fault that began then.
    told: BTreeMap<(InstanceId, Trouble), Option<Millis>>,
}

/// What can't be done for a faulty worker. It is tried again and again, but told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Rescue,
    Nudge,
}

impl Nudges {
    /// Whether anybody is.
    pub(crate) fn any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Nobody needs one there any more.
    fn forget(&mut self, id: InstanceId) {
        self.wanted.remove(&id);
    }

    /// The instance has ended.
    pub(crate) fn bury(&mut self, id: InstanceId) {
        self.forget(id);
        self.told.retain(|(of, _), _| *of != id);
    }

    /// Whether people don't know of this trouble yet, in the fault that began then.
    fn is_news(&mut self, id: InstanceId, trouble: Trouble, fault: Option<Millis>) -> bool {
        self.told.insert((id, trouble), fault) != Some(fault)
    }
}

impl Task {
    /// Moves what is queued on the instance to others, while it stands still: what is woken by its listener's closing, or polls it in that
    /// moment, would see a hang-up (see docs/rescue.md for what servers make of that).
    pub(crate) fn rescue(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        let (slot, row, who, cgroup) = (live.slot, live.row, name_of(live), Arc::clone(&live.cgroup));
        let own = self.own_in_queue(id, |_| true, |_| true);
        // They would be moved as well, and what others do with them says nothing of this one.
        self.recall(
            id,
            |aim| !aim.is_proof(),
            "it does not accept; what was queued on it was moved to others",
        );
        let frozen = match self.freezer.freeze(&cgroup, FREEZE_PATIENCE) {
            Ok(frozen) => frozen,
            Err(error) => {
                let why = format!("what is queued on {who} could not be moved: freezing it: {error}");
                return self.warn_once(id, Trouble::Rescue, &why);
            }
        };
        if !frozen.complete {
            tracing::debug!(%slot, "a process does not stand still: it sleeps uninterruptibly, and sees nothing either");
        }
        let rescued = self.groups.rescue(row, &cgroup.pids().unwrap_or_default());
        drop(frozen);
        match rescued {
            Ok(moved) => {
                // Where they are now, they say nothing of this one.
                let groups = &self.groups;
                self.connections
                    .forget_abandoned(id, |addr| groups.is_served_without(addr, row));
                self.tell_rescued(id, slot, &who, moved.saturating_sub(own.into()));
            }
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
        if error.is_loss() {
            // It would look alive and never get a connection again.
            live.problem = Some(error.to_string());
            live.kill();
            self.console.warn(&format!("{who} is ended: {error}"));
        } else {
            let why = format!("what is queued on {who} could not be moved: {error}");
            self.warn_once(id, Trouble::Rescue, &why);
        }
    }

    /// The worker stays as it is: withdrawn, and nobody sees when it accepts again.
    pub(crate) fn on_no_nudge(&mut self, id: InstanceId, problem: &str) {
        let Some(live) = self.live.get(&id) else { return };
        let why = format!("whether {} accepts again can't be seen: {problem}", name_of(live));
        self.warn_once(id, Trouble::Nudge, &why);
    }

    fn warn_once(&mut self, id: InstanceId, trouble: Trouble, message: &str) {
        let view = self.core.view();
        let slot = view.slots.iter().find(|slot| slot.current == Some(id));
        let fault = slot.and_then(|slot| slot.fault.as_ref()).map(|fault| fault.since);
        if self.nudges.is_news(id, trouble, fault) {
            self.console.warn(message);
        } else {
            tracing::debug!("{message}");
        }
    }

    /// The queue of an instance as the machine has to know it, which has it rescued as long as there is any. What the controller has put
    /// into the queue of a hung one beside the nudge (health checks, requests of a person, and what is left of such) needs no rescue; what
    /// waits on a withdrawn one where nobody else is published can't be moved.
    pub(crate) fn queue_to_tell(&mut self, id: InstanceId, row: Row, queue: u32, listeners: &[Queue]) -> u32 {
        if queue == 0 {
            self.connections.forget_abandoned(id, |_| true);
            return 0;
        }
        if self.groups.is_published(row) {
            return queue;
        }
        let movable: BTreeSet<_> = self.groups.served_by(row);
        let movable: BTreeSet<_> = movable
            .into_iter()
            .filter(|&addr| self.groups.is_served_without(addr, row))
            .collect();
        let queue = self.groups.movable_among(row, listeners);
        if !self.nudges.wanted.contains(&id) {
            return queue;
        }
        let beside = match queue {
            0 | 1 => 0,
            _ => self.own_in_queue(id, |aim| !aim.is_nudge(), |addr| movable.contains(&addr)),
        };
        // The machine has to see the nudge wherever it waits.
        let nudges = self
            .connections
            .waiting(&mut self.diag, id, Aim::is_nudge, |addr| !movable.contains(&addr));
        queue.saturating_sub(beside).saturating_add(nudges)
    }

    pub(crate) fn nudge(&mut self, id: InstanceId) {
        self.nudges.wanted.insert(id);
        self.set_watch(self.core.view().policy);
        self.renew_nudges();
        self.watch.hurry();
    }

    pub(crate) fn stop_nudging(&mut self, id: InstanceId) {
        self.nudges.forget(id);
        self.recall(id, Aim::is_nudge, "");
        self.set_watch(self.core.view().policy);
    }

    /// Opens the nudges that are wanted and not under way: new ones, and those that were refused, closed or moved.
    pub(crate) fn renew_nudges(&mut self) {
        for id in self.nudges.wanted.clone() {
            if self.connections.has(id, Aim::is_nudge) {
                continue;
            }
            let Some(addr) = self.live.get(&id).and_then(|live| self.nudged_address(live.row)) else {
                continue;
            };
            let keep_open = |opened: io::Result<Opened>| async move {
                Outcome::NudgeEnded(match opened {
                    Ok(opened) => {
                        opened.closed().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                })
            };
            match self.way_to(id, addr) {
                Ok(way) => self.direct(way, Aim::Nudge, None, keep_open),
                Err(problem) => self.on_no_nudge(id, &problem),
            }
        }
    }

    /// Rather where others serve: the nudge waits behind nothing that can't be moved there.
    fn nudged_address(&self, row: Row) -> Option<SocketAddr> {
        let served = self.groups.served_by(row);
        let by_others = served.iter().find(|&&addr| self.groups.is_served_without(addr, row));
        by_others.or_else(|| served.first()).copied()
    }
}

/// `worker 2 (pid 411)`.
fn name_of(live: &Live) -> String {
    match live.pid() {
        Some(pid) => format!("worker {} (pid {pid})", live.slot),
        None => format!("worker {}", live.slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_for_each_fault() {
        let mut nudges = Nudges::default();
        let (one, other) = (InstanceId(1), InstanceId(2));
        assert!(nudges.is_news(one, Trouble::Rescue, Some(Millis(5))));
        assert!(!nudges.is_news(one, Trouble::Rescue, Some(Millis(5))));
        assert!(nudges.is_news(one, Trouble::Nudge, Some(Millis(5))));
        assert!(nudges.is_news(other, Trouble::Rescue, Some(Millis(5))));
        assert!(nudges.is_news(one, Trouble::Rescue, Some(Millis(9))), "another fault");
        nudges.bury(one);
        assert!(nudges.is_news(one, Trouble::Nudge, None));
        assert!(!nudges.is_news(one, Trouble::Nudge, None), "of no fault that is known");
    }
}
