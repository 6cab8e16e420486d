//! `apply` with another command: a version goes to all slots, as in a reload, and becomes the app's; or none keeps it.

use super::Wide;
use super::replace::Rollout;
use crate::supervisor::core::Core;
use crate::supervisor::core::commands::Verdict;
use crate::supervisor::core::context::{Happened, Ticket};
use crate::supervisor::core::slot::Slot;
use crate::supervisor::core::words;
use crate::supervisor::interface::{Done, Refusal, SlotId, VersionId};

#[derive(Debug)]
pub(super) struct Adoption {
    ticket: Ticket,
    version: VersionId,
    rollout: Rollout,
    direction: Direction,
}

#[derive(Debug)]
enum Direction {
    /// To the new version.
    Forth,
    /// To the one before, after this failure.
    Back(Refusal),
}

impl Core {
    pub(in crate::supervisor::core) fn judge_adopt(&self) -> Result<Verdict, Refusal> {
        self.judge_reload()?;
        if let Some(canary) = self.canary() {
            return Err(words::canary_first(canary.id()));
        }
        self.judge_one_version()?;
        Ok(Verdict::Accepted)
    }

    pub(in crate::supervisor::core) fn begin_adoption(&mut self, ticket: Ticket, version: VersionId) {
        let all = self.slots.iter().map(Slot::id).collect();
        let adoption = Adoption {
            ticket,
            version,
            rollout: Rollout::to_version(version, all),
            direction: Direction::Forth,
        };
        self.jobs.wide = self.continue_adoption(adoption);
    }

    pub(super) fn continue_adoption(&mut self, mut adoption: Adoption) -> Option<Wide> {
        match (self.roll_on(&mut adoption.rollout), adoption.direction) {
            (Err(failure), Direction::Forth) => {
                let changed = adoption.rollout.slots_done();
                // Even if there are none: then it is over at once.
                let rollout = Rollout::to_version(self.version, changed.into());
                let direction = Direction::Back(failure);
                return self.continue_adoption(Adoption {
                    rollout,
                    direction,
                    ..adoption
                });
            }
            (Err(again), Direction::Back(failure)) => {
                let stuck = adoption.rollout.slots_not_done();
                self.cx
                    .answer(adoption.ticket, Err(not_brought_back(failure, &again, stuck)));
                return None;
            }
            (Ok(()), Direction::Back(failure)) if adoption.rollout.is_over() => {
                let still = self.all_still("all", "run the old version");
                let refusal = taken_back(failure, &adoption.rollout.slots_done(), &still);
                self.cx.answer(adoption.ticket, Err(refusal));
                return None;
            }
            (Ok(()), direction) => adoption.direction = direction,
        }
        if matches!(adoption.direction, Direction::Forth) && adoption.rollout.has_started_all() {
            // From here on nothing can fail: the old ones only have to end.
            self.version = adoption.version;
            if adoption.rollout.is_over() {
                let slots = adoption.rollout.slots_done();
                let message = format!("reloaded {}", words::count(slots.len(), "worker"));
                self.cx.answer(adoption.ticket, Ok(Done { slots, message }));
                return None;
            }
        }
        Some(Wide::Adoption(adoption))
    }
}

impl Adoption {
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

fn taken_back(failure: Refusal, brought_back: &[SlotId], still: &str) -> Refusal {
    let so_far = match brought_back {
        [] => "nobody was changed".to_owned(),
        [one] => format!("worker {one} had it and was brought back"),
        several => format!("workers {} had it and were brought back", words::list(several)),
    };
    Refusal {
        error: format!("{}; {so_far}: {still}", failure.error),
        slots: Vec::new(),
        ..failure
    }
}

fn not_brought_back(failure: Refusal, again: &Refusal, stuck: Vec<SlotId>) -> Refusal {
    Refusal {
        error: format!(
            "{}; and it could not be taken back on {} ({}): {}",
            failure.error,
            words::count(stuck.len(), "worker"),
            words::list(&stuck),
            again.error
        ),
        hint: "`reuse-ctl abort` brings every worker back to the old version".into(),
        slots: stuck,
        ..failure
    }
}
