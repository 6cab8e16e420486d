//! Faults in the app as a whole: which instances are faulty, which of them are withdrawn, and which are replaced.

use reuse_common::withhold::{self, Candidate};

use super::fault::Fault;
use super::instance::Instance;
use super::slot::Slot;
use super::words;
use super::{Machine, Mode};
use crate::ids::{InstanceId, Millis};
use crate::interface::{Backlog, NoteKind};

impl Machine {
    /// Takes in one look at all accept queues: first each instance by itself, then all of them in comparison.
    pub(super) fn watched(&mut self, mut backlogs: Vec<(InstanceId, Backlog)>) {
        backlogs.sort_unstable_by_key(|(id, _)| *id);
        for slot in &mut self.slots {
            if let Some(instance) = slot.serving_mut()
                && let Ok(place) = backlogs.binary_search_by_key(&instance.id(), |(id, _)| *id)
            {
                instance.watched(backlogs[place].1, &mut self.norm, &mut self.cx);
            }
        }
        let published = self.slots.iter_mut().filter_map(Slot::active_mut);
        let mut watches: Vec<_> = published.filter_map(Instance::watch_to_judge).collect();
        self.norm.judge(self.cx.now().0, &mut watches);
        for slot in &mut self.slots {
            if let Some(instance) = slot.active_mut() {
                instance.judged(&mut self.cx);
            }
        }
    }

    pub(super) fn checked(&mut self, id: InstanceId, outcome: &Result<(), String>) {
        let active = self.slots.iter_mut().filter_map(Slot::active_mut);
        if let Some(instance) = active.into_iter().find(|instance| instance.id() == id) {
            instance.checked(outcome, &mut self.cx);
        }
    }

    /// Withdraws, rescues and replaces faulty instances as far as due.
    pub(super) fn tend_faults(&mut self) {
        if !matches!(self.mode, Mode::Running) {
            return;
        }
        self.withhold();
        for slot in &mut self.slots {
            if let Some(instance) = slot.active_mut() {
                instance.tend(&mut self.cx);
            }
        }
        let now = self.cx.now();
        while let Some(slot) = self
            .next_recovery()
            .filter(|(due, _)| *due <= now)
            .map(|(_, place)| place)
        {
            self.slots[slot].replace_faulty(&mut self.cx);
        }
    }

    /// Gives the slot to an instance that is ready beside a hung one that is still published, since waiting until it has settled would prolong the outage.
    /// Beside a hung one that is withdrawn it goes on settling, because the others serve. Returns whether there was one.
    pub(super) fn replace_hung(&mut self) -> bool {
        let mut any = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.settles_beside_a_hung_one()) {
            slot.replace_when_settled(&mut self.cx);
            any = true;
        }
        any
    }

    /// When the next faulty instance is to be replaced, and the index of its slot; `None` while other jobs take precedence.
    pub(super) fn next_recovery(&self) -> Option<(Millis, usize)> {
        if !matches!(self.mode, Mode::Running) || self.jobs.replaces_all() {
            return None;
        }
        let active = self.slots.iter().filter(|slot| slot.active().is_some()).count();
        // As many at once as may be withdrawn, so that a fault of all instances doesn't start the whole app a second time; but at least
        // one.
        let at_once = withhold::limit(active, self.cx.config().hung.at_most_percent).max(1);
        if self.slots.iter().filter(|slot| slot.is_recovering()).count() >= at_once {
            return None;
        }
        let due = self.slots.iter().enumerate().filter_map(|(place, slot)| {
            let due = slot.recovery_due(self.cx.config())?;
            Some((due, place))
        });
        due.min()
    }

    fn withhold(&mut self) {
        let active = || self.slots.iter().filter_map(Slot::active);
        if active().all(|instance| instance.fault().is_none()) {
            self.all_faulty = false;
            return;
        }
        let mut candidates: Vec<_> = active()
            .map(|instance| Candidate {
                faulty_since_ms: instance.fault().map(|fault| fault.since().0),
                withdrawn: false,
            })
            .collect();
        let at_most_percent = self.cx.config().hung.at_most_percent;
        withhold::decide(&mut candidates, at_most_percent);
        let all_faulty = candidates.iter().all(|one| one.faulty_since_ms.is_some());
        if all_faulty && !self.all_faulty {
            self.warn_of_all();
        }
        self.all_faulty = all_faulty;
        let stays = match candidates.len() {
            1 => "since it is the only one",
            _ if all_faulty => "since all are faulty",
            active if withhold::limit(active, at_most_percent) == 0 => "since none may be withdrawn for a fault",
            _ => "since too many others are faulty",
        };
        let active = self.slots.iter_mut().filter_map(Slot::active_mut);
        for (instance, candidate) in active.zip(candidates) {
            instance.set_withdrawn(candidate.withdrawn, stays, &mut self.cx);
        }
    }

    fn warn_of_all(&mut self) {
        let faults = self.slots.iter().filter_map(|slot| slot.active()?.fault());
        let mut kinds: Vec<_> = faults.map(Fault::kind).map(words::fault).collect();
        let count = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        let what = kinds.join(" or ");
        let message = match count {
            1 => format!("the only active worker is {what}: it stays published"),
            _ => format!("all {count} workers are {what}: all stay published"),
        };
        self.cx.note(NoteKind::Warning, None, None, message);
    }
}
