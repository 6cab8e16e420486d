//! When a worker is called hung, judged from outside: by its accept queue alone.
//!
//! A [`Watch`] looks at one instance every few milliseconds. Its *stall* is the time since it was last proven to have accepted
//! something, or seen with an empty queue. [`Norm`] is what the whole app knows, and [`Norm::judge`] calls instances hung: **a
//! published instance whose stall reaches its threshold, while more than half of the other published ones are fine.**
//!
//! The threshold is the longest of
//! - `hung_after`;
//! - *best4*: the shortest time in which this instance was ever seen to take four steps, in four different looks. Nothing else
//!   proves that a server *can* accept that fast: one that serves a connection for 300 ms before it accepts the next may take
//!   the first at once, and still needs 900 ms for four. Before it is known an instance is never called: a worker that starts
//!   cold owes us nothing yet. Looks closer together than a fifth of `hung_after` make one step, so that a burst which
//!   straddles two looks is no second step; four such steps still fit in `hung_after`.
//! - *busy*: what it has just taken, at the best pace it was seen to work. A server that accepts eight connections in one go and
//!   then works on them accepts nothing for eight times as long as after a single one.
//!   These two count a quarter more, for the scatter of work and of looks.
//! - 1.5 × what was *learned*: the second-longest stall of the last minute (of half of it at least) that ended by itself while
//!   most of the others stalled as well. An overload of all is no hang, so its stalls are normal; half as much again is for
//!   their scatter. The second-longest, because one freak stall is not normal. A stall that was called is not learned, nor
//!   one of an instance whose peers were fine: else one worker with a growing disease would teach the app to bear it.
//!
//! An instance is *fine* if it has not stalled for half its threshold within the last threshold's time. (A look at the present
//! moment is not enough: in an overload half of the instances have accepted something just now, and it is always another half.)
//! With no others nobody is called: there is nothing to compare with.
//!
//! *Nobody moves*: if most are hung, too few are left to compare with. So an instance whose stall is *long* (20 × `hung_after`,
//! and 4 × its threshold) is called as well, as long as each of the others is either fine or has stalled as long; one that
//! struggles, and accepts now and then, shows an overload. So the stop of all is seen after a second, in one look.
//!
//! Both readings that make up the count of the accepted are uncertain, so progress must be *proven*: the least possible count
//! must exceed the greatest possible one of the last progress. That one is the smallest upper bound of all looks since, as the
//! true count only grows; each taken as the larger of two adjacent looks, since a connection that is being queued at that very
//! moment makes one look's bound too low. A spike in a bound is forgotten after two looks, so that a withdrawn instance can
//! show its life by a single connection.
//!
//! A gap between looks that is longer than half of `hung_after` means that the *controller* slept. It says nothing about the
//! worker, so it counts as one usual look.
//!
//! What can't be told apart from outside: a thread pool whose threads are all busy, and an event loop that computes. Both are
//! called while most of the others are fine: their queue is better off there, and both are back at their next accept.

/// Steps of progress that show how fast an instance can accept, less the one that completes them.
const EARLIER_STEPS: usize = 3;

/// Looks within this part of `hung_after` make one step.
const STEP_PART: u64 = 5;

/// A gap above this part of `hung_after` is the controller's own sleep…
const BLIND_PART: u64 = 2;

/// …and counts as this part of it: the usual distance of looks, 5 ms for 50.
const LOOK_PART: u64 = 10;

/// So many times `hung_after`, and so many thresholds, are long: one second, or more, for 50 ms. A person who looks at `status` because
/// the app hangs sees it there, and a pause of the whole machine is usually shorter.
const LONG_HUNG_AFTERS: u64 = 20;
/// See [`LONG_HUNG_AFTERS`].
const LONG_THRESHOLDS: u64 = 4;

/// What was learned is kept for one to two of these.
const HALF_MEMORY_MS: u64 = 30_000;

/// One look at an instance's accept queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When, in milliseconds on a clock that never goes back.
    pub at_ms: u64,
    /// Connections that wait to be accepted.
    pub queue: u32,
    /// Connections accepted so far, at least…
    pub accepted_at_least: u64,
    /// …and at most.
    pub accepted_at_most: u64,
}

