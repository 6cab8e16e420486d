//! A drain in progress: a withdrawn instance, and the requests that wait until nothing is left on it.

use super::context::{Context, Ticket};
use super::ending::Withdrawal;
use super::words;
use crate::ids::{Millis, SlotId};
use crate::interface::{Done, Load, Refusal};

/// A waiting `drain` request. Each has its own deadline.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) deadline: Millis,
}

#[derive(Debug)]
pub(super) struct Drain {
    withdrawal: Withdrawal,
    waiters: Vec<Waiter>,
    /// Whether the instance could be published again at once.
    pub(super) listening: bool,
}

impl Drain {
    pub(super) fn begin(withdrawal: Withdrawal, waiter: Option<Waiter>) -> Self {
        Self {
            withdrawal,
            waiters: waiter.into_iter().collect(),
            listening: true,
        }
    }

    pub(super) fn join(&mut self, waiter: Option<Waiter>) {
        self.waiters.extend(waiter);
    }

    pub(super) fn withdrawal(&self) -> Withdrawal {
        self.withdrawal
    }

    pub(super) fn observed(&mut self, load: Load) {
        self.withdrawal.observed(load);
    }

    /// See [`Withdrawal::takes_from_queue`].
    pub(super) fn takes_from_queue(&mut self, now: Millis) -> bool {
        self.withdrawal.takes_from_queue(now)
    }

    pub(super) fn is_done(&self, now: Millis) -> bool {
        self.withdrawal.is_empty(now)
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline);
        waiters.chain(self.withdrawal.due(Withdrawal::is_empty)).min()
    }

    /// Answers the waiting requests whose time is over with what is left. The drain itself goes on.
    pub(super) fn expire_waiters(&mut self, slot: SlotId, cx: &mut Context) {
        let now = cx.now();
        for waiter in self.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            cx.answer(waiter.ticket, Err(words::drain_timed_out(slot, self.withdrawal.seen())));
        }
    }

    pub(super) fn succeed(self, slot: SlotId, how: &str, cx: &mut Context) {
        for waiter in self.waiters {
            cx.answer(
                waiter.ticket,
                Ok(Done {
                    slots: vec![slot],
                    message: format!("worker {slot} {how}"),
                }),
            );
        }
    }

    pub(super) fn fail(self, refusal: &Refusal, cx: &mut Context) {
        for waiter in self.waiters {
            cx.answer(waiter.ticket, Err(refusal.clone()));
        }
    }
}
