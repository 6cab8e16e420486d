//! What the task does about [`faults`](crate::supervisor::faults).

use crate::supervisor::faults::*;
use crate::supervisor::{
    connections::{Connections, DirectedOutcome, Purpose},
    live::Live,
    task::Task,
};
use crate::{
    base::{InstanceId, SlotId},
    group::{GroupError, Opened, diag::Queue},
    wire::Event,
};
use reuse_common::ids::Row;
use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc};

impl Task {
    /// Moves what is queued on the instance to others, while it stands still: what is woken by its listener's closing, or polls it in that
    /// moment, would see a hang-up (see docs/rescue.md for what servers make of that).
    pub(crate) fn rescue(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        let (slot, row, who, cgroup) = (live.slot, live.row, name_of(live), Arc::clone(&live.cgroup));
        let own = self.connections.own_in_queue(&mut self.diag, id, |_| true, |_| true);
        // They would be moved as well, and what others do with them says nothing of this one.
        self.connections.recall(
            id,
            |purpose| !purpose.is_proof(),
            "it does not accept; what was queued on it was moved to others",
            &mut self.groups,
            &mut self.diag,
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
        self.renew_wake_probes();
        self.queue_watch.hurry();
    }

    fn tell_rescued(&self, id: InstanceId, slot: SlotId, who: &str, moved: u64) {
        if moved == 0 {
            return;
        }
        let connections = if moved == 1 { "connection" } else { "connections" };
        let message = format!("{moved} {connections} queued on {who} moved to others");
        self.announcer.say(Event {
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
            self.announcer.console.warn(&format!("{who} is ended: {error}"));
        } else {
            let why = format!("what is queued on {who} could not be moved: {error}");
            self.warn_once(id, Trouble::Rescue, &why);
        }
    }

    /// The worker stays as it is: withdrawn, and nobody sees when it accepts again.
    pub(crate) fn on_no_wake_probe(&mut self, id: InstanceId, problem: &str) {
        let Some(live) = self.live.get(&id) else { return };
        let why = format!("whether {} accepts again can't be seen: {problem}", name_of(live));
        self.warn_once(id, Trouble::WakeProbe, &why);
    }

    fn warn_once(&mut self, id: InstanceId, trouble: Trouble, message: &str) {
        let view = self.machine.view();
        let slot = view.slots.iter().find(|slot| slot.current == Some(id));
        let fault = slot.and_then(|slot| slot.fault.as_ref()).map(|fault| fault.since);
        if self.wake_probes.is_news(id, trouble, fault) {
            self.announcer.console.warn(message);
        } else {
            tracing::debug!("{message}");
        }
    }

    /// The queue of an instance as the machine has to know it, which has it rescued as long as there is any. What the controller has put
    /// into the queue of a hung one beside the wake-up probe (health checks, requests of a person, and what is left of such) needs no rescue; what
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
        if !self.wake_probes.wanted.contains(&id) {
            return queue;
        }
        let beside = match queue {
            0 | 1 => 0,
            _ => self.connections.own_in_queue(
                &mut self.diag,
                id,
                |purpose| !purpose.is_wake_probe(),
                |addr| movable.contains(&addr),
            ),
        };
        // The machine has to see the wake-up probe wherever it waits.
        let probes = self
            .connections
            .waiting(&mut self.diag, id, Purpose::is_wake_probe, |addr| {
                !movable.contains(&addr)
            });
        queue.saturating_sub(beside).saturating_add(probes)
    }

    pub(crate) fn wake_probe(&mut self, id: InstanceId) {
        self.wake_probes.wanted.insert(id);
        self.set_queue_watch(self.machine.view().policy);
        self.renew_wake_probes();
        self.queue_watch.hurry();
    }

    pub(crate) fn stop_wake_probe(&mut self, id: InstanceId) {
        self.wake_probes.forget(id);
        self.connections
            .recall(id, Purpose::is_wake_probe, "", &mut self.groups, &mut self.diag);
        self.set_queue_watch(self.machine.view().policy);
    }

    /// Opens the wake-up probes that are wanted and not under way: new ones, and those that were refused, closed or moved.
    pub(crate) fn renew_wake_probes(&mut self) {
        for id in self.wake_probes.wanted.clone() {
            if self.connections.has(id, Purpose::is_wake_probe) {
                continue;
            }
            let Some(row) = self.live.get(&id).map(|live| live.row) else {
                continue;
            };
            let Some(addr) = self.wake_probe_address(row) else {
                continue;
            };
            let keep_open = |opened: io::Result<Opened>| async move {
                DirectedOutcome::WakeProbeEnded(match opened {
                    Ok(opened) => {
                        opened.closed().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                })
            };
            match Connections::prepare(&mut self.groups, id, row, addr) {
                Ok(prepared) => self.connections.direct(prepared, Purpose::WakeProbe, None, keep_open),
                Err(problem) => self.on_no_wake_probe(id, &problem),
            }
        }
    }

    /// Rather where others serve: the wake-up probe waits behind nothing that can't be moved there.
    fn wake_probe_address(&self, row: Row) -> Option<SocketAddr> {
        let served = self.groups.served_by(row);
        let by_others = served.iter().find(|&&addr| self.groups.is_served_without(addr, row));
        by_others.or_else(|| served.first()).copied()
    }
}
