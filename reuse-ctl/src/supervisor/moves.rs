//! Handles an app that moves: its new instances listen on another address than the old ones.
//!
//! Both groups are steered meanwhile. Workers are replaced `--surge` at a time, and the instances that are still to be replaced serve the
//! old address. Replacing the last of them would close the address from one moment to the next. So the last one goes on serving it for
//! [`LINGER`], and nobody waits for that. Then new connections to the old address are refused, existing ones are finished, and the group is
//! closed.

use super::{
    live::Live,
    new_address::{ServedAt, is_meant},
    placement::Placement,
    template::Template,
};
use crate::{
    base::{InstanceId, RequestId, SlotId},
    group::{Choosable, Groups},
};
use reuse_common::ids::Row;
use reuse_machine::interface::{Command, Done, Note, NoteKind, Published};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How long the last old instance goes on serving the address that the app leaves. At most half of `--drain-timeout`, within which the
/// instance must end.
const LINGER: Duration = Duration::from_secs(5);

/// Which instances may listen on another address, and which still serve the app's old address.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Requests whose new instances may listen on another address, because the user said so.
    asked: BTreeSet<RequestId>,
    lingering: BTreeMap<InstanceId, Lingering>,
    /// Where the last published instance of each slot served. While the app moves, slots may differ.
    last_served: BTreeMap<SlotId, ServedAt>,
    /// Requests in progress that replace workers. Their answers say what has moved.
    replacing: BTreeSet<RequestId>,
    /// What has moved meanwhile, by slot, as text for the user.
    moved: BTreeMap<SlotId, String>,
}

/// An old instance that may go on serving an address which its successor doesn't serve.
#[derive(Debug)]
struct Lingering {
    until: Instant,
    /// Whether it does. False while other old instances still serve the address.
    serves: bool,
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

    /// These are about to be published.
    pub(crate) fn notice(
        &mut self,
        published: &[Published],
        all: &mut HashMap<InstanceId, Live>,
        groups: &mut Groups,
        template: &Template,
    ) {
        for entry in published {
            let live = all.get_mut(&entry.instance);
            if live.is_some_and(|live| !std::mem::replace(&mut live.was_published, true)) {
                self.notice_one(entry.instance, all, groups, template);
            }
        }
    }

    /// The instance is about to be published for the first time: does it take the place of one that listens elsewhere? Not before: while it
    /// settles the old one is published, and whoever is published on an address takes back that the app leaves it.
    fn notice_one(
        &mut self,
        id: InstanceId,
        all: &mut HashMap<InstanceId, Live>,
        groups: &mut Groups,
        template: &Template,
    ) {
        let Some(live) = all.get(&id) else { return };
        let placement = Placement {
            live: all,
            groups,
            template,
            moves: self,
        };
        let (before, predecessor) = (placement.before(id), placement.predecessor(id));
        let Some(before) = before.into_iter().next() else {
            if live.may_move && !groups.served_by(live.row).is_empty() {
                groups.leave_unserved();
            }
            return;
        };
        self.judge(id, before, predecessor, all, groups, template);
    }

    /// It listens at one more address than when it was published. It may have been published because nobody else served, with more to come.
    pub(crate) fn judge_again(
        &mut self,
        id: InstanceId,
        all: &mut HashMap<InstanceId, Live>,
        groups: &mut Groups,
        template: &Template,
    ) {
        let before = all.get_mut(&id).and_then(|live| live.unsettled_move.take());
        if let Some(before) = before {
            self.judge(id, before, None, all, groups, template);
        }
    }

