//! Delivers a version to slots. All of them get it, or those that already run it go back to the old one.
//!
//! ```text
//!                       all have settled, the old ones are gone
//!  Forth ─────────────────────────────────────────────────────▶ Delivered
//!    │ a new instance fails: before it is ready, while it settles, or later while the rollout is under way; or the canary does
//!    ▼
//!  Back ─────▶ Failed: to the one version, or with what could not be brought back
//! ```

use super::rollout::Rollout;
use crate::Machine;
use crate::context::Happened;
use crate::ids::{Millis, SlotId, VersionId};
use crate::interface::Refusal;
use crate::slot::Order;
use crate::words;

/// A version that is being rolled out to slots.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The version is rolled out to all the slots.
    Forth(Rollout),
    /// After this failure: the slots that have anything of the new version are brought back to the app's version.
    Back { rollout: Rollout, failure: Refusal },
}

/// How far a [`Delivery`] is.
#[derive(Debug)]
pub(super) enum Progress {
    UnderWay(Delivery),
    /// These slots run the version, and the instances that they ran before are gone.
    Delivered(Vec<SlotId>),
    Failed {
        /// What failed. It names the slots that could not be brought back, if there are any.
        refusal: Refusal,
        /// The slots that ran the version, or were about to.
        touched: Vec<SlotId>,
    },
}

impl Machine {
    /// Rolls this version out, start-first, whatever the slots run now.
    pub(super) fn delivery(&self, version: VersionId, todo: Vec<SlotId>) -> Delivery {
        let mut rollout = self.rollout(Order::StartFirst, Some(version), todo);
        rollout.goes_back = true;
        Delivery::Forth(rollout)
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) -> Progress {
        match delivery {
            Delivery::Forth(mut rollout) => match self.roll_on(&mut rollout) {
                Ok(()) if rollout.is_over() => Progress::Delivered(rollout.slots_done()),
                Ok(()) => Progress::UnderWay(Delivery::Forth(rollout)),
                Err(failure) => self.turn_back(rollout, failure),
            },
            Delivery::Back { mut rollout, failure } => {
                self.roll_back(&mut rollout);
                if rollout.is_over() {
                    Progress::Failed {
                        refusal: self.taken_back(&rollout, failure),
                        touched: rollout.touched,
                    }
                } else {
                    Progress::UnderWay(Delivery::Back { rollout, failure })
                }
            }
        }
    }

    /// Gives the version up, for a reason that is not in its rollout. Does nothing if it is being taken back already.
    pub(super) fn give_up(&mut self, delivery: Delivery, failure: Refusal) -> Progress {
        match delivery {
            Delivery::Forth(mut rollout) => {
                self.halt(&mut rollout);
                self.turn_back(rollout, failure)
            }
            back @ Delivery::Back { .. } => self.deliver(back),
        }
    }

    /// The way back, after the rollout was halted.
    fn turn_back(&mut self, rollout: Rollout, failure: Refusal) -> Progress {
        // Even if there are none: then it is over at once.
        let mut back = self.rollout(Order::StartFirst, Some(self.version), rollout.slots_changed());
        back.restored = rollout.restored;
        back.touched = rollout.touched;
        self.deliver(Delivery::Back { rollout: back, failure })
    }

    /// As [`Machine::roll_on`], but if one slot fails, the others are tried as well.
    fn roll_back(&mut self, rollout: &mut Rollout) {
        for failed in rollout
            .begun
            .iter()
            .filter(|replacement| replacement.failure().is_some())
        {
            let slot = &mut self.slots[usize::from(failed.slot.0)];
            if let Some(version) = slot.current_version() {
                slot.set_version(version);
            }
        }
        self.begin_further(rollout);
    }

    fn taken_back(&self, rollout: &Rollout, failure: Refusal) -> Refusal {
        let mut again = rollout
            .begun
            .iter()
            .filter_map(|replacement| self.failure_of(replacement, false));
        let Some(again) = again.next() else {
            let mut brought_back = [rollout.restored.clone(), rollout.slots_done()].concat();
            brought_back.sort_unstable();
            let still = self.all_still("all", "run the old version");
            return words::taken_back(failure, &brought_back, &still);
        };
        let slots = rollout.begun.iter().map(|replacement| replacement.slot);
        let (stuck, failing): (Vec<_>, Vec<_>) = slots
            .filter(|slot| !rollout.slots_done().contains(slot))
            .partition(|slot| self.slots[usize::from(slot.0)].version() != self.version);
        words::not_brought_back(failure, &again, stuck, &failing)
    }
}

impl Delivery {
    pub(super) fn rollout(&self) -> &Rollout {
        match self {
            Self::Forth(rollout) | Self::Back { rollout, .. } => rollout,
        }
    }

    /// Whether the version is still being rolled out, and not taken back.
    pub(super) fn is_on_its_way(&self) -> bool {
        match self {
            Self::Forth(_) => true,
            Self::Back { .. } => false,
        }
    }

    pub(super) fn hear(&mut self, happened: &Happened, now: Millis) {
        match self {
            Self::Forth(rollout) | Self::Back { rollout, .. } => rollout.hear(happened, now),
        }
    }
}
