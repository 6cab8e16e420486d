//! `apply`: a new version for all slots or for none, and rules that change.

use super::shares::percent;
use super::world::{World, config, rules};
use crate::ids::{RequestId, VersionId};
use crate::interface::{Command, Config, Exit, HealthRules, Input, Rules};
use crate::states::{ErrorKind, WorkerState};

impl World {
    fn adopt(&mut self, version: u32) -> RequestId {
        self.ask(Command::Adopt {
            version: VersionId(version),
        })
    }

    /// The versions of each slot's next instance, and the app's version.
    fn next_versions(&self) -> (Vec<u32>, u32) {
        let view = self.machine.view();
        (view.slots.iter().map(|slot| slot.version.0).collect(), view.version.0)
    }

    /// Every instance that is being stopped ends.
    fn leavers_go(&mut self) {
        for slot in self.machine.view().slots {
            for instance in slot.instances {
                if instance.state == WorkerState::Stopping {
                    self.gone(instance.id, Exit::Code(0));
                }
            }
        }
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
    world.leavers_go();
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
    world.leavers_go();
    let culprit = world.newest(2);
    world.exit_newest(2, 1);
    assert!(world.waits(adopt), "0 and 1 go back");
    assert_eq!(world.published_slots(), [0, 1, 2]);
    world.ready(0);
    world.ready(1);
    world.leavers_go();
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
    world.leavers_go();
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
    world.leavers_go();
    world.done(abort);
    assert_eq!(world.next_versions(), (vec![0, 0], 0));
}

#[test]
fn not_while_there_is_a_canary_or_another_job() {
    let mut world = World::active(2);
    world.ask(Command::Canary {
        share: percent(5),
        version: VersionId(1),
    });
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
    world.send(Input::Ruled(Rules {
        ready_timeout_ms: 1_000,
        ..rules(&config())
    }));
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
    world.send(Input::Ruled(rules(&config())));
    assert_eq!(world.published_slots(), [0, 1, 2]);
    assert!(world.slot(1).fault.is_none());
}
