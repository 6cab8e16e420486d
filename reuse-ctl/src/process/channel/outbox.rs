//! A bounded queue for a reader that may never read. Putting something into it never waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// So much waits at most, unless one thing alone is more: two of the longest lines.
pub const MAX_WAITING_BYTES: usize = 2 * super::MAX_LINE_BYTES;

/// What each thing costs beside its bytes, so that ten million empty ones are not free.
const OVERHEAD_BYTES: usize = 64;

/// What can wait.
pub trait Weight {
    /// Its bytes.
    fn bytes(&self) -> usize;
}

/// A queue with one reader. When it is full, what comes is lost, and counted, until the reader has taken all that waits: so what is
/// lost is one piece of the stream, and its place is known.
#[derive(Debug)]
pub struct Outbox<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Of what waits, and of what the reader has taken and not yet passed on.
    bytes: usize,
    /// What the reader has taken and not yet passed on.
    taken: usize,
    /// What found no room, and what waited when it was closed.
    lost: u64,
    is_open: bool,
}

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It waits for the reader.
    Queued,
    /// The queue is full.
    Lost {
        /// Nothing was lost since the reader had taken everything.
        is_first: bool,
    },
    /// Nobody will read it.
    Closed,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Weight> Outbox<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                taken: 0,
                lost: 0,
                is_open: true,
            }),
            changed: Notify::new(),
        }))
    }

    /// Puts something in.
    pub fn offer(&self, thing: T) -> Offer {
        let mut state = self.state();
        if !state.is_open {
            return Offer::Closed;
        }
        let cost = cost(&thing);
        let is_full = state.bytes > 0 && state.bytes + cost > MAX_WAITING_BYTES;
        if is_full || state.lost > 0 {
            state.lost += 1;
            return Offer::Lost {
                is_first: state.lost == 1,
            };
        }
        state.bytes += cost;
        state.waiting.push_back(thing);
        self.0.changed.notify_one();
        Offer::Queued
    }

    /// The next thing; `None` when it is closed. Whoever takes it says with [`Self::passed_on`] when it no longer costs memory. Cancel-safe.
    pub async fn take(&self) -> Option<T> {
        loop {
            {
                let mut state = self.state();
                if let Some(thing) = state.pop() {
                    return Some(thing);
                }
                if !state.is_open {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// The next thing, if there is one now.
    pub fn try_take(&self) -> Option<T> {
        self.state().pop()
    }

    /// These things, of so many bytes in all, have been dealt with. Returns how many were lost, if nothing waits now and some were.
    pub fn passed_on(&self, things: usize, bytes: usize) -> Option<u64> {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes + things * OVERHEAD_BYTES);
        state.taken = state.taken.saturating_sub(things);
        if state.bytes > 0 {
            return None;
        }
        Some(std::mem::take(&mut state.lost)).filter(|lost| *lost > 0)
    }

    /// Nothing more is taken or given: what waits is lost.
    pub fn close(&self) {
        {
            let mut state = self.state();
            let waiting = std::mem::take(&mut state.waiting);
            state.lost += u64::try_from(waiting.len()).expect("it was in memory");
        }
        self.finish();
    }

    /// Once it is closed: what it never gave to the reader, and what the reader took and never passed on.
    pub fn unread(&self) -> (u64, u64) {
        let state = self.state();
        (state.lost, u64::try_from(state.taken).expect("it was in memory"))
    }

    /// Nothing more is taken; what waits can still be had.
    pub fn finish(&self) {
        self.state().is_open = false;
        self.0.changed.notify_one();
    }

    /// Whether somebody may still read it.
    pub fn is_open(&self) -> bool {
        self.state().is_open
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics half way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn pop(&mut self) -> Option<T> {
        let thing = self.waiting.pop_front()?;
        self.taken += 1;
        Some(thing)
    }
}

impl<T: Weight> Default for Outbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn cost(thing: &impl Weight) -> usize {
    thing.bytes() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Block(usize);

    impl Weight for Block {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    const HALF: usize = MAX_WAITING_BYTES / 2;

    #[tokio::test]
    async fn what_does_not_fit_is_lost_until_all_is_taken() {
        let outbox = Outbox::new();
        assert_eq!(outbox.offer(Block(HALF)), Offer::Queued);
        assert_eq!(outbox.offer(Block(HALF)), Offer::Lost { is_first: true });
        // It would fit, but it must not overtake what was lost.
        assert_eq!(outbox.offer(Block(1)), Offer::Lost { is_first: false });
        assert_eq!(outbox.take().await, Some(Block(HALF)));
        assert_eq!(
            outbox.offer(Block(1)),
            Offer::Lost { is_first: false },
            "not passed on yet"
        );
        assert_eq!(outbox.passed_on(1, HALF), Some(3));
        assert_eq!(outbox.offer(Block(1)), Offer::Queued);
        assert_eq!((outbox.try_take(), outbox.try_take()), (Some(Block(1)), None));
        assert_eq!(outbox.passed_on(1, 1), None);
    }

    #[test]
    fn one_thing_fits_whatever_it_is_and_small_ones_are_not_free() {
        let outbox = Outbox::new();
        assert_eq!(outbox.offer(Block(2 * MAX_WAITING_BYTES)), Offer::Queued);
        let outbox = Outbox::new();
        let many = std::iter::repeat_with(|| outbox.offer(Block(0))).take_while(|offer| *offer == Offer::Queued);
        assert_eq!(many.count(), MAX_WAITING_BYTES / OVERHEAD_BYTES);
    }

    #[tokio::test]
    async fn closed_is_closed() {
        let outbox = Outbox::new();
        assert_eq!(outbox.offer(Block(1)), Offer::Queued);
        let reader = outbox.clone();
        assert_eq!(reader.take().await, Some(Block(1)));
        let waiting = tokio::spawn(async move { reader.take().await });
        outbox.close();
        assert_eq!(waiting.await.expect("no panic"), None);
        assert_eq!(outbox.offer(Block(1)), Offer::Closed);
        assert!(!outbox.is_open());
    }

    #[tokio::test]
    async fn what_nobody_has_read_is_counted() {
        let outbox = Outbox::new();
        for _ in 0..4 {
            assert_eq!(outbox.offer(Block(1)), Offer::Queued);
        }
        outbox.take().await;
        outbox.try_take();
        assert_eq!(outbox.passed_on(1, 1), None);
        // Full from here on.
        assert_eq!(outbox.offer(Block(MAX_WAITING_BYTES)), Offer::Lost { is_first: true });
        outbox.close();
        assert_eq!(outbox.offer(Block(1)), Offer::Closed, "who offers it knows");
        outbox.close();
        assert_eq!(outbox.unread(), (3, 1));
    }
}
