//! Looks at the accept queues of all workers from outside. The machine uses this to find hung workers, and `least-loaded` to count queues.
//!
//! A look is one inet_diag request per service port, with the kernel's counters, which are mapped, read before and after it. So the number
//! of connections that an instance had accepted when its queue was read is known within bounds.

use super::{
    cadence::{Cadence, Next, Seen},
    live::Live,
};
use crate::{
    base::InstanceId,
    group::{
        Groups,
        diag::{Diag, DiagError, Queue},
    },
};
use nix::errno::Errno;
use reuse_common::{Policy, ids::Row, load::InstanceLoad};
use reuse_machine::interface::Backlog;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// Delay after the kernel has failed to answer.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// Looks at the queues, and decides when.
#[derive(Debug)]
pub(crate) struct QueueWatch {
    cadence: Cadence,
    /// Whether hung workers are looked for.
    finds_hung: bool,
    state: State,
    /// Whether some worker has a fault.
    fault: bool,
    /// What the last look has seen.
    seen: BTreeMap<InstanceId, Backlog>,
    /// Connections that had been established when it last looked: what differs from it is traffic.
    arrived: u64,
}

/// What a look has shown.
#[derive(Debug)]
pub(crate) struct QueueLook {
    pub(crate) watched: Vec<Watched>,
    /// The listeners whose queues were read.
    pub(crate) listeners: Vec<Queue>,
    pub(crate) seen: Seen,
    /// The processor's time when it began.
    pub(crate) began: Duration,
}

/// An instance whose queue was read.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) id: InstanceId,
    pub(crate) row: Row,
    pub(crate) backlog: Backlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody needs it.
    Off,
    /// Waits until the kernel reports a connection.
    Asleep,
    /// The time of the next look.
    At(Instant),
}

impl QueueWatch {
    pub(crate) fn new(hung_after_ms: u64) -> Self {
        Self {
            cadence: Cadence::new(Duration::from_millis(hung_after_ms)),
            finds_hung: hung_after_ms > 0,
            state: State::Off,
            fault: false,
            seen: BTreeMap::new(),
            arrived: 0,
        }
    }

    /// Switches it on or off as it is needed now.
    pub(crate) fn set(
        &mut self,
        policy: Policy,
        wake_probes: bool,
        live: &HashMap<InstanceId, Live>,
        groups: &mut Groups,
    ) {
        let is_needed = self.finds_hung || policy.reads_queues() || wake_probes;
        match (self.state, is_needed) {
            (State::Off, true) => self.state = State::At(Instant::now()),
            (State::Off, false) | (_, true) => {}
            (_, false) => {
                self.state = State::Off;
                // Nobody keeps these up to date any more.
                for live in live.values() {
                    groups.set_queue(live.row, 0);
                }
            }
        }
    }

    /// Makes up for a notice of traffic that was lost.
    pub(crate) fn wake_if_missed(&mut self, live: &HashMap<InstanceId, Live>, groups: &Groups) {
        if self.state == State::Asleep && arrived_at(live, groups) != self.arrived {
            self.wake();
        }
    }

    /// Looks at the queues, and tells the kernel. Follow with [`plan`](Self::plan).
    ///
    /// # Errors
    /// They can't be seen; it looks again in a while.
    pub(crate) fn look(
        &mut self,
        live: &HashMap<InstanceId, Live>,
        groups: &mut Groups,
        diag: &mut Diag,
    ) -> Result<QueueLook, DiagError> {
        let began = processor_time();
        let before = rows(live, groups);
        // Nobody was asked to wake us: as rarely as the other sockets.
        let listeners = groups
            .dump(diag)
            .inspect_err(|_| self.state = State::At(Instant::now() + AFTER_AN_ERROR))?;
        let queues = groups.queues_among(&listeners);
        let mut watched = Vec::with_capacity(before.len());
        let mut stands = false;
        // In the order of the instances, whose rows were read before.
        for (&id, &(row, before)) in &before {
            let Some(&queue) = queues.get(&row) else { continue };
            let backlog = backlog(before, Totals::of(&groups.load_of(row)), queue);
            let standing = stuck(self.seen.get(&id), &backlog);
            groups.set_queue(row, standing);
            stands |= standing > 0;
            watched.push(Watched { id, row, backlog });
        }
        let arrived = arrived_at(live, groups);
        self.seen = watched.iter().map(|watched| (watched.id, watched.backlog)).collect();
        let seen = Seen {
            stands,
            queued: queues.values().any(|&queue| queue > 0),
            traffic: std::mem::replace(&mut self.arrived, arrived) != arrived,
            fault: false,
        };
        Ok(QueueLook {
            watched,
            listeners,
            seen,
            began,
        })
    }

    /// What the look has shown is dealt with: decides when to look next.
    pub(crate) fn plan(&mut self, seen: Seen, began: Duration, wake_probes: bool, groups: &mut Groups) {
        if self.state != State::Off {
            let now = Instant::now();
            let fault = wake_probes || self.fault;
            self.state = match self.cadence.next(Seen { fault, ..seen }) {
                Next::After(pause) => State::At(now + pause),
                Next::AskAndAfter(pause) => {
                    groups.ask_for_wake();
                    State::At(now + pause)
                }
                Next::Asleep => State::Asleep,
            };
        }
        self.cadence.paid(processor_time().saturating_sub(began));
    }

