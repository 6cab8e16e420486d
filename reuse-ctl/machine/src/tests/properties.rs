//! Random events in any order. The referee watches every step; it defines what must never happen.

use proptest::prelude::*;
use reuse_common::Share;

use super::events::{
    Event, any_config, command, drain, ending, event, exit, fate, hung_rules, load, pick, slot, surge, trouble,
};
use super::world::{KILLED, World, config};
use crate::ids::{InstanceId, VersionId};
use crate::interface::{Command, Config, Effect, HealthRules, Input};
use crate::states::WorkerState;

impl World {
    fn picked(&self, which: usize) -> InstanceId {
        let slots = self.machine.view().slots;
        let newest = slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .map(|instance| instance.id.0)
            .max();
        InstanceId(
            newest
                .unwrap_or(0)
                .saturating_sub(u32::try_from(which).unwrap_or(u32::MAX)),
        )
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Ask(command) => {
                self.ask(command.clone());
            }
            Event::Pass(ms) => self.pass(*ms),
            Event::Spawned(which) => self.send(Input::Spawned {
                instance: self.picked(*which),
                pid: 9,
            }),
            Event::SpawnFailed(which) => {
                self.send(Input::SpawnFailed {
                    instance: self.picked(*which),
                    reason: "no".into(),
                });
            }
            Event::Ready(which) => self.send(Input::Ready {
                instance: self.picked(*which),
            }),
            Event::Unready(which) => {
                self.send(Input::Unready {
                    instance: self.picked(*which),
                    reason: "closed".into(),
                });
            }
            Event::Exited(which, exit) => self.gone(self.picked(*which), *exit),
            Event::ServersEnded(which, connections) => {
                let instance = self.picked(*which);
                // Only an instance that was told to stop can do this.
                if self
                    .referee
                    .alive
                    .get(&instance)
                    .is_some_and(|process| process.terminated)
                {
                    self.send(Input::ServersEnded {
                        instance,
                        connections: *connections,
                    });
                }
            }
            Event::Idle(is_idle) => self.is_idle = *is_idle,
            Event::Late(ms) => self.now = self.now.plus(*ms),
            Event::Observed(loads) => {
                let loads = loads.iter().map(|(which, load)| (self.picked(*which), *load)).collect();
                self.send(Input::Observed(loads));
            }
            Event::Serve { looks, gap_ms, hung } => {
                for _ in 0..*looks {
                    self.pass(*gap_ms);
                    for slot in self.machine.view().slots {
                        let Some(instance) = slot.current else { continue };
                        let server = self.traffic.of(instance);
                        if hung >> slot.id.0.min(7) & 1 == 1 {
                            server.queue += u32::from(slot.published);
                        } else {
                            server.accepted += 1 + u64::from(server.queue);
                            server.queue = 0;
                        }
                    }
                    self.look();
                }
            }
            Event::Watched(backlogs) => {
                let backlogs = backlogs.iter().map(|(which, backlog)| (self.picked(*which), *backlog));
                let backlogs = backlogs.collect();
                self.send(Input::Watched(backlogs));
            }
            Event::Checked(which, passed) => self.send(Input::Checked {
                instance: self.picked(*which),
                outcome: if *passed { Ok(()) } else { Err("no".into()) },
            }),
            Event::Interrupt => self.send(Input::Interrupt),
            Event::Start => self.send(Input::Start),
        }
    }

    /// The least that the machine may rely on: requested processes are spawned, killed ones die, and time passes. Instances become ready
    /// only if `gets_ready` is set.
    pub(super) fn behave(&mut self, gets_ready: bool) {
        for _ in 0..1000 {
            let mut idle = true;
            self.heal();
            for (instance, pid, ready, killed) in self.processes() {
                match (pid, killed) {
                    (None, _) => self.send(Input::Spawned { instance, pid: 9 }),
                    (Some(_), true) => self.gone(instance, KILLED),
                    (Some(_), false) if gets_ready && !ready => self.send(Input::Ready { instance }),
                    (Some(_), false) => continue,
                }
                idle = false;
            }
            match self.machine.next_deadline() {
                Some(deadline) => self.pass(deadline.since(self.now)),
                None if idle => return,
                None => {}
            }
        }
        panic!("it never comes to rest: {:?}", self.machine);
    }

    /// Faulty instances accept again, and pass their checks.
    fn heal(&mut self) {
        for server in self.traffic.servers.values_mut() {
            server.accepted += 1_000 + u64::from(server.queue);
            server.queue = 0;
        }
        self.look();
        for slot in self.machine.view().slots {
            if slot.fault.is_none() {
                continue;
            }
            let instance = slot.current.expect("an active one is faulty");
            for _ in 0..4 {
                let outcome = Ok(());
                self.send(Input::Checked { instance, outcome });
            }
        }
        assert!(self.machine.view().slots.iter().all(|slot| slot.fault.is_none()));
    }

    fn processes(&self) -> Vec<(InstanceId, Option<u32>, bool, bool)> {
        let alive = self.referee.alive.iter();
        alive
            .map(|(id, process)| (*id, process.pid, process.ready, process.killed))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_request_is_answered_once_if_the_world_behaves(
        config in any_config(),
        spawns in any::<bool>(),
        gets_ready in any::<bool>(),
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World::asleep(config);
        world.spawns = spawns;
        world.send(Input::Start);
        events.iter().for_each(|event| world.happen(event));
        world.behave(gets_ready);
        prop_assert!(world.referee.unanswered.is_empty(), "{:?}", world.referee.unanswered);
    }

    #[test]
    fn after_a_stop_it_is_over_once_if_the_world_behaves(
        config in any_config(),
        started in any::<bool>(),
        gets_ready in any::<bool>(),
        before in proptest::collection::vec(event(), 0..60),
        stop in ending(),
        after in proptest::collection::vec(prop_oneof![8 => event(), 1 => ending()], 0..30),
    ) {
        let mut world = World::asleep(config);
        if started {
            world.send(Input::Start);
        }
        before.iter().chain([&stop]).chain(&after).for_each(|event| world.happen(event));
        world.behave(gets_ready);
        prop_assert!(world.referee.finished.is_some());
        prop_assert!(world.referee.unanswered.is_empty());
        world.forget();
        before.iter().for_each(|event| world.happen(event));
        prop_assert!(world.said.is_empty());
    }

    /// Without restarts and similar commands, the published instances are simply those that are ready and not withdrawn.
    #[test]
    fn published_is_who_is_ready_and_not_withdrawn(
        workers in 1..5_u16,
        events in proptest::collection::vec(prop_oneof![
            3 => fate(),
            1 => drain().prop_map(Event::Ask),
            1 => slot().prop_map(|slot| Event::Ask(Command::Undrain { slot })),
        ], 0..120),
    ) {
        let mut world = World::asleep(Config { workers, crash_limit: u32::MAX, ..config() });
        world.send(Input::Start);
        let mut withdrawn = [false; 6];
        for event in &events {
            let published = world.published_slots();
            match event {
                Event::Ask(Command::Drain { slot, force, .. }) => {
                    let last = published == [slot.0];
                    withdrawn[usize::from(slot.0)] |= published.contains(&slot.0) && (*force || !last);
                }
                Event::Ask(Command::Undrain { slot }) => withdrawn[usize::from(slot.0)] = false,
                _ => {}
            }
            world.happen(event);
            let mut expected: Vec<_> = world.referee.alive.iter()
                .filter(|(_, process)| process.ready && !process.killed)
                .map(|(id, process)| (process.slot.expect("a spawned one has a slot"), *id))
                .filter(|(slot, _)| !withdrawn[usize::from(slot.0)])
                .collect();
            expected.sort();
            let published: Vec<_> = world.referee.published.iter().map(|entry| (entry.slot, entry.instance)).collect();
            prop_assert_eq!(published, expected);
        }
    }

    /// While it neither crashes nor is withdrawn, a slot whose instances are replaced start-first is always published.
    #[test]
    fn start_first_never_leaves_a_slot_unpublished(
        settle_ms in prop_oneof![Just(0_u64), 1..3_000_u64],
        surge in surge(),
        stop_at in 0..200_usize,
        events in proptest::collection::vec(prop_oneof![
            2 => slot().prop_map(|slot| Event::Ask(Command::Restart { slot, stop_first: false })),
            1 => Just(Event::Ask(Command::Reload { stop_first: false })),
            3 => (0..40_000_u64).prop_map(Event::Pass),
            6 => pick().prop_map(Event::Ready),
            4 => (pick(), exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
            3 => proptest::collection::vec((pick(), load()), 0..5).prop_map(Event::Observed),
        ], 0..200),
    ) {
        let mut world = World::active_with(Config { workers: 3, settle_ms, surge, ..config() });
        for event in events.iter().take(stop_at) {
            if let Event::Exited(which, _) = event && world.is_published(world.picked(*which)) {
                continue;
            }
            world.happen(event);
            prop_assert_eq!(world.published_slots(), [0, 1, 2]);
            for slot in world.machine.view().slots {
                let not_on_their_way_out =
                    slot.instances.iter().filter(|one| one.state != WorkerState::Stopping).count();
                prop_assert!(not_on_their_way_out <= 2, "one serves, one comes: {:?}", slot);
            }
        }
    }

    /// A rollout, whatever dies meanwhile.
    #[test]
    fn a_rollout_has_a_few_slots_under_way_and_is_all_or_nothing(
        workers in 1..7_u16,
        settle_ms in prop_oneof![Just(0_u64), 1..1_500_u64],
        surge in surge(),
        promotes in any::<bool>(),
        events in proptest::collection::vec(prop_oneof![
            3 => (0..2_000_u64).prop_map(Event::Pass),
            8 => (0..12_usize).prop_map(Event::Ready),
            1 => pick().prop_map(Event::Unready),
            2 => (pick(), exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
            3 => proptest::collection::vec((pick(), load()), 0..5).prop_map(Event::Observed),
        ], 0..80),
    ) {
        let mut world = World::active_with(Config { workers, settle_ms, surge, crash_limit: u32::MAX, ..config() });
        let version = VersionId(1);
        let rollout = if promotes {
            let share = Share::from_hundredths_of_a_percent(500).expect("5%");
            world.ask(Command::Canary { share, version });
            world.ready(workers);
            world.pass(settle_ms);
            world.ask(Command::Promote)
        } else {
            world.adopt(version.0)
        };
        let at_once = surge.of(usize::from(workers));
        for event in &events {
            world.happen(event);
            prop_assert!(world.incoming_slots().len() <= at_once, "{:?}", world.incoming_slots());
        }
        world.behave(true);
        let slots = world.machine.view().slots;
        let others = slots.iter().filter(|slot| !slot.canary);
        let with_it: Vec<_> = others.clone().filter(|slot| slot.version == version).map(|slot| slot.id).collect();
        match &world.replies[&rollout] {
            Ok(done) => {
                prop_assert_eq!(with_it.len(), usize::from(workers));
                prop_assert_eq!(done.slots.len(), usize::from(workers));
            }
            Err(refusal) => {
                prop_assert_eq!(&refusal.slots, &with_it, "{}", refusal.error);
                prop_assert_eq!(refusal.error.contains("could not be taken back"), !with_it.is_empty());
                prop_assert_eq!(slots.iter().filter(|slot| slot.canary).count(), usize::from(promotes));
            }
        }
        for slot in others {
            let current = slot.current.expect("all serve again");
            prop_assert_eq!(world.started_from[&current], slot.version);
        }
    }

    /// Whatever dies meanwhile: either all added instances have lived through the settle time, or nothing is left of them.
    #[test]
    fn a_scale_up_is_done_when_all_have_settled_or_undone(
        added in 1..4_u16,
        settle_ms in prop_oneof![Just(0_u64), 1..1_500_u64],
        events in proptest::collection::vec(prop_oneof![
            3 => (0..1_000_u64).prop_map(Event::Pass),
            4 => (0..4_usize).prop_map(Event::Ready),
            1 => (0..4_usize, exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
        ], 0..30),
    ) {
        let mut world = World::active_with(Config { workers: 1, settle_ms, crash_limit: u32::MAX, ..config() });
        let scale = world.scale(1 + added);
        for event in &events {
            world.happen(event);
            let Some(outcome) = world.replies.get(&scale) else { continue };
            let slots = world.machine.view().slots;
            let staying = slots.iter().filter(|slot| !slot.leaving).skip(1);
            match outcome {
                Ok(_) => {
                    let ready_ms: Vec<_> = staying.map(|slot| slot.active_at.map(|at| world.now.since(at))).collect();
                    prop_assert_eq!(ready_ms.len(), usize::from(added));
                    prop_assert!(ready_ms.iter().all(|ms| ms.is_some_and(|ms| ms >= settle_ms)), "{:?}", ready_ms);
                }
                Err(_) => prop_assert_eq!(staying.count(), 0),
            }
            break;
        }
    }

    /// As with all requests, in an app that runs well at first, so that real faults occur.
    #[test]
    fn faults_and_requests_get_along(
        config in any_config(),
        events in proptest::collection::vec(prop_oneof![
            6 => trouble(),
            3 => command().prop_map(Event::Ask),
            12 => (0..3_usize).prop_map(Event::Ready),
            1 => pick().prop_map(Event::Unready),
            2 => (pick(), exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
            1 => (0..3_000_u64).prop_map(Event::Pass),
        ], 0..100),
    ) {
        let workers = 4;
        let mut world = World::warm(workers, World::asleep(Config { workers, ready_timeout_ms: 30_000, ..config }));
        events.iter().for_each(|event| world.happen(event));
        world.behave(true);
        prop_assert!(world.referee.unanswered.is_empty(), "{:?}", world.referee.unanswered);
    }

    /// Without requests and crashes: every active instance is published, except faulty ones that the app can spare.
    #[test]
    fn nobody_is_withdrawn_but_for_a_fault(
        hung in hung_rules(),
        events in proptest::collection::vec(trouble(), 0..60),
    ) {
        let health = Some(HealthRules { fails: 2, passes: 2 });
        let workers = 5;
        let mut world = World::warm(workers, World::asleep(Config { workers, hung, health, ..config() }));
        for event in &events {
            world.happen(event);
            let slots = world.machine.view().slots;
            let faulty = slots.iter().filter(|slot| slot.fault.is_some()).count();
            let limit = (5 * usize::from(hung.at_most_percent) / 100).min(4);
            let withdrawn = if faulty == 5 { 0 } else { faulty.min(limit) };
            prop_assert_eq!(world.published_slots().len(), 5 - withdrawn, "{:?}", slots);
        }
    }

    #[test]
    fn a_tick_at_the_deadline_moves_the_deadline_or_says_something(
        config in any_config(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut world = World::asleep(config);
        world.send(Input::Start);
        events.iter().for_each(|event| world.happen(event));
        for _ in 0..50 {
            let Some(deadline) = world.machine.next_deadline() else { break };
            world.now = world.now.max(deadline);
            world.send(Input::Tick);
            prop_assert!(world.machine.next_deadline().is_none_or(|next| next > deadline));
        }
    }

    #[test]
    fn the_same_inputs_have_the_same_effects(
        config in any_config(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let run = || -> Vec<Effect> {
            let mut world = World::asleep(config.clone());
            world.send(Input::Start);
            events.iter().for_each(|event| world.happen(event));
            world.said
        };
        prop_assert_eq!(run(), run());
    }
}
