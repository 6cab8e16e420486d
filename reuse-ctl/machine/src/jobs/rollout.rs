//! A rollout, which `reload`, `apply`, `promote` and `abort` share: it replaces slots, a few at a time, and watches all of them until the
//! last one is done.

use std::collections::VecDeque;

use super::replacement::Replacement;
use crate::Machine;
use crate::context::Happened;
use crate::ids::{Millis, SlotId, VersionId};
use crate::instance::OnReady;
use crate::interface::Refusal;
use crate::left::{Left, Next};
use crate::slot::Order;
use crate::words;

/// Slots to replace, and how many at the same time.
#[derive(Debug)]
pub(super) struct Rollout {
    order: Order,
    /// The version that they get. If `None`, each slot is replaced by its own version.
    to: Option<VersionId>,
    at_once: usize,
    /// Whether the slots that were replaced go back if it fails.
    pub(super) goes_back: bool,
    todo: VecDeque<SlotId>,
    /// At most `at_once` of them have neither settled nor failed.
    pub(super) begun: Vec<Replacement>,
    /// The slots that their old instance has taken back, because it had not been told to stop yet.
    pub(super) restored: Vec<SlotId>,
    /// The slots in which anything was done, whatever came of it.
    pub(super) touched: Vec<SlotId>,
}

