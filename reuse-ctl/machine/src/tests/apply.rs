//! `apply`: a new version for all slots or for none, then rules, policy and the number of slots.

use proptest::prelude::*;
use reuse_common::Policy;

use super::events::{Event, any_config, exit, load, pick, plan};
use super::world::{World, config, only};
use crate::ids::{SlotId, VersionId};
use crate::interface::{
    ApplyPlan, ApplyStep, Command, Config, Effect, HealthRules, Input, PlannedRollout, Rules, WhenAllFailed,
};
use crate::states::ErrorKind;

impl World {
    /// What each slot's next instance is started from, and the app's.
    fn next_versions(&self) -> (Vec<u32>, u32) {
        let view = self.machine.view();
        (view.slots.iter().map(|slot| slot.version.0).collect(), view.version.0)
    }
}

#[test]
fn it_goes_from_slot_to_slot_and_is_the_apps_when_all_have_it() {
    let mut world = World::active(3);
    let adopt = world.adopt(1);
    for slot in 0..3 {
        assert_eq!(world.next_versions().1, 0);
        world.ready(slot);
        assert_eq!(world.published_slots(), [0, 1, 2]);
    }
    assert_eq!(world.next_versions(), (vec![1, 1, 1], 0));
    assert!(world.waits(adopt), "the old ones have not ended");
    world.old_ones_go();
    assert_eq!(world.next_versions(), (vec![1, 1, 1], 1));
    assert_eq!(world.done(adopt).message, "reloaded 3 workers");
    let scale = world.scale(4);
    world.ready(3);
    world.done(scale);
    assert_eq!(world.next_versions(), (vec![1, 1, 1, 1], 1));
}

#[test]
fn at_the_first_failure_those_that_have_it_go_back() {
    let mut world = World::active(3);
    let adopt = world.adopt(1);
    world.ready(0);
    world.ready(1);
    world.old_ones_go();
    let culprit = world.newest(2);
    world.exit_newest(2, 1);
    assert!(world.waits(adopt), "0 and 1 go back");
    assert_eq!(world.published_slots(), [0, 1, 2]);
    world.ready(0);
    world.ready(1);
    world.old_ones_go();
    let refusal = world.refused(adopt, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 2 exited with code 1 before it was ready; workers 0, 1 had it and were brought back: all run the old version"
    );
    assert_eq!((refusal.culprit, refusal.slots.len()), (Some(culprit), 0));
    assert_eq!(world.next_versions(), (vec![0, 0, 0], 0));
    let again = world.adopt(2);
    assert!(world.waits(again), "it can be tried again at once");
}

#[test]
fn a_failure_of_the_first_changes_nobody() {
    let mut world = World::active(2);
    let adopt = world.adopt(1);
    world.exit_newest(0, 1);
    assert_eq!(
        world.refused(adopt, ErrorKind::Failed).error,
        "the new instance of worker 0 exited with code 1 before it was ready; no worker was changed: all run the old version"
    );
    assert_eq!(world.next_versions(), (vec![0, 0], 0));
}

#[test]
fn what_cant_be_taken_back_is_left_to_abort() {
    let mut world = World::active(2);
    let adopt = world.adopt(1);
    world.ready(0);
    world.old_ones_go();
    world.exit_newest(1, 1);
    world.exit_newest(0, 1);
    let refusal = world.refused(adopt, ErrorKind::Failed);
    assert!(
        refusal.error.contains("could not be taken back on 1 worker (0)"),
        "{}",
        refusal.error
    );
    assert_eq!(world.next_versions(), (vec![1, 0], 0));
    let next = world.adopt(2);
    assert_eq!(
        world.refused(next, ErrorKind::Failed).hint,
        "`reuse-ctl abort` brings them back"
    );
    let abort = world.ask(Command::Abort);
    world.ready(0);
    world.old_ones_go();
    world.done(abort);
    assert_eq!(world.next_versions(), (vec![0, 0], 0));
}

#[test]
fn not_while_there_is_a_canary_or_another_job() {
    let mut world = World::active(2);
    world.canary(1);
    let early = world.adopt(2);
    assert_eq!(
        world.refused(early, ErrorKind::Failed).error,
        "the start of a canary is under way"
    );
    world.ready(2);
    let late = world.adopt(2);
    assert_eq!(
        world.refused(late, ErrorKind::Failed).error,
        "worker 2 is a canary: promote or abort the canary first"
    );
    let mut world = World::active(2);
    world.adopt(1);
    for request in [world.reload(), world.scale(3), world.restart(0), world.adopt(2)] {
        assert_eq!(world.refused(request, ErrorKind::Failed).error, "an apply is under way");
    }
}

