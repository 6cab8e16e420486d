//! Looks at the accept queues of all workers from outside. The machine uses this to find hung workers, and `least-loaded` to count queues.
//!
//! A look is one inet_diag request per service port, with the kernel's counters, which are mapped, read before and after it. So the number
//! of connections that an instance had accepted when its queue was read is known within bounds.

use super::cadence::Cadence;
use crate::base::InstanceId;
use nix::errno::Errno;
use reuse_common::load::InstanceLoad;
use reuse_machine::interface::Backlog;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Delay after the kernel has failed to answer.
pub(crate) const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// Looks at the queues, and decides when.
#[derive(Debug)]
pub(crate) struct QueueWatch {
    pub(crate) cadence: Cadence,
    /// Whether hung workers are looked for.
    pub(crate) finds_hung: bool,
    pub(crate) state: State,
    /// Whether some worker has a fault.
    pub(crate) fault: bool,
    /// What the last look has seen.
    pub(crate) seen: BTreeMap<InstanceId, Backlog>,
    /// Number of connections established at the last look. A difference means traffic.
    pub(crate) arrived: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No look is needed.
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

    /// The time of the next look, if any.
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

/// A number that only serves to detect changes: a connection may be counted as directed before it is counted as established, or only as
/// directed.
pub(crate) fn arrived(established: u64, migrated_in: u64, directed: u64) -> u64 {
    established.wrapping_add(migrated_in).wrapping_sub(directed)
}

/// An instance's counters at one instant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Connections that were established here or moved here.
    came: u64,
    /// Connections that were moved away.
    went: u64,
}

impl Totals {
    pub(crate) fn of(row: &InstanceLoad) -> Self {
        Self {
            came: row.established_total() + row.migrated_in_total(),
            went: row.migrated_out_total(),
        }
    }
}

/// The backlog of an instance whose queue was read between these two instants. No counter ever decreases.
pub(crate) fn backlog(before: Totals, after: Totals, queue: u32) -> Backlog {
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
pub(crate) fn standing(before: Option<&Backlog>, now: &Backlog) -> u32 {
    match before {
        Some(before) if now.accepted_at_least <= before.accepted_at_most => before.queue.min(now.queue),
        _ => 0,
    }
}

/// The CPU time that this thread has used.
pub(crate) fn processor_time() -> Duration {
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
        assert_eq!(standing(None, &look(5, 7)), 0, "not known yet");
        assert_eq!(standing(Some(&look(5, 7)), &look(9, 7)), 5);
        assert_eq!(
            standing(Some(&look(5, 7)), &look(2, 8)),
            2,
            "whether it moved is not certain"
        );
        assert_eq!(standing(Some(&look(5, 7)), &look(9, 9)), 0, "it moves");
        assert_eq!(standing(Some(&look(0, 7)), &look(9, 7)), 0, "it has just come");
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
