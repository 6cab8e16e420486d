//! Decides when to look at the accept queues next: often when it matters, not at all while nothing happens, and never using more than a
//! hundredth of a core, unless a hang would then be noticed too late.

use std::time::Duration;

/// Number of looks without traffic before the controller asks the kernel to wake it. One more look follows, so that no connection is missed
/// in between.
const QUIET_LOOKS: u32 = 1;

/// Used if hung workers are not looked for: queues are still published for `least-loaded`, as often as otherwise.
const USUAL_HUNG_AFTER: Duration = Duration::from_millis(50);

/// Shortest and longest interval while a queue stands still. A moving queue is normal on a busy server and can wait: with this pace for
/// every queue, looks used a hundredth of a core all the time.
const TIGHT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

/// Shortest and longest interval while connections arrive and are accepted; the usual one is a fifth of `hung_after`. Four steps of a
/// worker must be seen within `hung_after` before it can be declared hung that soon (`reuse_common::stall`), and looks further apart don't
/// show them.
const LOOSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(15));

/// Looks may use one part in this many of a core. Waking up for them, with cold caches, costs about half as much again: with 100 it was 1.5
/// % in all.
const SHARE_OF_A_CORE: u32 = 150;

/// Number of looks in the running mean of their cost.
const REMEMBERED_COSTS: u32 = 8;

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Some queue has not moved since the last look.
    pub(crate) stands: bool,
    /// Some queue is not empty.
    pub(crate) queued: bool,
    /// Some worker has a fault, or gets a wake-up probe.
    pub(crate) fault: bool,
    /// Connections were established since the last look.
    pub(crate) traffic: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look after this time.
    After(Duration),
    /// Ask the kernel for a notice at the next connection, then look once more after this time.
    AskAndAfter(Duration),
    /// Sleep until the kernel reports a connection.
    Asleep,
}

/// Decides when to look next.
#[derive(Debug)]
pub(crate) struct Cadence {
    tight: Duration,
    loose: Duration,
    /// Longest interval while a queue stands still, whatever looks cost: half of what counts as a sleep of the controller
    /// (`reuse_common::stall`).
    longest_while_it_stands: Duration,
    /// Longest interval while a fault may end or a queue may begin to stand: a hung worker is noticed that much later.
    longest_while_awake: Duration,
    quiet: u32,
    mean_cost: Duration,
}

impl Cadence {
    /// `hung_after` is zero if hung workers are not looked for.
    pub(crate) fn new(hung_after: Duration) -> Self {
        let hung_after = if hung_after.is_zero() {
            USUAL_HUNG_AFTER
        } else {
            hung_after
        };
        Self {
            tight: (hung_after / 10).clamp(TIGHT.0, TIGHT.1),
            loose: (hung_after / 5).clamp(LOOSE.0, LOOSE.1),
            longest_while_it_stands: hung_after / 4,
            longest_while_awake: hung_after / 2,
            quiet: 0,
            mean_cost: Duration::ZERO,
        }
    }

    /// Records the cost of a look, in CPU time.
    pub(crate) fn paid(&mut self, cost: Duration) {
        self.mean_cost = if self.mean_cost.is_zero() {
            cost
        } else {
            (self.mean_cost * (REMEMBERED_COSTS - 1) + cost) / REMEMBERED_COSTS
        };
    }

    pub(crate) fn next(&mut self, seen: Seen) -> Next {
        let affordable = self.mean_cost * SHARE_OF_A_CORE;
        if seen.stands {
            self.quiet = 0;
            return Next::After(self.tight.max(affordable.min(self.longest_while_it_stands)));
        }
        if seen.fault {
            self.quiet = 0;
            return Next::After(self.tight.max(affordable.min(self.longest_while_awake)));
        }
        self.quiet = if seen.traffic || seen.queued {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        let pause = self.first_pause();
        match self.quiet {
            0..QUIET_LOOKS => Next::After(pause),
            QUIET_LOOKS => Next::AskAndAfter(pause),
            _ => Next::Asleep,
        }
    }

    /// How long after the first connection to look: earlier it can't have been accepted yet.
    pub(crate) fn first_pause(&self) -> Duration {
        let affordable = self.mean_cost * SHARE_OF_A_CORE;
        self.loose.max(affordable.min(self.longest_while_awake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Seen = Seen {
        stands: false,
        queued: false,
        fault: false,
        traffic: false,
    };
    const BUSY: Seen = Seen { traffic: true, ..QUIET };
    const QUEUED: Seen = Seen { queued: true, ..QUIET };
    const STANDING: Seen = Seen { stands: true, ..QUEUED };
    const FAULTY: Seen = Seen { fault: true, ..QUIET };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_is_quick_while_it_matters_and_sleeps_while_nothing_happens() {
        let mut cadence = Cadence::new(ms(50));
        cadence.paid(Duration::from_micros(30));
        let loose = ms(10);
        for (seen, next) in [
            (QUEUED, Next::After(loose)),
            (STANDING, Next::After(ms(5))),
            (FAULTY, Next::After(ms(5))),
            (BUSY, Next::After(loose)),
            (QUIET, Next::AskAndAfter(loose)),
            (BUSY, Next::After(loose)),
            (QUIET, Next::AskAndAfter(loose)),
            (QUIET, Next::Asleep),
            (QUIET, Next::Asleep),
            (STANDING, Next::After(ms(5))),
            (QUIET, Next::AskAndAfter(loose)),
        ] {
            assert_eq!(cadence.next(seen), next, "after {seen:?}");
        }
    }

    #[test]
    fn dear_looks_are_rarer_but_a_queue_is_never_left_alone() {
        let mut cadence = Cadence::new(ms(50));
        for _ in 0..100 {
            cadence.paid(Duration::from_micros(400));
        }
        assert_eq!(cadence.next(BUSY), Next::After(ms(25)), "half of hung_after");
        assert_eq!(cadence.next(FAULTY), Next::After(ms(25)), "half of hung_after");
        assert_eq!(
            cadence.next(STANDING),
            Next::After(ms(12) + Duration::from_micros(500)),
            "a quarter of hung_after"
        );
        for _ in 0..100 {
            cadence.paid(Duration::from_micros(30));
        }
        assert_eq!(cadence.next(STANDING), Next::After(ms(5)), "the mean follows");
    }

    /// The interval is never longer than half of `hung_after` with a queue, and a worker is looked at several times before it is declared
    /// hung.
    #[test]
    fn every_hung_after_has_its_cadence() {
        for hung_after in [1, 10, 50, 200, 10_000] {
            let mut cadence = Cadence::new(ms(hung_after));
            let Next::After(pause) = cadence.next(STANDING) else {
                panic!("a queue is looked at");
            };
            assert!(pause <= ms(hung_after) && pause <= ms(5), "{hung_after}: {pause:?}");
        }
        assert_eq!(Cadence::new(Duration::ZERO).next(STANDING), Next::After(ms(5)));
    }
}