    /// When it wants to look.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::At(at) => Some(at),
            State::Off | State::Asleep => None,
        }
    }

    /// Sets whether some worker has a fault now.
    pub(crate) fn set_fault(&mut self, fault: bool) {
        self.fault = fault;
    }

    /// A connection was established.
    pub(crate) fn wake(&mut self) {
        if self.state == State::Asleep {
            self.state = State::At(Instant::now() + self.cadence.first_pause());
        }
    }

    /// Requests a look as soon as possible, unless looks are off.
    pub(crate) fn hurry(&mut self) {
        if self.state != State::Off {
            self.state = State::At(Instant::now());
        }
    }
}

/// The rows of all instances that run.
fn rows(live: &HashMap<InstanceId, Live>, groups: &Groups) -> BTreeMap<InstanceId, (Row, Totals)> {
    let running = live.iter().filter(|(_, live)| live.pid().is_some());
    running
        .map(|(&id, live)| (id, (live.row, Totals::of(&groups.load_of(live.row)))))
        .collect()
}

/// All connections that were established on instances that run; those of the controller's own are no traffic.
fn arrived_at(live: &HashMap<InstanceId, Live>, groups: &Groups) -> u64 {
    let rows = live.values().map(|live| groups.load_of(live.row));
    rows.map(|row| {
        arrived(
            row.established_total(),
            row.migrated_in_total(),
            row.directed_total().into(),
        )
    })
    .fold(0, u64::wrapping_add)
}

/// Only whether it has changed is of use: a connection may be counted as directed before it is as established, or be so alone.
fn arrived(established: u64, migrated_in: u64, directed: u64) -> u64 {
    established.wrapping_add(migrated_in).wrapping_sub(directed)
}

/// An instance's counters at one instant.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    /// Connections that were established here or moved here.
    came: u64,
    /// Connections that were moved away.
    went: u64,
}

impl Totals {
    fn of(row: &InstanceLoad) -> Self {
        Self {
            came: row.established_total() + row.migrated_in_total(),
            went: row.migrated_out_total(),
        }
    }
}

/// The backlog of an instance whose queue was read between these two instants. No counter ever decreases.
fn backlog(before: Totals, after: Totals, queue: u32) -> Backlog {
    let waiting = u64::from(queue);
    let accepted_at_least = before.came.saturating_sub(after.went + waiting);
    Backlog {
        queue,
        accepted_at_least,
        // Not less than the lower bound: a connection is in the queue slightly before it is counted as established.
        accepted_at_most: after.came.saturating_sub(before.went + waiting).max(accepted_at_least),
    }
}

/// The part of a queue that has stood since the last look without any connection being accepted. `least-loaded` counts it in addition to
/// the connections, which include the queue anyway. A moving queue says no more than they do, and its length is soon out of date: with
/// whole queues counted until the next look, one of four equal workers got up to 31 % of 20,000 short connections; with only this part, 27
/// %; with nothing, 28 % (on a busy machine).
fn stuck(before: Option<&Backlog>, now: &Backlog) -> u32 {
    match before {
        Some(before) if now.accepted_at_least <= before.accepted_at_most => before.queue.min(now.queue),
        _ => 0,
    }
}

/// The CPU time that this thread has used.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the one timespec that is given.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    match Errno::result(code) {
        Ok(_) => Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ),
        // Every kernel has this clock. Without it looks would seem to cost nothing.
        Err(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(before: (u64, u64), after: (u64, u64), queue: u32) -> (u64, u64) {
        let totals = |(came, went)| Totals { came, went };
        let seen = backlog(totals(before), totals(after), queue);
        assert_eq!(seen.queue, queue);
        (seen.accepted_at_least, seen.accepted_at_most)
    }

    #[test]
    fn the_bounds_hold_whenever_the_queue_was_read() {
        assert_eq!(accepted((10, 0), (10, 0), 3), (7, 7), "nothing happened meanwhile");
        // One more came and two went, before or after the queue was read.
        assert_eq!(accepted((10, 0), (11, 2), 3), (5, 8));
        assert_eq!(accepted((0, 0), (0, 0), 1), (0, 0), "queued before it was counted");
    }

    #[test]
    fn only_a_queue_that_stands_still_is_counted() {
        let look = |queue, accepted: u64| Backlog {
            queue,
            accepted_at_least: accepted,
            accepted_at_most: accepted + 1,
        };
        assert_eq!(stuck(None, &look(5, 7)), 0, "not known yet");
        assert_eq!(stuck(Some(&look(5, 7)), &look(9, 7)), 5);
        assert_eq!(
            stuck(Some(&look(5, 7)), &look(2, 8)),
            2,
            "whether it moved is not certain"
        );
        assert_eq!(stuck(Some(&look(5, 7)), &look(9, 9)), 0, "it moves");
        assert_eq!(stuck(Some(&look(0, 7)), &look(9, 7)), 0, "it has just come");
    }

    #[test]
    fn more_may_have_been_directed_than_arrived() {
        assert_eq!(arrived(5, 2, 3), 4);
        assert_ne!(arrived(0, 0, 1), arrived(0, 0, 0), "it is traffic all the same");
    }

    #[test]
    fn a_processor_has_a_clock() {
        let began = processor_time();
        let mut sum = 0_u64;
        while processor_time() == began {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