/// What was seen of one instance.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    last: Option<Look>,
    /// The larger of the last two looks' greatest possible counts.
    bound: u64,
    /// The count of the accepted at the last progress: at most.
    ceiling: u64,
    stall_ms: u64,
    /// The part of the present stall during which most of the others stalled as well.
    common_ms: u64,
    hung: bool,
    /// When its stall was last half as long as its threshold, or longer.
    troubled_at_ms: Option<u64>,
    /// The latest first; a place is empty until the instance has got so far.
    steps: [Option<Step>; EARLIER_STEPS],
    best_ms: Option<u64>,
    /// The least time per connection, in microseconds, over any four steps.
    pace_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    /// The look before it: the earliest moment at which it may have been made.
    after_ms: u64,
    at_ms: u64,
    /// What was accepted before it: at least, and at most.
    least: u64,
    most: u64,
}

/// What is normal in an app, and for how long a worker may stall anyway.
#[derive(Debug, Clone)]
pub struct Norm {
    hung_after_ms: u64,
    half_began_ms: u64,
    /// The present half of the memory, and the one before.
    halves: [Longest; 2],
}

/// The two longest stalls of some time.
#[derive(Debug, Clone, Copy, Default)]
struct Longest {
    first_ms: u64,
    second_ms: u64,
}

/// How an instance does, among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Fine,
    /// It stalls, and not for long enough to be silent.
    Struggling,
    Silent,
}

impl Watch {
    /// Of an instance that was never looked at.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`Norm::judge`] has called it hung, and it has not been proven to accept since.
    pub fn is_hung(&self) -> bool {
        self.hung
    }

    /// How long it has accepted nothing while something waited, in milliseconds.
    pub fn stall_ms(&self) -> u64 {
        self.stall_ms
    }

    /// Connections that waited at the last look; absent before the first one.
    pub fn queue(&self) -> Option<u32> {
        self.last.map(|look| look.queue)
    }

    /// Forgets the present stall: from now on the instance gets connections (again). What it can do is remembered.
    pub fn restart(&mut self) {
        self.end_stall();
        self.troubled_at_ms = None;
    }

    /// Takes in what was seen. Whether that proves that something was accepted since the last progress: then it is not hung any more.
    pub fn look(&mut self, look: Look, norm: &mut Norm) -> bool {
        let most = look.accepted_at_most.max(look.accepted_at_least);
        let Some(last) = self.last.replace(look) else {
            (self.bound, self.ceiling) = (most, most);
            return false;
        };
        self.bound = most.max(last.accepted_at_most.max(last.accepted_at_least));
        let progress = look.accepted_at_least > self.ceiling;
        if progress {
            self.step(last, look.at_ms, norm);
            self.ceiling = self.bound;
        } else {
            self.ceiling = self.ceiling.min(self.bound);
        }
        if progress || look.queue == 0 {
            norm.learn(look.at_ms, self.common_ms);
            if progress {
                self.end_stall();
            } else {
                (self.stall_ms, self.common_ms) = (0, 0);
            }
        } else {
            self.stall_ms = self.stall_ms.saturating_add(norm.seen_ms(last.at_ms, look.at_ms));
        }
        progress
    }

    fn end_stall(&mut self) {
        (self.stall_ms, self.common_ms, self.hung) = (0, 0, false);
    }

    /// `last` is the look before; the ceiling is still that of the last progress.
    fn step(&mut self, last: Look, at_ms: u64, norm: &Norm) {
        let [latest, .., oldest] = self.steps;
        if latest.is_some_and(|latest| at_ms.saturating_sub(latest.at_ms) < norm.hung_after_ms / STEP_PART) {
            return;
        }
        if let Some(oldest) = oldest {
            let took_ms = at_ms.saturating_sub(oldest.after_ms);
            let connections = last.accepted_at_least.saturating_sub(oldest.most).max(1);
            let pace_us = took_ms.saturating_mul(1000) / connections;
            self.best_ms = Some(self.best_ms.map_or(took_ms, |best| best.min(took_ms)));
            self.pace_us = Some(self.pace_us.map_or(pace_us, |best| best.min(pace_us)));
        }
        self.steps.rotate_right(1);
        self.steps[0] = Some(Step {
            after_ms: last.at_ms,
            at_ms,
            least: last.accepted_at_least,
            most: self.ceiling,
        });
    }

    /// How long it may be busy with what it took in its last step.
    fn busy_ms(&self) -> u64 {
        match (self.steps[0], self.pace_us) {
            (Some(step), Some(pace_us)) => self.ceiling.saturating_sub(step.least).saturating_mul(pace_us) / 1000,
            _ => 0,
        }
    }

    fn call(&mut self) {
        self.hung = true;
        self.common_ms = 0;
        // From here on a single connection is enough to show that it lives, and nothing from before is.
        self.ceiling = self.bound;
    }
}

