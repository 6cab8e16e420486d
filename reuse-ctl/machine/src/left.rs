//! What is left when a new instance has failed. People act on these texts at once, so they describe the states at the moment of the answer,
//! and not what was asked for.

use super::Machine;
use super::slot::Slot;
use super::words;
use crate::ids::SlotId;

/// Who serves in a slot whose new instance has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// This process, which was there before.
    Survivor(u32),
    /// This process, which was there before: it had been withdrawn and is published again.
    Restored(u32),
    /// Nobody: there was none before, or it had ended (stop-first).
    Nobody {
        /// What the slot does by itself.
        next: Next,
        /// Whether another slot serves.
        others_serve: bool,
    },
    /// Nobody, and the slot goes.
    Removed,
}

/// What becomes of a slot in which nobody serves, if nobody asks for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is being started.
    Starts,
    /// It is started after a delay.
    StartsIn {
        /// Milliseconds.
        ms: u64,
    },
    /// It is started again as soon as the one that failed is gone.
    StartsWhenGone,
    /// Nothing.
    IsLeftAlone,
}

impl Machine {
    pub(super) fn left_in(&self, slot: SlotId) -> Left {
        let Some(found) = self.slots.get(usize::from(slot.0)) else {
            return Left::Removed;
        };
        match found.serving_pid() {
            Some(pid) => Left::Survivor(pid),
            None => Left::Nobody {
                next: found.next(&self.cx),
                others_serve: self.slots.iter().any(|other| other.published_instance().is_some()),
            },
        }
    }

    /// Of these slots, which were to be changed and were not: `the others run the old version untouched`, or who of them does not.
    pub(super) fn still(&self, unchanged: &[SlotId], who: &str, how: &str) -> String {
        let serves = |id: &SlotId| {
            let slot = self.slots.get(usize::from(id.0));
            slot.is_some_and(|slot| slot.serving_pid().is_some())
        };
        let (serving, idle): (Vec<SlotId>, Vec<SlotId>) = unchanged.iter().copied().partition(serves);
        let idle = match idle.as_slice() {
            [] => return format!("{who} {how}"),
            [one] => format!("worker {one} does not serve now"),
            several => format!("workers {} do not serve now", words::list(several)),
        };
        match serving.as_slice() {
            [] => idle,
            [one] => format!("{idle}; worker {one} runs {}", how.trim_start_matches("run ")),
            _ => format!("{idle}; the others {how}"),
        }
    }

    /// The same of all slots but a canary's.
    pub(super) fn all_still(&self, who: &str, how: &str) -> String {
        let all: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|slot| !slot.is_canary())
            .map(Slot::id)
            .collect();
        self.still(&all, who, how)
    }
}
