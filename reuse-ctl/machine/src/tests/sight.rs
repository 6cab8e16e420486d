//! What tests can observe of the world.

use super::world::{Answer, World};
use crate::SlotView;
use crate::ids::{InstanceId, RequestId, SlotId};
use crate::interface::{Done, Effect, Note, NoteKind, Refusal};
use crate::states::{ErrorKind, WorkerState};

impl World {
    pub(super) fn slot(&self, slot: u16) -> SlotView {
        self.machine
            .view()
            .slots
            .get(usize::from(slot))
            .cloned()
            .unwrap_or_else(|| panic!("no slot {slot}"))
    }

    pub(super) fn state(&self, slot: u16) -> WorkerState {
        self.slot(slot).state
    }

    pub(super) fn current(&self, slot: u16) -> InstanceId {
        self.slot(slot)
            .current
            .unwrap_or_else(|| panic!("nothing runs in slot {slot}"))
    }

    pub(super) fn newest(&self, slot: u16) -> InstanceId {
        let instances = self.slot(slot).instances;
        instances
            .iter()
            .map(|instance| instance.id)
            .max()
            .unwrap_or_else(|| panic!("nothing is in slot {slot}"))
    }

    pub(super) fn published_slots(&self) -> Vec<u16> {
        self.referee.published.iter().map(|entry| entry.slot.0).collect()
    }

    pub(super) fn is_published(&self, instance: InstanceId) -> bool {
        self.referee.published.iter().any(|entry| entry.instance == instance)
    }

    pub(super) fn is_terminated(&self, instance: InstanceId) -> bool {
        self.referee
            .alive
            .get(&instance)
            .is_some_and(|process| process.terminated)
    }

    pub(super) fn is_killed(&self, instance: InstanceId) -> bool {
        self.referee.alive.get(&instance).is_some_and(|process| process.killed)
    }

    pub(super) fn waits(&self, request: RequestId) -> bool {
        self.referee.unanswered.contains(&request)
    }

    pub(super) fn done(&self, request: RequestId) -> &Done {
        match self.outcome(request) {
            Ok(done) => done,
            Err(refusal) => panic!("{request:?} was refused: {refusal:?}"),
        }
    }

    pub(super) fn refused(&self, request: RequestId, kind: ErrorKind) -> &Refusal {
        match self.outcome(request) {
            Err(refusal) => {
                assert_eq!(refusal.kind, kind, "{refusal:?}");
                assert!(
                    !refusal.hint.is_empty(),
                    "every refusal says what to do next: {refusal:?}"
                );
                refusal
            }
            Ok(done) => panic!("{request:?} was carried out: {done:?}"),
        }
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.said.iter().filter_map(|effect| match effect {
            Effect::Note(note) => Some(note),
            _ => None,
        })
    }

    /// The text of the last event of this kind.
    pub(super) fn noted(&self, kind: NoteKind) -> &str {
        let note = self.notes().filter(|note| note.kind == kind).last();
        &note.unwrap_or_else(|| panic!("no {kind:?} in {:?}", self.said)).message
    }

    pub(super) fn published_sets(&self) -> Vec<Vec<(SlotId, InstanceId)>> {
        let sets = self.said.iter().filter_map(|effect| match effect {
            Effect::Publish(set) => Some(set.iter().map(|entry| (entry.slot, entry.instance)).collect()),
            _ => None,
        });
        sets.collect()
    }

    /// Crashes the slot's instances until the slot has failed for good.
    pub(super) fn crash_for_good(&mut self, slot: u16) {
        while self.state(slot) != WorkerState::Failed {
            self.exit(slot, 1);
            if self.state(slot) == WorkerState::BackingOff {
                self.pass(40_000);
            }
        }
    }

    fn outcome(&self, request: RequestId) -> &Answer {
        self.replies
            .get(&request)
            .unwrap_or_else(|| panic!("{request:?} is not answered yet"))
    }
}
