//! `restart` and `reload`: one instance takes another's place.

use std::collections::VecDeque;

use super::Wide;
use crate::supervisor::core::Core;
use crate::supervisor::core::context::{Happened, Ticket};
use crate::supervisor::core::instance::OnReady;
use crate::supervisor::core::slot::{Order, Slot};
use crate::supervisor::core::words;
use crate::supervisor::interface::{Done, InstanceId, Refusal, SlotId};

#[derive(Debug)]
pub(super) struct Restart {
    ticket: Ticket,
    replacement: Replacement,
}

#[derive(Debug)]
pub(super) struct Reload {
    ticket: Ticket,
    order: Order,
    todo: VecDeque<SlotId>,
    /// In slot order; all but the last have started.
    begun: Vec<Replacement>,
}

/// It is over when the new instance is ready and the old one is gone.
#[derive(Debug)]
struct Replacement {
    slot: SlotId,
    /// The new instance is the first of the slot with this id or a higher one.
    fresh_from: InstanceId,
    /// Until it is gone.
    old: Option<InstanceId>,
    start: Start,
}

#[derive(Debug)]
enum Start {
    UnderWay,
    Succeeded,
    Failed { culprit: InstanceId, reason: String },
}

impl Core {
    pub(in crate::supervisor::core) fn begin_restart(&mut self, ticket: Ticket, slot: SlotId, order: Order) {
        let replacement = self.replace(slot, order, OnReady::Publish);
        self.jobs.restarts.push(Restart { ticket, replacement });
    }

    pub(in crate::supervisor::core) fn begin_reload(&mut self, ticket: Ticket, order: Order) {
        let todo = self.slots.iter().map(Slot::id).collect();
        let reload = Reload {
            ticket,
            order,
            todo,
            begun: Vec::new(),
        };
        self.jobs.wide = self.continue_reload(reload).map(Wide::Reload);
    }

    pub(super) fn continue_restarts(&mut self, happened: &Happened) {
        self.jobs
            .restarts
            .iter_mut()
            .for_each(|restart| restart.replacement.hear(happened));
        let over: Vec<_> = self
            .jobs
            .restarts
            .extract_if(.., |restart| restart.replacement.is_over())
            .collect();
        for Restart { ticket, replacement } in over {
            let slot = replacement.slot;
            let done = Done {
                slots: vec![slot],
                message: format!("worker {slot} was restarted"),
            };
            let outcome = self.failure(&replacement).map_or(Ok(done), Err);
            self.cx.answer(ticket, outcome);
        }
    }

    /// Goes on to the next slot as soon as the new instance of the one before is ready; the old ones end meanwhile.
    pub(super) fn continue_reload(&mut self, mut reload: Reload) -> Option<Reload> {
        let last = reload.begun.last();
        if let Some(failure) = last.and_then(|last| self.failure(last)) {
            let refusal = reload.explain(failure);
            self.cx.answer(reload.ticket, Err(refusal));
            return None;
        }
        if last.is_none_or(Replacement::has_started)
            && let Some(slot) = reload.todo.pop_front()
        {
            // A slot that a person drained gets the new version too, and stays withdrawn.
            let on_ready = self.slots[usize::from(slot.0)].on_ready();
            reload.begun.push(self.replace(slot, reload.order, on_ready));
        }
        if !reload.is_over() {
            return Some(reload);
        }
        let slots = reload.slots_done();
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

    fn replace(&mut self, slot: SlotId, order: Order, on_ready: OnReady) -> Replacement {
        let fresh_from = self.cx.next_instance();
        let old = self.slots[usize::from(slot.0)].replace(order, on_ready, &mut self.cx);
        Replacement {
            slot,
            fresh_from,
            old,
            start: Start::UnderWay,
        }
    }

    fn failure(&self, replacement: &Replacement) -> Option<Refusal> {
        let Start::Failed { culprit, reason } = &replacement.start else {
            return None;
        };
        let survivor = self
            .slots
            .get(usize::from(replacement.slot.0))
            .and_then(Slot::serving_pid);
        Some(words::start_failed(replacement.slot, *culprit, reason, survivor))
    }
}

impl Restart {
    pub(super) fn slot(&self) -> SlotId {
        self.replacement.slot
    }

    pub(super) fn name(&self) -> String {
        format!("a restart of worker {}", self.slot())
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl Reload {
    pub(super) fn hear(mut self, happened: &Happened) -> Self {
        self.begun.iter_mut().for_each(|replacement| replacement.hear(happened));
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }

    fn is_over(&self) -> bool {
        self.todo.is_empty() && self.begun.iter().all(Replacement::is_over)
    }

    fn slots_done(&self) -> Vec<SlotId> {
        let done = self.begun.iter().filter(|replacement| replacement.has_started());
        done.map(|replacement| replacement.slot).collect()
    }

    fn explain(&self, failure: Refusal) -> Refusal {
        let slots = self.slots_done();
        let so_far = if slots.is_empty() {
            String::new()
        } else {
            format!(": {}", words::list(&slots))
        };
        let total = self.begun.len() + self.todo.len();
        let error = format!(
            "{}; reloaded {} of {total}{so_far}; the others run the old version untouched",
            failure.error,
            slots.len(),
        );
        Refusal {
            error,
            slots,
            ..failure
        }
    }
}

impl Replacement {
    fn hear(&mut self, happened: &Happened) {
        match happened {
            Happened::Gone { instance } => self.old = self.old.filter(|old| old != instance),
            Happened::Up { slot, instance } if self.awaits(*slot, *instance) => self.start = Start::Succeeded,
            Happened::StartFailed { slot, instance, reason } if self.awaits(*slot, *instance) => {
                self.start = Start::Failed {
                    culprit: *instance,
                    reason: reason.clone(),
                };
            }
            Happened::Up { .. } | Happened::StartFailed { .. } | Happened::Removed { .. } => {}
        }
    }

    fn awaits(&self, slot: SlotId, instance: InstanceId) -> bool {
        matches!(self.start, Start::UnderWay) && slot == self.slot && instance >= self.fresh_from
    }

    fn has_started(&self) -> bool {
        matches!(self.start, Start::Succeeded)
    }

    fn is_over(&self) -> bool {
        match self.start {
            Start::UnderWay => false,
            Start::Succeeded => self.old.is_none(),
            Start::Failed { .. } => true,
        }
    }
}
