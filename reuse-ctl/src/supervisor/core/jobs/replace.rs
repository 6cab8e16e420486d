//! `restart` and `reload`, and what `apply`, `promote` and `abort` share with them: one instance takes another's place.

use std::collections::VecDeque;

use super::Wide;
use crate::supervisor::core::Core;
use crate::supervisor::core::context::{Happened, Ticket};
use crate::supervisor::core::instance::OnReady;
use crate::supervisor::core::slot::{Order, Slot};
use crate::supervisor::core::words;
use crate::supervisor::interface::{Done, InstanceId, Refusal, SlotId, VersionId};

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

/// Slots that are replaced one after the other, until one fails.
#[derive(Debug)]
pub(super) struct Rollout {
    order: Order,
    /// To which version; absent: each to its own.
    to: Option<VersionId>,
    todo: VecDeque<SlotId>,
    /// In slot order; all but the last have started.
    begun: Vec<Replacement>,
}

/// It is over when the new instance is ready and the old one is gone.
#[derive(Debug)]
struct Replacement {
    slot: SlotId,
    /// What the slot goes back to if it fails.
    version_before: VersionId,
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
        let replacement = self.replace(slot, order, None, OnReady::Publish);
        self.jobs.restarts.push(Restart { ticket, replacement });
    }

    pub(in crate::supervisor::core) fn begin_reload(&mut self, ticket: Ticket, order: Order) {
        let rollout = Rollout {
            order,
            to: None,
            todo: self.slots.iter().map(Slot::id).collect(),
            begun: Vec::new(),
        };
        self.jobs.wide = self.continue_reload(Reload { ticket, rollout }).map(Wide::Reload);
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

    pub(super) fn continue_reload(&mut self, mut reload: Reload) -> Option<Reload> {
        if let Err(failure) = self.roll_on(&mut reload.rollout) {
            let unchanged = reload.rollout.slots_not_done();
            let still = self.still(&unchanged, "the others", "run the old version untouched");
            let refusal = reload.rollout.explain(failure, "reloaded", &still);
            self.cx.answer(reload.ticket, Err(refusal));
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

    /// Goes on to the next slot as soon as the new instance of the one before is ready; the old ones end meanwhile.
    ///
    /// # Errors
    /// The new instance of the one before has failed; its slot is on its old version again.
    pub(super) fn roll_on(&mut self, rollout: &mut Rollout) -> Result<(), Refusal> {
        let last = rollout.begun.last();
        if let Some(failure) = last.and_then(|last| self.failure(last)) {
            if let Some(last) = last {
                self.slots[usize::from(last.slot.0)].set_version(last.version_before);
            }
            return Err(failure);
        }
        if last.is_none_or(Replacement::has_started)
            && let Some(slot) = rollout.todo.pop_front()
        {
            // A slot that a person drained gets the new version too, and stays withdrawn.
            let on_ready = self.slots[usize::from(slot.0)].on_ready();
            let replacement = self.replace(slot, rollout.order, rollout.to, on_ready);
            rollout.begun.push(replacement);
        }
        Ok(())
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

    /// With the version `to`, or with the slot's own.
    fn replace(&mut self, slot: SlotId, order: Order, to: Option<VersionId>, on_ready: OnReady) -> Replacement {
        let worker = &mut self.slots[usize::from(slot.0)];
        let version_before = worker.version();
        worker.set_version(to.unwrap_or(version_before));
        let fresh_from = self.cx.next_instance();
        let old = worker.replace(order, on_ready, &mut self.cx);
        Replacement {
            slot,
            version_before,
            fresh_from,
            old,
            start: Start::UnderWay,
        }
    }

    fn failure(&self, replacement: &Replacement) -> Option<Refusal> {
        let Start::Failed { culprit, reason } = &replacement.start else {
            return None;
        };
        let left = self.left_in(replacement.slot);
        Some(words::start_failed(replacement.slot, *culprit, reason, left))
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
    pub(super) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(super) fn hear(mut self, happened: &Happened) -> Self {
        self.rollout.hear(happened);
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl Rollout {
    /// Start-first, whatever runs there now.
    pub(super) fn to_version(version: VersionId, todo: VecDeque<SlotId>) -> Self {
        Self {
            order: Order::StartFirst,
            to: Some(version),
            todo,
            begun: Vec::new(),
        }
    }

    /// What slots are brought to, and what the last one goes back to if that fails.
    pub(super) fn versions(&self) -> impl Iterator<Item = VersionId> {
        let before = self.begun.last().map(|last| last.version_before);
        self.to.into_iter().chain(before)
    }

    pub(super) fn hear(&mut self, happened: &Happened) {
        self.begun.iter_mut().for_each(|replacement| replacement.hear(happened));
    }

    pub(super) fn has_started_all(&self) -> bool {
        self.todo.is_empty() && self.begun.iter().all(Replacement::has_started)
    }

    pub(super) fn is_over(&self) -> bool {
        self.todo.is_empty() && self.begun.iter().all(Replacement::is_over)
    }

    pub(super) fn slots_done(&self) -> Vec<SlotId> {
        let done = self.begun.iter().filter(|replacement| replacement.has_started());
        done.map(|replacement| replacement.slot).collect()
    }

    /// Those that were to be changed and were not.
    pub(super) fn slots_not_done(&self) -> Vec<SlotId> {
        let begun = self.begun.iter().filter(|replacement| !replacement.has_started());
        begun
            .map(|replacement| replacement.slot)
            .chain(self.todo.iter().copied())
            .collect()
    }

    /// "…; reloaded 1 of 4: 0; the others run the old version untouched".
    pub(super) fn explain(&self, failure: Refusal, done: &str, still: &str) -> Refusal {
        let slots = self.slots_done();
        let so_far = if slots.is_empty() {
            String::new()
        } else {
            format!(": {}", words::list(&slots))
        };
        let total = self.begun.len() + self.todo.len();
        let error = format!("{}; {done} {} of {total}{so_far}; {still}", failure.error, slots.len());
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
