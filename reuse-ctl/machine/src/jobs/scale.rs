//! `scale`: slots are added at the end and removed from the end.

use reuse_common::Share;

use super::Wide;
use super::replacement::{Replacement, StartFailure};
use crate::Machine;
use crate::context::{Happened, Ticket};
use crate::ids::{Millis, SlotId};
use crate::interface::{Done, NoteKind};
use crate::left::Left;
use crate::slot::Slot;
use crate::words::{self, Why};

#[derive(Debug)]
pub(super) struct ScaleUp {
    ticket: Ticket,
    growth: Growth,
    /// The new instance of each added slot. All are watched until the last of them has settled.
    added: Vec<Replacement>,
}

/// Why slots are added.
#[derive(Debug, Clone, Copy)]
pub(super) enum Growth {
    Scale,
    /// For a canary: one slot, with this share.
    Canary(Share),
}

#[derive(Debug)]
pub(super) struct ScaleDown {
    ticket: Ticket,
    removed: Vec<SlotId>,
    /// The slots of `removed` that are still there.
    leaving: Vec<SlotId>,
}

/// A scale up has failed and its request is answered. The slots that it had added are still being removed.
#[derive(Debug)]
pub(super) struct Undoing {
    what: &'static str,
    leaving: Vec<SlotId>,
}

impl Machine {
    pub(crate) fn begin_scale_up(&mut self, ticket: Ticket, wanted: u16) {
        let mut added = Vec::new();
        for id in (self.workers()..wanted).map(SlotId) {
            added.push(Replacement::begun(id, self.version, self.cx.next_instance(), None));
            self.slots.push(Slot::start(id, self.version, &mut self.cx));
        }
        self.jobs.wide = Some(Wide::ScaleUp(ScaleUp::begin(ticket, added, Growth::Scale)));
    }

    pub(crate) fn begin_scale_down(&mut self, ticket: Ticket, wanted: u16) {
        let removed: Vec<_> = (wanted..self.workers()).map(SlotId).collect();
        let grace_ms = self.cx.config().drain_timeout_ms;
        for slot in &mut self.slots[usize::from(wanted)..] {
            slot.leave(grace_ms, Why::ScaledDown, &mut self.cx);
        }
        self.refuse_restarts_of(&removed);
        self.jobs.wide = Some(Wide::ScaleDown(ScaleDown {
            ticket,
            leaving: removed.clone(),
            removed,
        }));
    }

    pub(super) fn continue_scale_up(&mut self, scale: ScaleUp) -> Option<Wide> {
        let failed = scale
            .added
            .iter()
            .find_map(|added| Some((added.slot, added.failure()?.clone())));
        if let Some((slot, failure)) = failed {
            return Some(Wide::Undoing(self.undo_scale_up(scale, slot, &failure)));
        }
        if !scale.added.iter().all(Replacement::is_over) {
            return Some(Wide::ScaleUp(scale));
        }
        let slots = scale.slots();
        let message = match (scale.growth, slots.first()) {
            (Growth::Canary(share), Some(slot)) => {
                let message = format!("worker {slot} is the canary: it gets {share} of new connections");
                self.cx.note(NoteKind::Weighed, Some(*slot), None, message.clone());
                message
            }
            _ => self.scaled(usize::from(self.workers()) - slots.len()),
        };
        self.cx.answer(scale.ticket, Ok(Done { slots, message }));
        None
    }

    pub(super) fn continue_scale_down(&mut self, scale: ScaleDown) -> Option<ScaleDown> {
        if !scale.leaving.is_empty() {
            return Some(scale);
        }
        let message = self.scaled(usize::from(self.workers()) + scale.removed.len());
        self.cx.answer(
            scale.ticket,
            Ok(Done {
                slots: scale.removed,
                message,
            }),
        );
        None
    }

    /// An added instance did not start, or ended before all had settled. All or nothing: the others are removed as well, as in a scale down.
    fn undo_scale_up(&mut self, scale: ScaleUp, slot: SlotId, failure: &StartFailure) -> Undoing {
        let what = scale.name();
        let added = scale.slots();
        let grace_ms = self.cx.config().drain_timeout_ms;
        for slot in self.slots.iter_mut().filter(|slot| added.contains(&slot.id())) {
            slot.abandon(grace_ms, Why::ScaledDown, &mut self.cx);
        }
        self.refuse_restarts_of(&added);
        let mut refusal = words::start_failed(slot, failure.culprit, &failure.reason, Left::Removed);
        let still = words::count(usize::from(self.workers()), "worker");
        refusal.error = format!("{}; there are {still}, as before", refusal.error);
        self.cx.answer_about(scale.ticket, added.clone(), Err(refusal));
        Undoing::of(what, added)
    }

    fn scaled(&self, before: usize) -> String {
        format!(
            "scaled from {before} to {}",
            words::count(usize::from(self.workers()), "worker")
        )
    }
}

impl ScaleUp {
    pub(super) fn begin(ticket: Ticket, added: Vec<Replacement>, growth: Growth) -> Self {
        Self { ticket, growth, added }
    }

    pub(super) fn hear(mut self, happened: &Happened, now: Millis) -> Self {
        self.added.iter_mut().for_each(|added| added.hear(happened, now));
        self
    }

    /// When all added instances will have settled, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.added.iter().filter_map(Replacement::deadline).min()
    }

    fn slots(&self) -> Vec<SlotId> {
        self.added.iter().map(|added| added.slot).collect()
    }

    pub(super) fn name(&self) -> &'static str {
        match self.growth {
            Growth::Scale => "a scale",
            Growth::Canary(_) => "the start of a canary",
        }
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl ScaleDown {
    pub(super) fn hear(mut self, happened: &Happened) -> Self {
        forget_removed(&mut self.leaving, happened);
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl Undoing {
    pub(super) fn of(what: &'static str, leaving: Vec<SlotId>) -> Self {
        Self { what, leaving }
    }

    pub(super) fn name(&self) -> &'static str {
        self.what
    }

    /// Returns `None` when it is done.
    pub(super) fn hear(mut self, happened: &Happened) -> Option<Self> {
        forget_removed(&mut self.leaving, happened);
        (!self.leaving.is_empty()).then_some(self)
    }
}

fn forget_removed(leaving: &mut Vec<SlotId>, happened: &Happened) {
    if let Happened::Removed { slot } = happened {
        leaving.retain(|other| other != slot);
    }
}