impl Machine {
    /// Stop-first replaces one slot at a time, because it takes capacity away. A canary does not count as one of the app's workers.
    pub(super) fn rollout(&self, order: Order, to: Option<VersionId>, todo: Vec<SlotId>) -> Rollout {
        let workers = self.slots.iter().filter(|slot| !slot.is_leaving() && !slot.is_canary());
        let at_once = match order {
            Order::StartFirst => self.cx.config().surge.of(workers.count()),
            Order::StopFirst => 1,
        };
        Rollout {
            order,
            to,
            at_once,
            goes_back: false,
            todo: todo.into(),
            begun: Vec::new(),
            restored: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Begins with further slots as soon as new instances have settled. The old instances may still be ending then.
    ///
    /// # Errors
    /// A new instance has failed. No further slot is begun. Where the old instance still has its slot, it keeps it; where it can take the slot
    /// back, it has done so.
    pub(super) fn roll_on(&mut self, rollout: &mut Rollout) -> Result<(), Refusal> {
        let failed = rollout
            .begun
            .iter()
            .find_map(|replacement| Some((replacement.slot, replacement.failure()?.clone())));
        let Some((slot, failure)) = failed else {
            self.begin_further(rollout);
            return Ok(());
        };
        self.halt(rollout);
        let left = self.left_after(slot, rollout.restored.contains(&slot));
        // Where the slot goes back at once, whether nobody serves there now will be over when the answer is given.
        let left = match left {
            Left::Nobody { .. } if rollout.goes_back => Left::Removed,
            Left::Survivor(_) | Left::Restored(_) | Left::Nobody { .. } | Left::Removed => left,
        };
        Err(words::start_failed(slot, failure.culprit, &failure.reason, left))
    }

    pub(super) fn begin_further(&mut self, rollout: &mut Rollout) {
        while rollout.undecided() < rollout.at_once
            && let Some(slot) = rollout.todo.pop_front()
        {
            // A slot that a person drained gets the new version too, and stays withdrawn.
            let on_ready = self.slots[usize::from(slot.0)].on_ready();
            let replacement = self.replace(slot, rollout.order, rollout.to, on_ready);
            rollout.begun.push(replacement);
            rollout.touched.push(slot);
        }
    }

    /// Begins with no further slot. Old instances keep their slots, and take them back where they can.
    pub(super) fn halt(&mut self, rollout: &mut Rollout) {
        let mut begun = Vec::new();
        for replacement in std::mem::take(&mut rollout.begun) {
            let slot = &mut self.slots[usize::from(replacement.slot.0)];
            let is_kept = replacement.is_under_way() && slot.keep_current(&mut self.cx);
            let is_restored = replacement.old().is_some_and(|old| slot.take_back(old, &mut self.cx));
            let never_served = replacement.failure().is_some_and(|failure| !failure.had_served);
            if is_kept || is_restored || never_served {
                slot.set_version(replacement.version_before);
            }
            if is_kept {
                rollout.todo.push_front(replacement.slot);
            } else if is_restored {
                rollout.restored.push(replacement.slot);
            } else {
                begun.push(replacement);
            }
        }
        rollout.begun = begun;
    }

    /// Begins a replacement by the version `to`, or by the slot's own version.
    pub(super) fn replace(
        &mut self,
        slot: SlotId,
        order: Order,
        to: Option<VersionId>,
        on_ready: OnReady,
    ) -> Replacement {
        let worker = &mut self.slots[usize::from(slot.0)];
        let version_before = worker.version();
        worker.set_version(to.unwrap_or(version_before));
        let fresh_from = self.cx.next_instance();
        let old = worker.replace(order, on_ready, &mut self.cx);
        Replacement::begun(slot, version_before, fresh_from, old)
    }

    /// `is_restored`: the old instance has taken the slot back.
    pub(super) fn failure_of(&self, replacement: &Replacement, is_restored: bool) -> Option<Refusal> {
        let failure = replacement.failure()?;
        let left = self.left_after(replacement.slot, is_restored);
        Some(words::start_failed(
            replacement.slot,
            failure.culprit,
            &failure.reason,
            left,
        ))
    }

    fn left_after(&self, slot: SlotId, is_restored: bool) -> Left {
        match self.left_in(slot) {
            Left::Survivor(pid) if is_restored => Left::Restored(pid),
            left @ (Left::Survivor(_) | Left::Restored(_) | Left::Nobody { .. } | Left::Removed) => left,
        }
    }

    /// "…; reloaded 1 of 4: 0; the others run the old version untouched".
    pub(super) fn explain(&self, rollout: &Rollout, failure: Refusal, done: &str, still: &str) -> Refusal {
        let slots = rollout.slots_done();
        let so_far = if slots.is_empty() {
            String::new()
        } else {
            format!(": {}", words::list(&slots))
        };
        let total = rollout.begun.len() + rollout.todo.len() + rollout.restored.len();
        let mut error = format!("{}; {done} {} of {total}{so_far}", failure.error, slots.len());
        let lost = rollout.slots_that(|replacement| replacement.failure().is_some_and(|failure| failure.had_served));
        let starting = rollout.slots_that(Replacement::is_undecided);
        let (left_alone, started_again): (Vec<_>, Vec<_>) = lost.iter().partition(|slot| {
            matches!(
                self.left_in(**slot),
                Left::Nobody {
                    next: Next::IsLeftAlone,
                    ..
                }
            )
        });
        for (those, are) in [
            (&started_again, "started again"),
            (&left_alone, "left alone: failed too often"),
            (&starting, "still starting"),
            (&rollout.restored, "served by the old process again"),
        ] {
            if !those.is_empty() {
                error = format!("{error}; {} {are}", words::workers_are(those));
            }
        }
        if slots.len() + lost.len() + starting.len() + rollout.restored.len() < total {
            error = format!("{error}; {still}");
        }
        Refusal {
            error,
            slots,
            ..failure
        }
    }
}

impl Rollout {
    /// The versions that are still needed: the one that is rolled out, and those to which slots may go back.
    pub(super) fn versions(&self) -> impl Iterator<Item = VersionId> {
        let before = self.begun.iter().map(|replacement| replacement.version_before);
        self.to.into_iter().chain(before)
    }

    pub(super) fn hear(&mut self, happened: &Happened, now: Millis) {
        self.begun
            .iter_mut()
            .for_each(|replacement| replacement.hear(happened, now));
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.begun.iter().filter_map(Replacement::deadline).min()
    }

    pub(super) fn is_over(&self) -> bool {
        self.todo.is_empty() && self.begun.iter().all(Replacement::is_over)
    }

    pub(super) fn slots_done(&self) -> Vec<SlotId> {
        self.slots_that(Replacement::has_settled)
    }

    /// The slots that were to be replaced, and in which nothing of the new version is left.
    pub(super) fn slots_not_done(&self) -> Vec<SlotId> {
        let failed = self.slots_that(|replacement| replacement.failure().is_some_and(|failure| !failure.had_served));
        failed.into_iter().chain(self.todo.iter().copied()).collect()
    }

    /// The slots in which anything of the new version is, or would be started next. For a rollout that was halted.
    pub(super) fn slots_changed(&self) -> Vec<SlotId> {
        self.slots_that(|replacement| replacement.failure().is_none_or(|failure| failure.had_served))
    }

    fn slots_that(&self, is_meant: impl Fn(&Replacement) -> bool) -> Vec<SlotId> {
        let meant = self.begun.iter().filter(|replacement| is_meant(replacement));
        meant.map(|replacement| replacement.slot).collect()
    }

    fn undecided(&self) -> usize {
        let undecided = self.begun.iter().filter(|replacement| replacement.is_undecided());
        undecided.count()
    }
}