#[test]
fn a_stop_ends_it() {
    let mut world = World::active(2);
    let adopt = world.adopt(1);
    world.stop();
    assert_eq!(
        world.refused(adopt, ErrorKind::Failed).error,
        "the app was stopped meanwhile"
    );
}

#[test]
fn a_shorter_ready_timeout_holds_for_the_next_start() {
    let mut world = World::active(1);
    world.rule(Rules {
        ready_timeout_ms: 1_000,
        ..world.rules()
    });
    let reload = world.reload();
    world.pass(1_500);
    assert!(
        world
            .refused(reload, ErrorKind::Failed)
            .error
            .contains("was not ready within 1 s")
    );
}

#[test]
fn without_checks_nobody_is_unhealthy() {
    let health = Some(HealthRules { fails: 1, passes: 1 });
    let mut world = World::asleep(Config {
        workers: 3,
        health,
        ..config()
    });
    world.send(Input::Start);
    (0..3).for_each(|slot| world.ready(slot));
    let instance = world.current(1);
    world.send(Input::Checked {
        instance,
        outcome: Err("status 500".into()),
    });
    assert_eq!(world.published_slots(), [0, 2]);
    world.rule(config().rules());
    assert_eq!(world.published_slots(), [0, 1, 2]);
    assert!(world.slot(1).fault.is_none());
}

/// A new version and everything else, with these rules before, meanwhile and after.
fn whole_plan(world: &World) -> ApplyPlan {
    ApplyPlan {
        rollout: Some(PlannedRollout {
            version: Some(VersionId(1)),
            rules: ready_within(2_000, world),
        }),
        rules: ready_within(3_000, world),
        policy: Some(Policy::Hash),
        workers: Some(3),
    }
}

fn ready_within(ready_timeout_ms: u64, world: &World) -> Rules {
    Rules {
        ready_timeout_ms,
        ..world.rules()
    }
}

#[test]
fn the_steps_follow_each_other_and_each_is_said() {
    let mut world = World::active(2);
    let plan = whole_plan(&world);
    let apply = world.ask(Command::Apply(plan));
    assert_eq!(world.rules().ready_timeout_ms, 2_000);
    world.ready(0);
    world.ready(1);
    assert_eq!(world.machine.view().policy, Policy::LeastLoaded, "the rollout goes on");
    world.old_ones_go();
    assert_eq!(world.rules().ready_timeout_ms, 3_000);
    assert_eq!(world.machine.view().policy, Policy::Hash);
    assert!(world.waits(apply), "worker 2 starts");
    world.ready(2);
    let done = world.done(apply);
    assert_eq!(
        done.message,
        "reloaded 2 workers; the policy is hash now; scaled from 2 to 3 workers"
    );
    assert_eq!(done.slots, [SlotId(0), SlotId(1), SlotId(2)]);
    let steps: Vec<ApplyStep> = world.said.iter().filter_map(step_of).collect();
    assert_eq!(
        steps,
        [
            ApplyStep::Rollout,
            ApplyStep::Rules,
            ApplyStep::Policy,
            ApplyStep::Scale
        ]
    );
}

fn step_of(effect: &Effect) -> Option<ApplyStep> {
    match effect {
        Effect::Applied { step, .. } => Some(*step),
        _ => None,
    }
}

#[test]
fn a_rollout_that_fails_leaves_all_as_it_was() {
    let mut world = World::active(2);
    let before = world.rules();
    let plan = whole_plan(&world);
    let apply = world.ask(Command::Apply(plan));
    world.pass(2_000);
    assert!(
        world
            .refused(apply, ErrorKind::Failed)
            .error
            .contains("not ready within 2 s")
    );
    let view = world.machine.view();
    assert_eq!((view.policy, view.slots.len()), (Policy::LeastLoaded, 2));
    assert_eq!(world.rules(), before);
    assert_eq!(world.said.iter().find_map(step_of), None);
}

