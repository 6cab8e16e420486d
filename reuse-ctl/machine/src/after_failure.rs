//! What serves in a slot after a new instance has failed. Users act on these texts at once, so they describe the states at the moment of
//! the answer, and not what was requested.

use super::Machine;
use super::left::Left;
use super::slot::Slot;
use super::words;
use crate::ids::SlotId;

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

    /// A text about slots that were to be changed and were not: `the others run the old version untouched`, or which of them don't.
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

    /// As [`still`](Self::still), for all slots except a canary's.
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
