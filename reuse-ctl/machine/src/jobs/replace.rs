//! `restart` and `reload`.

use super::replacement::Replacement;
use super::rollout::Rollout;
use crate::Machine;
use crate::context::{Happened, Ticket};
use crate::ids::{Millis, SlotId};
use crate::instance::OnReady;
use crate::interface::Done;
use crate::slot::{Order, Slot};
use crate::words;

use super::Wide;

#[derive(Debug)]
pub(super) struct Restart {
    ticket: Ticket,
    replacement: Replacement,
}

#[derive(Debug)]
pub(super) struct Reload {
    ticket: Ticket,
    rollout: Rollout,
}

impl Machine {
    pub(crate) fn begin_restart(&mut self, ticket: Ticket, slot: SlotId, order: Order) {
        let replacement = self.replace(slot, order, None, OnReady::Publish);
        self.jobs.restarts.push(Restart { ticket, replacement });
    }

    pub(crate) fn begin_reload(&mut self, ticket: Ticket, order: Order) {
        let all = self.slots.iter().map(Slot::id).collect();
        let rollout = self.rollout(order, None, all);
        self.jobs.wide = self.continue_reload(Reload { ticket, rollout }).map(Wide::Reload);
    }

    pub(super) fn continue_restarts(&mut self, happened: &Happened) {
        let now = self.cx.now();
        self.jobs
            .restarts
            .iter_mut()
            .for_each(|restart| restart.replacement.hear(happened, now));
        let over: Vec<_> = self
            .jobs
            .restarts
            .extract_if(.., |restart| restart.replacement.is_over())
            .collect();
        for Restart { ticket, replacement } in over {
            let slot = replacement.slot;
            let old = replacement.old().filter(|_| replacement.failure().is_some());
            let is_restored = old.is_some_and(|old| self.slots[usize::from(slot.0)].take_back(old, &mut self.cx));
            let done = Done {
                slots: vec![slot],
                message: format!("worker {slot} was restarted"),
            };
            let outcome = self.failure_of(&replacement, is_restored).map_or(Ok(done), Err);
            self.cx.answer_about(ticket, vec![slot], outcome);
        }
    }

    pub(super) fn continue_reload(&mut self, mut reload: Reload) -> Option<Reload> {
        if let Err(failure) = self.roll_on(&mut reload.rollout) {
            let unchanged = reload.rollout.slots_not_done();
            let still = self.still(&unchanged, "the others", "run the old version untouched");
            let refusal = self.explain(&reload.rollout, failure, "reloaded", &still);
            self.cx
                .answer_about(reload.ticket, reload.rollout.touched, Err(refusal));
            return None;
        }
        if !reload.rollout.is_over() {
            return Some(reload);
        }
        let slots = reload.rollout.slots_done();
        let message = format!("reloaded {}", words::count(slots.len(), "worker"));
        self.cx.answer(reload.ticket, Ok(Done { slots, message }));
        None
    }

    pub(super) fn refuse_restarts_of(&mut self, removed: &[SlotId]) {
        for Restart { ticket, replacement } in self
            .jobs
            .restarts
            .extract_if(.., |restart| removed.contains(&restart.slot()))
        {
            self.cx.answer(ticket, Err(words::removed_meanwhile(replacement.slot)));
        }
    }
}

impl Restart {
    pub(super) fn slot(&self) -> SlotId {
        self.replacement.slot
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.replacement.deadline()
    }

    pub(super) fn name(&self) -> String {
        format!("a restart of worker {}", self.slot())
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl Reload {
    pub(super) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(super) fn hear(mut self, happened: &Happened, now: Millis) -> Self {
        self.rollout.hear(happened, now);
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}