impl Norm {
    /// Nothing is known yet. With a `hung_after_ms` of 0 nobody is ever called hung.
    pub fn new(hung_after_ms: u64) -> Self {
        Self {
            hung_after_ms,
            half_began_ms: 0,
            halves: [Longest::default(); 2],
        }
    }

    /// Calls those of `watches` hung that are. `watches` are those of the published instances, all of them, each of which has just
    /// had its look.
    pub fn judge(&mut self, now_ms: u64, watches: &mut [&mut Watch]) {
        if self.hung_after_ms == 0 {
            return;
        }
        self.forget(now_ms);
        let (mut fine, mut silent) = (0, 0);
        for watch in watches.iter_mut() {
            if watch.stall_ms >= (self.threshold_ms(watch) / 2).max(1) {
                watch.troubled_at_ms = Some(now_ms);
            }
            match self.condition(watch, now_ms) {
                Condition::Fine => fine += 1,
                Condition::Silent => silent += 1,
                Condition::Struggling => {}
            }
        }
        let others = watches.len().saturating_sub(1);
        let nobody_struggles = fine + silent == watches.len();
        for watch in watches.iter_mut() {
            if watch.hung || watch.best_ms.is_none() || watch.stall_ms < self.base_ms(watch) {
                continue;
            }
            let condition = self.condition(watch, now_ms);
            let fine_others = fine - usize::from(condition == Condition::Fine);
            let most_are_fine = 2 * fine_others > others;
            let nobody_moves = others > 0 && nobody_struggles && condition == Condition::Silent;
            if nobody_moves || (most_are_fine && watch.stall_ms >= self.threshold_ms(watch)) {
                watch.call();
            } else if !most_are_fine {
                watch.common_ms = watch.stall_ms;
            }
        }
    }

    /// How long this instance may stall, in milliseconds; absent while it has not shown yet how fast it can be.
    pub fn patience_ms(&self, watch: &Watch) -> Option<u64> {
        watch.best_ms.map(|_| self.threshold_ms(watch))
    }

    fn condition(&self, watch: &Watch, now_ms: u64) -> Condition {
        let threshold_ms = self.threshold_ms(watch);
        let long_ms = (LONG_HUNG_AFTERS * self.hung_after_ms).max(LONG_THRESHOLDS.saturating_mul(threshold_ms));
        if watch.hung || watch.stall_ms >= long_ms {
            return Condition::Silent;
        }
        match watch.troubled_at_ms {
            Some(troubled_at_ms) if now_ms.saturating_sub(troubled_at_ms) < threshold_ms => Condition::Struggling,
            _ => Condition::Fine,
        }
    }

    fn threshold_ms(&self, watch: &Watch) -> u64 {
        let learned_ms = self.halves[0].and(self.halves[1]).second_ms;
        self.base_ms(watch).max(learned_ms.saturating_mul(3) / 2)
    }

    /// The threshold, without what was learned: what must be passed in order to be learned.
    fn base_ms(&self, watch: &Watch) -> u64 {
        let seen_ms = watch.best_ms.unwrap_or(0).max(watch.busy_ms());
        self.hung_after_ms.max(seen_ms.saturating_mul(5) / 4)
    }

    /// What of the time between two looks was really watched.
    fn seen_ms(&self, last_ms: u64, now_ms: u64) -> u64 {
        let gap_ms = now_ms.saturating_sub(last_ms);
        if gap_ms > (self.hung_after_ms / BLIND_PART).max(1) {
            (self.hung_after_ms / LOOK_PART).max(1)
        } else {
            gap_ms
        }
    }

    fn learn(&mut self, now_ms: u64, stall_ms: u64) {
        if stall_ms > 0 {
            self.forget(now_ms);
            self.halves[0].add(stall_ms);
        }
    }

    fn forget(&mut self, now_ms: u64) {
        let age_ms = now_ms.saturating_sub(self.half_began_ms);
        if age_ms >= HALF_MEMORY_MS {
            let kept = if age_ms < 2 * HALF_MEMORY_MS {
                self.halves[0]
            } else {
                Longest::default()
            };
            self.halves = [Longest::default(), kept];
            self.half_began_ms = now_ms;
        }
    }
}

impl Longest {
    fn add(&mut self, stall_ms: u64) {
        self.second_ms = self.second_ms.max(stall_ms.min(self.first_ms));
        self.first_ms = self.first_ms.max(stall_ms);
    }

    fn and(mut self, other: Self) -> Self {
        self.add(other.first_ms);
        self.add(other.second_ms);
        self
    }
}

#[cfg(test)]
#[path = "stall_tests.rs"]
mod tests;
