//! An app that moves: its new instances listen on another address than the old ones.
//!
//! Both groups are steered meanwhile. Workers are replaced `--surge` at a time, and the old address is served by those that are still to be
//! replaced. The last of them would take it away from one moment to the next: it goes on to serve the old address for [`LINGER`], and
//! nobody waits for that. Then new connections are refused there, what it has is finished, and the group goes with it.

use super::new_address::Place;
use crate::base::{InstanceId, RequestId, SlotId};
use reuse_machine::interface::{Command, Done};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// So long the last old instance serves the address that the app leaves; at most half of `--drain-timeout`, within which it has to end.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Who may listen elsewhere, and who still serves where the app was before.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Requests whose new instances may listen elsewhere, because somebody said so.
    asked: BTreeSet<RequestId>,
    pub(crate) lingering: BTreeMap<InstanceId, Lingering>,
    /// Where the last published instance of each slot served: while the app moves, not all slots are at the same place.
    pub(crate) places: BTreeMap<SlotId, Place>,
    /// Requests under way that have workers replaced: they are told what has moved.
    replacing: BTreeSet<RequestId>,
    /// What has moved while they were, by slot, for a person.
    moved: BTreeMap<SlotId, String>,
}

/// An old instance that may serve on at an address which its successor does not serve.
#[derive(Debug)]
pub(crate) struct Lingering {
    pub(crate) until: Instant,
    /// Whether it does: else others of its kind are still there.
    pub(crate) serves: bool,
}

impl Moves {
    pub(crate) fn ask(&mut self, id: RequestId) {
        self.asked.insert(id);
    }

    pub(crate) fn answered(&mut self, id: RequestId) {
        self.asked.remove(&id);
    }

    /// Whether an instance that is started now may listen elsewhere because somebody said so.
    pub(crate) fn are_asked_for(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether this instance still serves where the app was before, so that its end is not to be waited for.
    pub(crate) fn lingers(&self, id: InstanceId) -> bool {
        self.lingering.get(&id).is_some_and(|lingering| lingering.serves)
    }

    /// Where the last published instance of this slot served.
    pub(crate) fn place_of(&self, slot: SlotId) -> Option<&Place> {
        self.places.get(&slot)
    }

    /// There are only so many slots: one that is added later has nothing to do with one that is gone.
    pub(crate) fn forget_slots_from(&mut self, slots: usize) {
        self.places.retain(|slot, _| usize::from(slot.0) < slots);
    }

    /// A request goes to the machine.
    pub(crate) fn begins(&mut self, id: RequestId, command: &Command) {
        match command {
            Command::Restart { .. } | Command::Reload { .. } | Command::Promote => {
                self.replacing.insert(id);
            }
            Command::Apply(plan) => {
                if plan.rollout.is_some() {
                    self.replacing.insert(id);
                }
            }
            Command::Drain { .. }
            | Command::Undrain { .. }
            | Command::Scale(_)
            | Command::SetPolicy(_)
            | Command::Weigh { .. }
            | Command::Canary { .. }
            | Command::Abort
            | Command::Stop { .. } => {}
        }
    }

    pub(crate) fn note(&mut self, slot: SlotId, moved: String) {
        if !self.replacing.is_empty() {
            self.moved.insert(slot, moved);
        }
    }

    /// What is answered to a request: with what has moved of the workers that it has had replaced.
    pub(crate) fn add_to(&mut self, id: RequestId, done: &Done) -> String {
        let mut message = done.message.clone();
        for moved in self.end(id, &done.slots) {
            message.push_str("; ");
            message.push_str(&moved);
        }
        message
    }

    /// It came to nothing, or nobody reads the answer: what has moved all the same is in the status.
    pub(crate) fn forget(&mut self, id: RequestId) {
        self.end(id, &[]);
    }

    /// The request is answered: what has moved in these slots, each thing once.
    fn end(&mut self, id: RequestId, slots: &[SlotId]) -> BTreeSet<String> {
        if !self.replacing.remove(&id) {
            return BTreeSet::new();
        }
        let moved = slots.iter().filter_map(|slot| self.moved.remove(slot)).collect();
        if self.replacing.is_empty() {
            self.moved.clear();
        }
        moved
    }
}

pub(crate) fn list(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELOAD: Command = Command::Reload { stop_first: false };

    fn done(slots: &[u16]) -> Done {
        Done {
            slots: slots.iter().map(|&slot| SlotId(slot)).collect(),
            message: "done".into(),
        }
    }

    #[test]
    fn who_has_had_workers_replaced_is_told_of_them_and_nobody_else() {
        let mut moves = Moves::default();
        let restart = |slot| Command::Restart {
            slot: SlotId(slot),
            stop_first: false,
        };
        moves.begins(RequestId(1), &restart(0));
        moves.begins(RequestId(2), &restart(1));
        moves.begins(RequestId(3), &Command::Undrain { slot: SlotId(0) });
        moves.note(SlotId(0), "a → b".into());
        moves.note(SlotId(1), "a → c".into());
        assert_eq!(moves.add_to(RequestId(3), &done(&[0])), "done");
        assert_eq!(moves.add_to(RequestId(2), &done(&[1])), "done; a → c");
        moves.begins(RequestId(4), &restart(2));
        moves.forget(RequestId(4));
        assert_eq!(moves.add_to(RequestId(1), &done(&[0])), "done; a → b");
    }

    #[test]
    fn what_all_workers_did_is_said_once_and_not_again() {
        let mut moves = Moves::default();
        moves.begins(RequestId(1), &RELOAD);
        moves.note(SlotId(0), "a → b".into());
        moves.note(SlotId(1), "a → b".into());
        moves.note(SlotId(2), "of one that was not the reload's".into());
        assert_eq!(moves.add_to(RequestId(1), &done(&[0, 1])), "done; a → b");
        moves.note(SlotId(0), "by itself".into());
        moves.begins(RequestId(2), &RELOAD);
        assert_eq!(moves.add_to(RequestId(2), &done(&[0, 1, 2])), "done");
    }
}
