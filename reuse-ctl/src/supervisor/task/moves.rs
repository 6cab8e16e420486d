//! What the task does about [`moves`](crate::supervisor::moves).

use crate::supervisor::moves::*;
use crate::supervisor::{
    new_address::{Named, Place, is_meant},
    task::Task,
};
use crate::{
    base::{InstanceId, SlotId, VersionId},
    group::Choosable,
    process::launch::LaunchSpec,
};
use reuse_common::ids::Row;
use reuse_machine::interface::{Input, Note, NoteKind, Seated};
use std::{collections::BTreeMap, ffi::OsStr, net::SocketAddr, time::Instant};

impl Task {
    /// What an instance of this version is told that may say where to listen.
    pub(crate) fn told(&self, spec: &LaunchSpec, version: VersionId) -> Named {
        let options = self.template.options(version);
        let ports: Vec<String> = options.ports.iter().map(u16::to_string).collect();
        let values = spec.variables.iter().map(|(_, value)| value.as_os_str());
        let words = spec.args.iter().map(|word| word.as_os_str()).chain(values);
        Named::of(words.chain(ports.iter().map(OsStr::new)))
    }

    /// The instance is about to be published for the first time: does it take the place of one that listens elsewhere? Not before: while it
    /// settles the old one is published, and whoever is published on an address takes back that the app leaves it.
    fn notice_move(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        let Some(before) = self.before(id).into_iter().next() else {
            if live.may_move && !self.groups.served_by(live.row).is_empty() {
                self.groups.leave_unserved();
            }
            return;
        };
        self.judge_move(id, before, self.predecessor(id));
    }

    /// It listens at one more address than when it was published. It may have been published because nobody else served, with more to come.
    pub(crate) fn judge_move_again(&mut self, id: InstanceId) {
        let before = self.live.get_mut(&id).and_then(|live| live.unsettled_move.take());
        if let Some(before) = before {
            self.judge_move(id, before, None);
        }
    }

    /// Whether the app leaves addresses of `before`. Beside a `predecessor` that serves it does: there the instance got ready only because it
    /// need not serve the rest.
    fn judge_move(&mut self, id: InstanceId, before: Place, predecessor: Option<InstanceId>) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let own = self.groups.served_by(live.row);
        let lost: Vec<SocketAddr> = before.addresses.difference(&own).copied().collect();
        let gained: Vec<SocketAddr> = own.difference(&before.addresses).copied().collect();
        if lost.is_empty() {
            return;
        }
        let now = Place {
            addresses: own,
            told: live.told.clone(),
        };
        if predecessor.is_none() && !is_meant(&before, &now, live.may_move) {
            live.unsettled_move = Some(before);
            return;
        }
        let live = &*live;
        if live.may_move {
            self.groups.leave_unserved();
        }
        self.groups.leave(&lost);
        self.moves
            .note(live.slot, format!("{} → {}", list(&lost), list(&gained)));
        let drain_timeout = self.template.options(live.version).stop.drain_timeout;
        let row = predecessor.and_then(|old| self.live.get(&old)).map(|old| old.row);
        if let (Some(old), Some(row)) = (predecessor, row)
            && self.groups.is_published(row)
        {
            let until = Instant::now() + LINGER.min(drain_timeout / 2);
            self.moves.lingering.insert(old, Lingering { until, serves: false });
        }
    }

    /// These are about to be published.
    pub(crate) fn notice_moves(&mut self, published: &[Seated]) {
        for seated in published {
            let live = self.live.get_mut(&seated.instance);
            if live.is_some_and(|live| !std::mem::replace(&mut live.was_published, true)) {
                self.notice_move(seated.instance);
            }
        }
    }

    /// Those that may serve the addresses which the app leaves, where nobody else does.
    pub(crate) fn may_linger(&mut self) -> Vec<Choosable> {
        if self.machine.view().stopping {
            self.moves.lingering.clear();
        }
        let rows = self.moves.lingering.keys().filter_map(|id| self.live.get(id));
        // The newest of each slot.
        let by_slot: BTreeMap<SlotId, Row> = rows.map(|live| (live.slot, live.row)).collect();
        let choosable = by_slot
            .into_iter()
            .map(|(slot, row)| Choosable { slot, row, share: None });
        choosable.collect()
    }

    /// It was published who may be chosen: those that are needed linger, the others end as ever.
    pub(crate) fn begin_lingering(&mut self) {
        let groups = &self.groups;
        let live = &self.live;
        self.moves
            .lingering
            .retain(|id, _| live.get(id).is_some_and(|live| groups.lingers(live.row)));
        let begun = self
            .moves
            .lingering
            .iter_mut()
            .filter(|(_, lingering)| !lingering.serves);
        let begun: Vec<(InstanceId, Instant)> = begun
            .map(|(&id, lingering)| {
                lingering.serves = true;
                (id, lingering.until)
            })
            .collect();
        for (id, until) in begun {
            self.inputs.push_back(Input::Lingers { instance: id });
            let Some(live) = self.live.get(&id) else { continue };
            let left = list(&self.groups.left_to(live.row));
            let slot = live.slot;
            self.note(Note {
                slot: Some(slot),
                instance: Some(id),
                kind: NoteKind::Moved,
                message: format!(
                    "the app has left {left}: the old instance of worker {slot} serves there for {:.1} s more",
                    until.saturating_duration_since(Instant::now()).as_secs_f64()
                )
                .into(),
            });
        }
    }

    /// Called when the published ones have changed, and now and then: an instance may open a listener later, or close one. One that listens
    /// nowhere may be on its way out, and has told where it was.
    pub(crate) fn remember_places(&mut self) {
        for live in self
            .live
            .values()
            .filter(|live| live.ready && self.groups.is_published(live.row))
        {
            let addresses = self.groups.served_by(live.row);
            if !addresses.is_empty() {
                let told = live.told.clone();
                self.moves.places.insert(live.slot, Place { addresses, told });
            }
        }
    }

    /// Called now and then: whose time is over does not get new connections any more.
    pub(crate) fn end_lingering(&mut self) {
        let now = Instant::now();
        let over = self
            .moves
            .lingering
            .iter()
            .filter(|(_, lingering)| lingering.until <= now);
        let over: Vec<InstanceId> = over.map(|(&id, _)| id).collect();
        over.into_iter().for_each(|id| self.stop_lingering(id));
    }

    /// It gets no new connections any more: they are refused where nobody else is.
    pub(crate) fn stop_lingering(&mut self, id: InstanceId) {
        if self.moves.lingering.remove(&id).is_none() {
            return;
        }
        let rest = self.may_linger();
        if let Err(error) = self.groups.linger(rest) {
            self.console.warn(&error.to_string());
        }
        self.look_now();
    }
}
