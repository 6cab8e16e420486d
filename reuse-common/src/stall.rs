//! Decides which workers are hung, from outside: by their accept queues alone.
//!
//! A [`Watch`] looks at one instance every few milliseconds. Its *stall* is the time since the instance was last proven to have accepted a
//! connection, or seen with an empty queue. A [`Norm`] holds what is known about the whole app, and [`Norm::judge`] declares instances
//! hung: **a published instance whose stall reaches its threshold, while more than half of the other published instances are fine.**
//!
//! The threshold is the longest of
//! - `hung_after`;
//! - *best4*: the shortest time in which this instance was ever seen to make four steps of progress, in four different looks. Only that
//!   proves how fast a server *can* accept: one that serves a connection for 300 ms before it accepts the next may take the first at once,
//!   but needs 900 ms for four. Until best4 is known, an instance is never declared hung, so a slow cold start is no hang. Looks less than
//!   a fifth of `hung_after` apart make one step, so that a burst across two looks is not two steps; four such steps still fit into
//!   `hung_after`.
//! - *busy*: the connections that the instance has just accepted, times its best pace so far. A server that accepts eight connections at
//!   once and then works on them accepts nothing for eight times as long as after one.
//!   A quarter is added to best4 and busy, because work and looks vary.
//! - 1.5 × the *learned* stall: the second-longest stall of the last minute (at least of the last half minute) that ended by itself while
//!   most other instances stalled as well. Stalls in an overload of the whole app are normal; the factor is for their variation. The
//!   second-longest, because a single freak stall is not normal. Stalls of an instance that was declared hung, or whose peers were fine,
//!   are not learned: otherwise one worker that gets worse and worse would raise the threshold for the whole app.
//!
//! An instance is *fine* if its stall has not reached half of its threshold within the last threshold's time. (Its present stall is not
//! enough: in an overload half of the instances have just accepted something, and each time it is a different half.) An app with one
//! published instance has nothing to compare with, so that instance is never declared hung.
//!
//! *Nobody moves*: if most instances are hung, too few are left to compare with. So an instance whose stall is *long* (20 × `hung_after`,
//! and 4 × its threshold) is also declared hung, if each of the others is either fine or has stalled as long. An instance in between, which
//! still accepts now and then, means an overload. So a standstill of all instances is noticed after about a second, in a single look.
//!
//! The number of accepted connections is computed from two uncertain readings, so progress must be *proven*: the lower bound of the count
//! must exceed the upper bound at the last progress. As the true count only grows, the smallest upper bound of all looks since then is
//! used. Each look's upper bound is the larger one of that look and the look before, since a connection that is being queued at that moment
//! makes one look's bound too low. A spike in a bound is forgotten after two looks, so that a withdrawn instance can show that it is alive
//! with a single connection.
//!
//! A gap between looks that is longer than half of `hung_after` means that the *controller* slept. It says nothing about the worker and
//! counts as one usual look.
//!
//! A thread pool whose threads are all busy and an event loop that computes look the same from outside. Both are declared hung while most
//! of the others are fine: the other workers serve the queue sooner, and the worker is back at its next accept.

/// The number of earlier steps that are kept. Together with the current one they show how fast an instance can accept.
const EARLIER_STEPS: usize = 3;

/// Looks less than this part of `hung_after` apart make one step.
const STEP_PART: u64 = 5;

/// A gap longer than this part of `hung_after` means that the controller slept.
const BLIND_PART: u64 = 2;

/// Such a gap counts as this part of `hung_after`: the usual interval of looks, 5 ms for 50 ms.
const LOOK_PART: u64 = 10;

/// A stall is long after this many times `hung_after` and [`LONG_THRESHOLDS`] thresholds: with 50 ms, one second or more. That is soon
/// enough for a user who looks at `status` because the app hangs, and longer than most pauses of the whole machine.
const LONG_HUNG_AFTERS: u64 = 20;
/// See [`LONG_HUNG_AFTERS`].
const LONG_THRESHOLDS: u64 = 4;

/// Learned stalls are kept for one to two times this long.
const HALF_MEMORY_MS: u64 = 30_000;