    /// Whether the app leaves addresses of `before`. Beside a `predecessor` that serves it does: there the instance got ready only because it
    /// need not serve the rest.
    fn judge(
        &mut self,
        id: InstanceId,
        before: ServedAt,
        predecessor: Option<InstanceId>,
        all: &mut HashMap<InstanceId, Live>,
        groups: &mut Groups,
        template: &Template,
    ) {
        let Some(live) = all.get_mut(&id) else { return };
        let own = groups.served_by(live.row);
        let lost: Vec<SocketAddr> = before.addresses.difference(&own).copied().collect();
        let gained: Vec<SocketAddr> = own.difference(&before.addresses).copied().collect();
        if lost.is_empty() {
            return;
        }
        let now = ServedAt {
            addresses: own,
            told: live.told.clone(),
        };
        if predecessor.is_none() && !is_meant(&before, &now, live.may_move) {
            live.unsettled_move = Some(before);
            return;
        }
        let live = &*live;
        if live.may_move {
            groups.leave_unserved();
        }
        groups.leave_addresses(&lost);
        self.note(live.slot, format!("{} → {}", list(&lost), list(&gained)));
        let drain_timeout = template.options(live.version).stop.drain_timeout;
        let row = predecessor.and_then(|old| all.get(&old)).map(|old| old.row);
        if let (Some(old), Some(row)) = (predecessor, row)
            && groups.is_published(row)
        {
            let until = Instant::now() + LINGER.min(drain_timeout / 2);
            self.lingering.insert(old, Lingering { until, serves: false });
        }
    }

    /// Those that may serve the addresses which the app leaves, where nobody else does.
    pub(crate) fn may_linger(&mut self, stopping: bool, live: &HashMap<InstanceId, Live>) -> Vec<Choosable> {
        if stopping {
            self.lingering.clear();
        }
        let rows = self.lingering.keys().filter_map(|id| live.get(id));
        // The newest of each slot.
        let by_slot: BTreeMap<SlotId, Row> = rows.map(|live| (live.slot, live.row)).collect();
        let choosable = by_slot
            .into_iter()
            .map(|(slot, row)| Choosable { slot, row, share: None });
        choosable.collect()
    }

    /// It was published who may be chosen: those that are needed linger, the others end as ever. Returns who begins to, and what people are
    /// told of each.
    pub(crate) fn begin_lingering(
        &mut self,
        live: &HashMap<InstanceId, Live>,
        groups: &Groups,
    ) -> Vec<(InstanceId, Note)> {
        self.lingering
            .retain(|id, _| live.get(id).is_some_and(|live| groups.lingers(live.row)));
        let begun = self.lingering.iter_mut().filter(|(_, lingering)| !lingering.serves);
        begun
            .map(|(&id, lingering)| {
                lingering.serves = true;
                let live = &live[&id];
                let note = Note {
                    slot: Some(live.slot),
                    instance: Some(id),
                    kind: NoteKind::Moved,
                    message: format!(
                        "the app has left {}: the old instance of worker {} serves there for {:.1} s more",
                        list(&groups.left_to(live.row)),
                        live.slot,
                        lingering.until.saturating_duration_since(Instant::now()).as_secs_f64()
                    )
                    .into(),
                };
                (id, note)
            })
            .collect()
    }

    /// Whose time to linger is over: they do not get new connections any more.
    pub(crate) fn over(&self, now: Instant) -> Vec<InstanceId> {
        let over = self.lingering.iter().filter(|(_, lingering)| lingering.until <= now);
        over.map(|(&id, _)| id).collect()
    }

    /// It does not linger any more. Returns whether it did, or was about to.
    pub(crate) fn end_lingering(&mut self, id: InstanceId) -> bool {
        self.lingering.remove(&id).is_some()
    }

    /// Called when the published ones have changed, and now and then: an instance may open a listener later, or close one. One that listens
    /// nowhere may be on its way out, and has told where it was.
    pub(crate) fn remember_served(&mut self, live: &HashMap<InstanceId, Live>, groups: &Groups) {
        for live in live.values().filter(|live| live.ready && groups.is_published(live.row)) {
            let addresses = groups.served_by(live.row);
            if !addresses.is_empty() {
                let told = live.told.clone();
                self.last_served.insert(live.slot, ServedAt { addresses, told });
            }
        }
    }

    /// Where the last published instance of this slot served.
    pub(crate) fn last_served(&self, slot: SlotId) -> Option<&ServedAt> {
        self.last_served.get(&slot)
    }

    /// Forgets removed slots: a slot that is added later with the same number is unrelated.
    pub(crate) fn forget_slots_from(&mut self, slots: usize) {
        self.last_served.retain(|slot, _| usize::from(slot.0) < slots);
    }

    /// Records a request that goes to the machine.
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

    fn note(&mut self, slot: SlotId, moved: String) {
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

fn list(addresses: &[SocketAddr]) -> String {
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
