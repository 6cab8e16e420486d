//! Handles an app that moves: its new instances listen on another address than the old ones.
//!
//! Both groups are steered meanwhile. Workers are replaced `--surge` at a time, and the instances that are still to be replaced serve the
//! old address. Replacing the last of them would close the address from one moment to the next. So the last one goes on serving it for
//! [`LINGER`], and nobody waits for that. Then new connections to the old address are refused, existing ones are finished, and the group is
//! closed.

use super::new_address::Place;
use crate::base::{InstanceId, RequestId, SlotId};
use reuse_machine::interface::{Command, Done};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How long the last old instance goes on serving the address that the app leaves. At most half of `--drain-timeout`, within which the
/// instance must end.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Which instances may listen on another address, and which still serve the app's old address.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Requests whose new instances may listen on another address, because the user said so.
    asked: BTreeSet<RequestId>,
    pub(crate) lingering: BTreeMap<InstanceId, Lingering>,
    /// Where the last published instance of each slot served. While the app moves, slots may differ.
    pub(crate) places: BTreeMap<SlotId, Place>,
    /// Requests in progress that replace workers. Their answers say what has moved.
    replacing: BTreeSet<RequestId>,
    /// What has moved meanwhile, by slot, as text for the user.
    moved: BTreeMap<SlotId, String>,
}

/// An old instance that may go on serving an address which its successor doesn't serve.
#[derive(Debug)]
pub(crate) struct Lingering {
    pub(crate) until: Instant,
    /// Whether it does. False while other old instances still serve the address.
    pub(crate) serves: bool,
}

impl Moves {
    pub(crate) fn ask(&mut self, id: RequestId) {
        self.asked.insert(id);
    }

    pub(crate) fn answered(&mut self, id: RequestId) {
        self.asked.remove(&id);
    }

    /// Whether an instance started now may listen on another address because the user said so.
    pub(crate) fn are_asked_for(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether this instance still serves the old address, so that nobody must wait for its end.
    pub(crate) fn lingers(&self, id: InstanceId) -> bool {
        self.lingering.get(&id).is_some_and(|lingering| lingering.serves)
    }

    /// Where the last published instance of this slot served.
    pub(crate) fn place_of(&self, slot: SlotId) -> Option<&Place> {
        self.places.get(&slot)
    }

    /// Forgets removed slots: a slot that is added later with the same number is unrelated.
    pub(crate) fn forget_slots_from(&mut self, slots: usize) {
        self.places.retain(|slot, _| usize::from(slot.0) < slots);
    }

    /// Records a request that goes to the machine.
    pub(crate) fn begins(&mut self, id: RequestId, command: &Command) {
        match command {
            Command::Restart { .. } | Command::Reload { .. } | Command::Adopt { .. } | Command::Promote => {
                self.replacing.insert(id);
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

    /// The answer to a request, including what has moved of the workers that it replaced.
    pub(crate) fn add_to(&mut self, id: RequestId, done: &Done) -> String {
        let mut message = done.message.clone();
        for moved in self.end(id, &done.slots) {
            message.push_str("; ");
            message.push_str(&moved);
        }
        message
    }

    /// Forgets a request that failed, or whose answer nobody reads. The status shows what has moved.
    pub(crate) fn forget(&mut self, id: RequestId) {
        self.end(id, &[]);
    }

    /// Ends a request and returns what has moved in these slots, each text once.
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