/// One look at an instance's accept queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Time of the look, in milliseconds on a monotonic clock.
    pub at_ms: u64,
    /// Connections that wait to be accepted.
    pub queue: u32,
    /// Lower bound of the number of connections accepted so far.
    pub accepted_at_least: u64,
    /// Upper bound of the number of connections accepted so far.
    pub accepted_at_most: u64,
}

/// What successive looks have shown of one instance.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    last: Option<Look>,
    /// The larger of the last two looks' upper bounds.
    bound: u64,
    /// Upper bound of the accepted connections at the last progress.
    ceiling: u64,
    stall_ms: u64,
    /// The part of the present stall during which most of the others stalled as well.
    common_ms: u64,
    hung: bool,
    /// When the stall last was at least half of the threshold.
    troubled_at_ms: Option<u64>,
    /// The latest step first; `None` until the instance has made that many.
    steps: [Option<Step>; EARLIER_STEPS],
    best_ms: Option<u64>,
    /// The shortest time per connection over any four steps, in microseconds.
    pace_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    /// The time of the look before the step: the earliest moment at which it may have happened.
    after_ms: u64,
    at_ms: u64,
    /// Lower and upper bound of the connections accepted before the step.
    least: u64,
    most: u64,
}

/// What is normal for an app, and how long each worker may stall.
#[derive(Debug, Clone)]
pub struct Norm {
    hung_after_ms: u64,
    half_began_ms: u64,
    /// The current half of the memory, and the previous one.
    halves: [Longest; 2],
}

/// The two longest stalls of a period.
#[derive(Debug, Clone, Copy, Default)]
struct Longest {
    first_ms: u64,
    second_ms: u64,
}

/// The state of an instance, compared with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Fine,
    /// The instance stalls, but not for long enough to be silent.
    Struggling,
    Silent,
}

impl Watch {
    /// A watch that has not looked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`Norm::judge`] has declared the instance hung, with no accept proven since.
    pub fn is_hung(&self) -> bool {
        self.hung
    }

    /// How long the instance has accepted nothing while connections waited, in milliseconds.
    pub fn stall_ms(&self) -> u64 {
        self.stall_ms
    }

    /// Number of waiting connections at the last look; `None` before the first one.
    pub fn queue(&self) -> Option<u32> {
        self.last.map(|look| look.queue)
    }

    /// Ends the current stall, because the instance gets connections from now on. What is known about its speed is kept.
    pub fn restart(&mut self) {
        self.end_stall();
        self.troubled_at_ms = None;
    }

    /// Takes in one look. Returns true if it proves that a connection was accepted since the last progress, which also ends the state hung.
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

    /// `last` is the previous look; the ceiling is still the one of the last progress.
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

    /// How long the instance may be busy with the connections of its last step, in milliseconds.
    fn busy_ms(&self) -> u64 {
        match (self.steps[0], self.pace_us) {
            (Some(step), Some(pace_us)) => self.ceiling.saturating_sub(step.least).saturating_mul(pace_us) / 1000,
            _ => 0,
        }
    }

    fn call(&mut self) {
        self.hung = true;
        self.common_ms = 0;
        // From here on a single connection proves that the instance is alive, and connections from before don't.
        self.ceiling = self.bound;
    }
}

impl Norm {
    /// A norm without any knowledge. With a `hung_after_ms` of 0, no instance is ever declared hung.
    pub fn new(hung_after_ms: u64) -> Self {
        Self {
            hung_after_ms,
            half_began_ms: 0,
            halves: [Longest::default(); 2],
        }
    }

    /// Decides which instances are hung and marks their watches. `watches` must be those of all published instances, and each must just
    /// have had its look.
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

    /// How long this instance may stall, in milliseconds; `None` until it has shown how fast it can accept.
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

    /// The threshold without the learned part. Only a longer stall can be learned.
    fn base_ms(&self, watch: &Watch) -> u64 {
        let seen_ms = watch.best_ms.unwrap_or(0).max(watch.busy_ms());
        self.hung_after_ms.max(seen_ms.saturating_mul(5) / 4)
    }

    /// The part of the time between two looks that counts as watched, in milliseconds.
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
