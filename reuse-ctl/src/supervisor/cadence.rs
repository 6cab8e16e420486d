//! When to look at the accept queues next: often while it matters, not at all while nothing happens, and never for more than a
//! hundredth of a core unless that would be too late to notice a hang.

use std::time::Duration;

/// Looks without traffic before the kernel is asked to wake us. One more follows that, so that nothing slips through in between.
const QUIET_LOOKS: u32 = 1;

/// Where hung workers are not looked for, queues are still published for `least-loaded`, as fresh as if they were.
const USUAL_HUNG_AFTER: Duration = Duration::from_millis(50);

/// While a queue stands still. One that moves is the rule on a busy server, and can wait for the next look: with this pace for any queue,
/// looks took a hundredth of a core all the time.
const TIGHT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

/// While connections come and are accepted: a fifth of `hung_after`. Four steps of a worker must be seen within that before it can be called
/// hung as soon (`reuse_common::stall`), and looks that are further apart don't show them.
const LOOSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(15));

/// Looks may take one part in so many of a core. To be woken for them, with cold caches, takes about half as much again: with 100 it was
/// 1.5 % in all.
const SHARE_OF_A_CORE: u32 = 150;

/// The running mean of what looks cost takes so many of them into account.
const REMEMBERED_COSTS: u32 = 8;

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Nothing was accepted from some queue since the look before.
    pub(crate) stands: bool,
    /// Some queue is not empty.
    pub(crate) queued: bool,
    /// Some worker has a fault, or gets a wake-up probe.
    pub(crate) fault: bool,
    /// Connections were established since the look before.
    pub(crate) traffic: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A look, after so long.
    After(Duration),
    /// Ask the kernel to tell of the next connection, then a last look after so long.
    AskAndAfter(Duration),
    /// Nothing, until the kernel tells of a connection.
    Asleep,
}

/// Decides, look by look.
#[derive(Debug)]
pub(crate) struct Cadence {
    tight: Duration,
    loose: Duration,
    /// Not longer while a queue stands still, whatever looks cost: half of what counts as blindness (`reuse_common::stall`).
    longest_while_it_stands: Duration,
    /// Not longer while a fault may end or a queue may begin to wait: that much later a hung worker is noticed.
    longest_while_awake: Duration,
    quiet: u32,
    mean_cost: Duration,
}

impl Cadence {
    /// `hung_after` is zero when hung workers are not looked for.
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

    /// What a look has cost, in time of the processor.
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

    /// How long after the first connection to look: it is not worth a look before it may have been accepted.
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

    /// Never longer than half of `hung_after` with a queue, and a hang is looked at several times before it is called one.
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
