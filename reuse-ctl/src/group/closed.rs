//! Listeners that have closed. The programs must know for a while longer whose they were: the kernel asks while it moves their connections.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// For so long after a listener has closed the kernel may still be moving its connections, and asks whose they were.
const MOVES_END_AFTER: Duration = Duration::from_secs(5);

/// Notices may be lost, so now and then all listeners are looked through.
const LOOK_THROUGH_EVERY: Duration = Duration::from_secs(600);

/// Listeners that have closed, and of which the programs still know whose they were.
#[derive(Debug, Default)]
pub(super) struct ClosedListeners {
    /// When each was heard to be closed, the earliest first.
    closed: VecDeque<(Instant, u64)>,
    /// Listeners that were nobody's when all were last looked through.
    unclaimed: BTreeSet<u64>,
    looked_through: Option<Instant>,
}

impl ClosedListeners {
    pub(super) fn add(&mut self, cookies: impl IntoIterator<Item = u64>) {
        let now = Instant::now();
        self.closed.extend(cookies.into_iter().map(|cookie| (now, cookie)));
    }

    /// Those that can be forgotten by now.
    pub(super) fn take_over(&mut self, now: Instant) -> Vec<u64> {
        let is_over = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) >= MOVES_END_AFTER;
        let count = self.closed.iter().take_while(|closed| is_over(closed)).count();
        self.closed.drain(..count).map(|(_, cookie)| cookie).collect()
    }

    pub(super) fn must_look_through(&mut self, now: Instant) -> bool {
        let last = *self.looked_through.get_or_insert(now);
        let must = now.saturating_duration_since(last) >= LOOK_THROUGH_EVERY;
        if must {
            self.looked_through = Some(now);
        }
        must
    }

    /// Of the listeners that are nobody's now, those that were nobody's the last time, too: a new one may not be a member yet.
    pub(super) fn unclaimed_twice(&mut self, unclaimed: BTreeSet<u64>) -> Vec<u64> {
        let before = std::mem::replace(&mut self.unclaimed, unclaimed);
        self.unclaimed.intersection(&before).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_forgotten_after_a_while() {
        let mut closed = ClosedListeners::default();
        closed.add([7, 8]);
        let now = Instant::now();
        assert_eq!(closed.take_over(now), [0; 0]);
        assert_eq!(closed.take_over(now + MOVES_END_AFTER), [7, 8]);
        assert_eq!(closed.take_over(now + MOVES_END_AFTER), [0; 0]);
    }

    #[test]
    fn what_was_nobodys_twice_is_forgotten() {
        let mut closed = ClosedListeners::default();
        let now = Instant::now();
        assert!(!closed.must_look_through(now));
        assert!(closed.must_look_through(now + LOOK_THROUGH_EVERY));
        assert!(!closed.must_look_through(now + LOOK_THROUGH_EVERY));
        assert_eq!(closed.unclaimed_twice([1, 2, 3].into()), [0; 0]);
        assert_eq!(closed.unclaimed_twice([2, 4].into()), [2]);
        assert_eq!(closed.unclaimed_twice([4].into()), [4]);
    }
}
