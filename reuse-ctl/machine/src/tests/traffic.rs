//! Connections for the workers of a [`World`], and a look at their queues every five milliseconds.

use std::collections::BTreeMap;

use super::world::World;
use crate::ids::InstanceId;
use crate::interface::{Backlog, Effect, Input, Note, NoteKind};

/// The true length of an instance's queue, and what it has accepted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Server {
    pub(super) queue: u32,
    pub(super) accepted: u64,
}

#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) servers: BTreeMap<InstanceId, Server>,
}

impl Traffic {
    pub(super) fn of(&mut self, instance: InstanceId) -> &mut Server {
        self.servers.entry(instance).or_default()
    }

    pub(super) fn see(&mut self, effect: &Effect) {
        match effect {
            Effect::Rescue { instance } => self.of(*instance).queue = 0,
            Effect::WakeProbe { instance } => self.of(*instance).queue += 1,
            _ => {}
        }
    }
}

impl World {
    /// A look at the true queues of all ready instances.
    pub(super) fn look(&mut self) {
        let ready = self.referee.alive.iter().filter(|(_, process)| process.ready);
        let ready: Vec<_> = ready.map(|(id, _)| *id).collect();
        let backlogs = ready.into_iter().map(|id| {
            let Server { queue, accepted } = *self.traffic.of(id);
            let backlog = Backlog {
                queue,
                accepted_at_least: accepted,
                accepted_at_most: accepted,
            };
            (id, backlog)
        });
        let backlogs = backlogs.collect();
        self.send(Input::Watched(backlogs));
    }

    /// For `ms` milliseconds, every published worker accepts something before each look, and the hung ones have four connections waiting.
    pub(super) fn serve(&mut self, ms: u64, hung: &[u16]) {
        for _ in 0..ms / 5 {
            self.pass(5);
            for entry in self.referee.published.clone() {
                let server = self.traffic.of(entry.instance);
                if hung.contains(&entry.slot.0) {
                    server.queue = 4;
                } else {
                    server.accepted += 1 + u64::from(server.queue);
                    server.queue = 0;
                }
            }
            self.look();
        }
    }

    /// Time passes without any accept, while the queues are looked at.
    pub(super) fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.pass(5);
            self.look();
        }
    }

    /// The worker accepts its whole queue, and a look sees that.
    pub(super) fn accept(&mut self, slot: u16) {
        let instance = self.current(slot);
        let server = self.traffic.of(instance);
        server.accepted += u64::from(server.queue);
        server.queue = 0;
        self.look();
    }

    /// All of `workers` are active, and it is known how fast they accept.
    pub(super) fn warm(workers: u16, mut world: Self) -> Self {
        world.send(Input::Start);
        (0..workers).for_each(|slot| world.ready(slot));
        world.serve(200, &[]);
        world.forget();
        world
    }

    /// The effects about rescues and wake-up probes, in order.
    pub(super) fn rescues(&self) -> Vec<Effect> {
        let effects = self.said.iter().filter(|effect| {
            matches!(
                effect,
                Effect::Rescue { .. } | Effect::WakeProbe { .. } | Effect::StopWakeProbe { .. }
            )
        });
        effects.cloned().collect()
    }

    pub(super) fn notes_of(&self, kind: NoteKind) -> Vec<&str> {
        let notes = self.notes().filter(|note| note.kind == kind);
        notes.map(|Note { message, .. }| message.as_str()).collect()
    }
}
