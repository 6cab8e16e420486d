//! A bounded queue for a reader that may never read. Adding to it never blocks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Maximum number of waiting bytes: two lines of the maximum length. A single item may be larger.
pub const MAX_WAITING_BYTES: usize = 2 * super::MAX_LINE_BYTES;

/// Added to the size of each item, so that millions of empty items aren't free.
const OVERHEAD_BYTES: usize = 64;

/// An item of an [`Outbox`].
pub trait SizeInBytes {
    /// Its size in bytes.
    fn bytes(&self) -> usize;
}

/// A queue with one reader. When it is full, new items are dropped and counted until the reader has taken everything that waits. So the
/// lost items are one contiguous part of the stream, and its place is known.
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
    /// Size of the waiting items, and of those that the reader has taken and not yet passed on.
    bytes: usize,
    /// Number of items that the reader has taken and not yet passed on.
    taken: usize,
    /// Number of dropped items, and of those that were waiting when the queue was closed.
    lost: u64,
    is_open: bool,
}

/// The result of adding an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The item waits for the reader.
    Queued,
    /// The queue is full.
    Lost {
        /// True for the first lost item since the reader had taken everything.
        is_first: bool,
    },
    /// The queue is closed; nobody will read the item.
    Closed,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: SizeInBytes> Outbox<T> {
    /// An empty queue.
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

    /// Adds an item.
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

    /// Waits for the next item; `None` when the queue is closed. After dealing with the item, call [`Self::passed_on`], which frees its
    /// space. Cancel-safe.
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

    /// The next item, if there is one now.
    pub fn try_take(&self) -> Option<T> {
        self.state().pop()
    }

    /// Reports that these items, of `bytes` bytes in all, were dealt with. Returns the number of lost items if some were lost and nothing
    /// waits now.
    pub fn passed_on(&self, things: usize, bytes: usize) -> Option<u64> {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes + things * OVERHEAD_BYTES);
        state.taken = state.taken.saturating_sub(things);
        if state.bytes > 0 {
            return None;
        }
        Some(std::mem::take(&mut state.lost)).filter(|lost| *lost > 0)
    }

    /// Closes the queue: nothing is accepted or handed out any more, and waiting items are lost.
    pub fn close(&self) {
        {
            let mut state = self.state();
            let waiting = std::mem::take(&mut state.waiting);
            state.lost += u64::try_from(waiting.len()).expect("it was in memory");
        }
        self.finish();
    }

    /// Once the queue is closed: the number of items that the reader never got, and of those that it took and never passed on.
    pub fn unread(&self) -> (u64, u64) {
        let state = self.state();
        (state.lost, u64::try_from(state.taken).expect("it was in memory"))
    }

    /// Accepts no more items; waiting items can still be taken.
    pub fn finish(&self) {
        self.state().is_open = false;
        self.0.changed.notify_one();
    }

    /// Whether items can still be added.
    pub fn is_open(&self) -> bool {
        self.state().is_open
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics while it holds the lock.
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

impl<T: SizeInBytes> Default for Outbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn cost(thing: &impl SizeInBytes) -> usize {
    thing.bytes() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Block(usize);

    impl SizeInBytes for Block {
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
        // It would fit, but must not overtake the lost items.
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
