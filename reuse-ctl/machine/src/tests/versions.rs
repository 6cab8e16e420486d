//! Which versions are kept: all that may still be needed to start an instance, and no others.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::events::{Event, any_config, event};
use super::shares::percent;
use super::world::{World, only};
use crate::ids::{InstanceId, VersionId};
use crate::interface::{ApplyPlan, Command, Exit, PlannedRollout};
use crate::versions::Versions;

/// A world, with the versions as the task keeps them.
struct Kept {
    world: World,
    versions: Versions<()>,
    seen: BTreeSet<InstanceId>,
}

impl Kept {
    fn new(world: World) -> Self {
        Self {
            world,
            versions: Versions::new(()),
            seen: BTreeSet::new(),
        }
    }

    /// The versions that the machine may name, and those that run.
    fn in_use(&self) -> BTreeSet<VersionId> {
        let alive = self.world.referee.alive.keys();
        let live = alive.map(|id| self.world.started_from[id]);
        self.world.machine.versions().into_iter().chain(live).collect()
    }

    /// Sends a command with a version of its own, as the task does.
    fn ask(&mut self, command: impl Fn(VersionId) -> Command) {
        let mut asked = command(self.world.machine.version());
        if self.world.machine.would_take(&asked) {
            let in_use = self.in_use();
            asked = command(self.versions.push((), &in_use));
            assert!(self.versions.ids().len() <= in_use.len() + 1);
        }
        self.world.ask(asked);
        self.check();
    }

    fn adopt(&mut self) {
        let rules = self.world.rules();
        self.ask(|version| {
            let version = Some(version);
            Command::Apply(ApplyPlan {
                rollout: Some(PlannedRollout { version, rules }),
                ..only(rules)
            })
        });
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Ask(Command::Apply(plan)) => self.ask(|version| {
                let rollout = plan.rollout.map(|rollout| PlannedRollout {
                    version: rollout.version.map(|_| version),
                    ..rollout
                });
                Command::Apply(ApplyPlan { rollout, ..*plan })
            }),
            Event::Ask(Command::Canary { share, .. }) => self.ask(|version| Command::Canary { share: *share, version }),
            other => self.world.happen(other),
        }
        self.check();
    }

    /// Checks that everything was started from a version that is kept.
    fn check(&mut self) {
        let kept = self.versions.ids();
        for (id, version) in &self.world.started_from {
            if self.seen.insert(*id) {
                assert!(kept.contains(version), "{id:?} of version {} of {kept:?}", version.0);
            }
        }
        assert!(self.in_use().is_subset(&kept));
    }
}

/// Also versions of refused requests, and those that never become ready.
#[test]
fn a_thousand_deploys_leave_no_more_than_is_in_use() {
    let mut kept = Kept::new(World::active(2));
    for _ in 0..1000 {
        kept.ask(|version| Command::Canary {
            share: percent(5),
            version,
        });
        // While the canary starts, and while it is there.
        kept.adopt();
        kept.world.ready(2);
        kept.adopt();
        kept.world.ask(Command::Abort);
        kept.world.exit_newest(2, 0);
        kept.adopt();
        kept.world.exit_newest(0, 1);
        kept.world.behave(true);
        kept.check();
        assert_eq!(
            kept.world.machine.view().slots.len(),
            2,
            "the canary is gone, the apply has failed"
        );
    }
    assert!(kept.versions.ids().len() <= 2, "{:?}", kept.versions.ids());
    kept.adopt();
    kept.world.behave(true);
    for slot in kept.world.machine.view().slots {
        for instance in slot
            .instances
            .iter()
            .filter(|instance| Some(instance.id) != slot.current)
        {
            kept.world.gone(instance.id, Exit::Code(0));
        }
    }
    assert_eq!(kept.in_use().len(), 1, "and one that succeeds is the app's");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_is_started_from_a_version_that_was_forgotten(
        config in any_config(),
        events in proptest::collection::vec(event(), 0..150),
    ) {
        let mut kept = Kept::new(World::asleep(config));
        kept.happen(&Event::Start);
        events.iter().for_each(|event| kept.happen(event));
        kept.world.behave(true);
        kept.check();
    }
}
