//! What the task does about [`queue_watch`](crate::supervisor::queue_watch).

use crate::base::InstanceId;
use crate::supervisor::queue_watch::*;
use crate::supervisor::{
    cadence::{Next, Seen},
    task::Task,
};
use reuse_common::{Policy, ids::Row};
use reuse_machine::interface::{Backlog, Input};
use std::{collections::BTreeMap, time::Instant};

impl Task {
    /// Switches the watch of the queues on or off as it is needed now.
    pub(crate) fn set_queue_watch(&mut self, policy: Policy) {
        let is_needed = self.queue_watch.finds_hung || policy.reads_queues() || self.wake_probes.any();
        match (self.queue_watch.state, is_needed) {
            (State::Off, true) => self.queue_watch.state = State::At(Instant::now()),
            (State::Off, false) | (_, true) => {}
            (_, false) => {
                self.queue_watch.state = State::Off;
                // Nobody keeps these up to date any more.
                for row in self.live.values().map(|live| live.row).collect::<Vec<_>>() {
                    self.groups.set_queue(row, 0);
                }
            }
        }
    }

    /// Makes up for a notice of traffic that was lost.
    pub(crate) fn wake_queue_watch_if_missed(&mut self) {
        if self.queue_watch.state == State::Asleep && self.arrived() != self.queue_watch.arrived {
            self.queue_watch.wake();
        }
    }

    /// Looks at the queues, tells the machine and the kernel, and decides when to look next.
    pub(crate) fn look_at_queues(&mut self) {
        let began = processor_time();
        let before = self.rows();
        let listeners = match self.groups.dump(&mut self.diag) {
            Ok(listeners) => listeners,
            Err(error) => {
                self.announcer
                    .console
                    .warn(&format!("the queues can't be seen: {error}"));
                // Nobody was asked to wake us: as rarely as the other sockets.
                self.queue_watch.state = State::At(Instant::now() + AFTER_AN_ERROR);
                return;
            }
        };
        let queues = self.groups.queues_among(&listeners);
        let mut backlogs = Vec::with_capacity(before.len());
        let mut looks = BTreeMap::new();
        let mut stands = false;
        // In the order of the instances, whose rows were read before.
        for (&id, (row, before)) in &before {
            let Some(&queue) = queues.get(row) else { continue };
            let seen = backlog(*before, Totals::of(&self.groups.load_of(*row)), queue);
            let standing = standing(self.queue_watch.seen.get(&id), &seen);
            self.groups.set_queue(*row, standing);
            stands |= standing > 0;
            looks.insert(id, seen);
            let queue = self.queue_to_tell(id, *row, queue, &listeners);
            backlogs.push((id, Backlog { queue, ..seen }));
        }
        let arrived = self.arrived();
        self.queue_watch.seen = looks;
        let seen = Seen {
            stands,
            queued: queues.values().any(|&queue| queue > 0),
            traffic: std::mem::replace(&mut self.queue_watch.arrived, arrived) != arrived,
            fault: false,
        };
        self.feed(Input::Watched(backlogs));
        self.renew_wake_probes();
        let fault = self.wake_probes.any() || self.queue_watch.fault;
        self.plan_look(Seen { fault, ..seen });
        self.queue_watch.cadence.paid(processor_time().saturating_sub(began));
    }

    fn plan_look(&mut self, seen: Seen) {
        if self.queue_watch.state == State::Off {
            return;
        }
        let now = Instant::now();
        self.queue_watch.state = match self.queue_watch.cadence.next(seen) {
            Next::After(pause) => State::At(now + pause),
            Next::AskAndAfter(pause) => {
                self.groups.ask_for_wake();
                State::At(now + pause)
            }
            Next::Asleep => State::Asleep,
        };
    }

    /// The rows of all instances that run.
    fn rows(&self) -> BTreeMap<InstanceId, (Row, Totals)> {
        let running = self.live.iter().filter(|(_, live)| live.pid().is_some());
        running
            .map(|(&id, live)| (id, (live.row, Totals::of(&self.groups.load_of(live.row)))))
            .collect()
    }

    /// All connections that were established on instances that run; those of the controller's own are no traffic.
    fn arrived(&self) -> u64 {
        let rows = self.live.values().map(|live| self.groups.load_of(live.row));
        rows.map(|row| {
            arrived(
                row.established_total(),
                row.migrated_in_total(),
                row.directed_total().into(),
            )
        })
        .fold(0, u64::wrapping_add)
    }
}