#[test]
fn a_scale_that_fails_leaves_what_was_done_before() {
    let mut world = World::active(2);
    let plan = ApplyPlan {
        rollout: None,
        ..whole_plan(&world)
    };
    let apply = world.ask(Command::Apply(plan));
    world.exit_newest(2, 1);
    assert!(
        world
            .refused(apply, ErrorKind::Failed)
            .error
            .ends_with("there are 2 workers, as before")
    );
    assert_eq!(world.machine.view().policy, Policy::Hash);
    assert_eq!(world.rules(), plan.rules);
    let steps: Vec<ApplyStep> = world.said.iter().filter_map(step_of).collect();
    assert_eq!(steps, [ApplyStep::Rules, ApplyStep::Policy]);
}

#[test]
fn where_every_worker_has_failed_they_start_anew_and_others_are_added() {
    let mut world = World::asleep(Config {
        workers: 1,
        when_all_failed: WhenAllFailed::Stay,
        ..config()
    });
    world.send(Input::Start);
    world.ready(0);
    world.crash_for_good(0);
    let rules = world.rules();
    let scale = ApplyPlan {
        workers: Some(2),
        ..only(rules)
    };
    let refused = world.ask(Command::Apply(scale));
    world.refused(refused, ErrorKind::Failed);
    let apply = world.ask(Command::Apply(ApplyPlan {
        rollout: Some(PlannedRollout { version: None, rules }),
        ..scale
    }));
    world.ready(0);
    world.ready(1);
    world.done(apply);
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn a_refused_step_has_the_whole_refused_before_anything_changes() {
    let mut world = World::active(2);
    let before = world.rules();
    world.scale(3);
    let plan = ApplyPlan {
        rollout: None,
        ..whole_plan(&world)
    };
    let apply = world.ask(Command::Apply(plan));
    world.refused(apply, ErrorKind::Failed);
    assert_eq!(world.machine.view().policy, Policy::LeastLoaded);
    assert_eq!(world.rules(), before);
}

#[test]
fn a_stop_between_begin_and_end_ends_it() {
    let mut world = World::active(2);
    let plan = ApplyPlan {
        rollout: None,
        ..whole_plan(&world)
    };
    let apply = world.ask(Command::Apply(plan));
    world.stop();
    world.refused(apply, ErrorKind::Failed);
}

proptest! {
    /// The referee watches the order of the steps. Whatever dies meanwhile: it ends, with the state that its answer speaks of.
    #[test]
    fn what_was_applied_is_in_force_and_nothing_else(
        config in any_config(),
        plan in plan(),
        events in proptest::collection::vec(prop_oneof![
            3 => (0..3_000_u64).prop_map(Event::Pass),
            8 => (0..12_usize).prop_map(Event::Ready),
            1 => pick().prop_map(Event::Unready),
            2 => (pick(), exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
            3 => proptest::collection::vec((pick(), load()), 0..5).prop_map(Event::Observed),
        ], 0..80),
        gets_ready in any::<bool>(),
    ) {
        let mut world = World::active_with(Config {
            crash_limit: 20,
            ready_timeout_ms: 30_000,
            when_all_failed: WhenAllFailed::Stay,
            ..config
        });
        let (rules_before, view_before) = (world.rules(), world.machine.view());
        let apply = world.ask(Command::Apply(plan));
        events.iter().for_each(|event| world.happen(event));
        world.behave(gets_ready);
        let said: Vec<ApplyStep> = world.said.iter().filter_map(step_of).collect();
        let (view, is_done) = (world.machine.view(), |step| said.contains(&step));
        let workers = view.slots.iter().filter(|slot| !slot.leaving).count();
        prop_assert_eq!(world.rules(), if is_done(ApplyStep::Rules) { plan.rules } else { rules_before });
        let policy = plan.policy.filter(|_| is_done(ApplyStep::Policy));
        prop_assert_eq!(view.policy, policy.unwrap_or(view_before.policy));
        let scaled = plan.workers.filter(|_| is_done(ApplyStep::Scale));
        prop_assert_eq!(workers, scaled.map_or(view_before.slots.len(), usize::from));
        let version = plan.rollout.and_then(|rollout| rollout.version).filter(|_| is_done(ApplyStep::Rollout));
        prop_assert_eq!(view.version, version.unwrap_or(view_before.version));
        match &world.replies[&apply] {
            Ok(done) => {
                let told: Vec<_> = world.said.iter().filter_map(|effect| match effect {
                    Effect::Applied { done, .. } => Some(done.slots.clone()),
                    _ => None,
                }).flatten().collect();
                prop_assert!(told.iter().all(|slot| done.slots.contains(slot)));
                prop_assert!(is_done(ApplyStep::Rules));
            }
            Err(_) => prop_assert!(!is_done(ApplyStep::Scale)),
        }
    }
}
