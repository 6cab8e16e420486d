//! The settle time: which instances wait for it, which don't, and what ends it.

use super::world::{World, config};
use crate::ids::{InstanceId, RequestId};
use crate::interface::{Config, Cut, Exit, HealthRules, HungRules, Input, NoteKind, Rules};
use crate::states::{ErrorKind, WorkerState};

const SETTLE_MS: u64 = 1_000;

fn settling() -> Config {
    Config {
        settle_ms: SETTLE_MS,
        ..config()
    }
}

fn active(workers: u16) -> World {
    World::active_with(Config { workers, ..settling() })
}

fn state_of(world: &World, instance: InstanceId) -> Option<WorkerState> {
    let slots = world.machine.view().slots;
    let mut instances = slots.iter().flat_map(|slot| &slot.instances);
    instances.find(|one| one.id == instance).map(|one| one.state)
}

#[test]
fn a_new_one_that_is_ready_lives_unpublished_beside_the_old_one_first() {
    let mut world = active(2);
    let old = world.current(0);
    let restart = world.restart(0);
    let new = world.newest(0);
    world.ready(0);
    world.pass(SETTLE_MS - 1);
    assert!(world.is_published(old) && world.current(0) == old);
    assert_eq!(state_of(&world, new), Some(WorkerState::Starting));
    assert!(world.published_sets().is_empty() && !world.is_terminated(old));
    world.pass(1);
    assert_eq!(world.published_sets().len(), 1, "in one go");
    assert!(world.is_published(new) && !world.is_published(old));
    world.gone(old, Exit::Code(0));
    assert_eq!(world.done(restart).message, "worker 0 was restarted");
}

#[test]
fn one_that_dies_before_was_never_published_and_the_old_one_never_touched() {
    let mut world = active(2);
    let old = world.current(0);
    let restart = world.restart(0);
    let new = world.newest(0);
    world.ready(0);
    world.pass(50);
    // As in practice, its listener closes first.
    world.send(Input::Unready {
        instance: new,
        reason: "its listener is gone".into(),
    });
    world.gone(new, Exit::Code(1));
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 1, 50 ms after it was ready"
    );
    assert_eq!(refusal.culprit, Some(new));
    assert!(
        refusal
            .hint
            .starts_with("the old instance (pid 400) goes on, untouched")
    );
    assert!(world.published_sets().is_empty() && !world.is_terminated(old));
    assert_eq!(
        (world.current(0), world.state(0), world.slot(0).restarts),
        (old, WorkerState::Active, 0)
    );
}

#[test]
fn one_that_loses_its_listeners_begins_anew_and_fails_if_they_do_not_come_back() {
    let mut world = active(1);
    let old = world.current(0);
    let restart = world.restart(0);
    let new = world.newest(0);
    let unready = |world: &mut World| {
        world.send(Input::Unready {
            instance: new,
            reason: "its listener is gone".into(),
        });
    };
    world.ready(0);
    world.pass(900);
    unready(&mut world);
    world.pass(900);
    world.ready(0);
    world.pass(900);
    assert!(world.is_published(old), "it is ready since 900 ms");
    unready(&mut world);
    world.pass(30_000);
    assert_eq!(
        world.refused(restart, ErrorKind::Failed).error,
        "the new instance of worker 0 lost its listeners and had none again within 30 s"
    );
    assert!(world.is_published(old) && world.is_killed(new));
}

#[test]
fn when_the_old_one_dies_or_stops_listening_it_takes_the_seat_at_once() {
    for dies in [true, false] {
        let mut world = active(2);
        let old = world.current(0);
        let restart = world.restart(0);
        let new = world.newest(0);
        world.ready(0);
        world.pass(100);
        if dies {
            world.gone(old, Exit::Code(1));
        } else {
            world.unready(0);
            world.gone(old, Exit::Code(0));
        }
        assert!(world.is_published(new), "nobody else serves there");
        assert!(world.waits(restart), "it has not proved itself");
        world.pass(899);
        assert!(world.waits(restart));
        world.pass(1);
        world.done(restart);
    }
}

#[test]
fn nobody_waits_for_it_where_nobody_else_serves() {
    let mut world = World::asleep(Config {
        workers: 2,
        ..settling()
    });
    world.send(Input::Start);
    world.ready(0);
    world.ready(1);
    assert_eq!(world.published_slots(), [0, 1], "a first start");
    world.exit(0, 1);
    world.pass(1_000);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1], "after a crash");
    let scale = world.scale(3);
    world.ready(2);
    assert_eq!(world.published_slots(), [0, 1, 2], "a scale up");
    assert!(world.waits(scale), "but it has not succeeded yet");
    world.pass(SETTLE_MS);
    world.done(scale);
    let old = world.current(0);
    let restart = world.restart_stop_first(0);
    world.gone(old, Exit::Code(0));
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1, 2], "stop-first");
    assert!(world.waits(restart), "but the restart has not succeeded yet");
    world.pass(SETTLE_MS);
    world.done(restart);
}

#[test]
fn stop_first_fails_if_the_new_one_does_not_live_so_long() {
    let mut world = active(2);
    let old = world.current(0);
    let restart = world.restart_stop_first(0);
    world.gone(old, Exit::Code(0));
    world.ready(0);
    world.pass(300);
    world.exit(0, 1);
    assert_eq!(
        world.refused(restart, ErrorKind::Failed).error,
        "the new instance of worker 0 exited with code 1, 300 ms after it was ready; nothing serves in its place"
    );
    assert_eq!(world.state(0), WorkerState::BackingOff);
}

#[test]
fn a_scale_up_is_undone_if_one_dies_before_all_have_settled() {
    let mut world = active(2);
    let scale = world.scale(4);
    world.ready(2);
    world.ready(3);
    world.pass(50);
    let culprit = world.current(3);
    world.cut = Cut { in_flight: 1, open: 0 };
    world.exit(3, 1);
    let refusal = world.refused(scale, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 3 exited with code 1, 50 ms after it was ready; there are 2 workers, as before; \
         1 connection of worker 3 was cut with a request in flight"
    );
    assert_eq!(refusal.culprit, Some(culprit));
    assert_eq!(world.published_slots(), [0, 1]);

    let mut world = active(2);
    let scale = world.scale(4);
    world.ready(2);
    world.pass(3 * SETTLE_MS);
    world.exit(2, 1);
    assert_eq!(
        world.refused(scale, ErrorKind::Failed).error,
        "the new instance of worker 2 exited with code 1, 3 s after it was ready; there are 2 workers, as before",
        "while the other boots"
    );
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn a_canary_that_dies_before_it_has_settled_is_undone() {
    let mut world = active(2);
    let canary = world.canary(1);
    world.ready(2);
    assert_eq!(world.published_slots(), [0, 1, 2], "nobody else serves there");
    world.pass(50);
    world.exit(2, 1);
    assert_eq!(
        world.refused(canary, ErrorKind::Failed).error,
        "the new instance of worker 2 exited with code 1, 50 ms after it was ready; there are 2 workers, as before"
    );
    assert_eq!(world.machine.view().slots.len(), 2);
    let canary = world.canary(1);
    world.ready(2);
    world.pass(SETTLE_MS - 1);
    assert!(world.waits(canary));
    world.pass(1);
    world.done(canary);
}

#[test]
fn an_added_one_may_be_restarted_meanwhile() {
    let mut world = active(1);
    let scale = world.scale(2);
    world.ready(1);
    let first = world.current(1);
    let restart = world.restart(1);
    world.ready(1);
    world.pass(SETTLE_MS);
    world.gone(first, Exit::Code(0));
    world.done(restart);
    world.done(scale);
}

#[test]
fn a_drained_slot_settles_too() {
    let mut world = active(2);
    world.drain(0);
    world.observe_slot(0, 0, 0);
    let old = world.current(0);
    let reload = world.reload();
    world.ready(0);
    world.pass(SETTLE_MS - 1);
    assert_eq!((world.current(0), world.state(0)), (old, WorkerState::Drained));
    world.pass(1);
    assert_eq!(world.state(0), WorkerState::Drained);
    assert!(world.current(0) != old && world.is_terminated(old));
    world.exit_newest(1, 1);
    world.refused(reload, ErrorKind::Failed);
}

#[test]
fn so_does_one_that_replaces_an_unhealthy_one() {
    let mut world = World::active_with(Config {
        workers: 3,
        health: Some(HealthRules { fails: 1, passes: 1 }),
        ..settling()
    });
    let old = world.current(0);
    world.send(Input::Checked {
        instance: old,
        outcome: Err("status 500".into()),
    });
    let new = world.newest(0);
    assert_ne!(new, old);
    world.ready(0);
    world.pass(SETTLE_MS - 1);
    assert_eq!((world.current(0), world.published_slots()), (old, vec![1, 2]));
    world.pass(1);
    assert_eq!((world.current(0), world.published_slots()), (new, vec![0, 1, 2]));
}

/// Waiting would prolong the outage that the restart is to end.
#[test]
fn one_beside_a_hung_one_takes_the_seat_when_it_is_ready() {
    for workers in [2, 4] {
        let all: Vec<u16> = (0..workers).collect();
        let mut world = World::warm(workers, World::asleep(Config { workers, ..settling() }));
        world.serve(1_500, &all);
        assert!(world.machine.view().slots.iter().all(|slot| slot.fault.is_some()));
        let restart = world.restart(0);
        let (old, new) = (world.current(0), world.newest(0));
        world.ready(0);
        assert!(world.is_published(new) && !world.is_published(old));
        world.gone(old, Exit::Code(0));
        assert!(world.waits(restart), "it has not proved itself");
        world.pass(SETTLE_MS);
        world.done(restart);
    }
}

/// Three workers, of which this many percent may be withdrawn; the new instance of worker 0 settles, and the old one hangs.
fn hangs_beside_a_new_one(at_most_percent: u8) -> (World, RequestId, InstanceId) {
    let hung = HungRules {
        at_most_percent,
        ..config().hung
    };
    let mut world = World::warm(
        3,
        World::asleep(Config {
            workers: 3,
            hung,
            ..settling()
        }),
    );
    let restart = world.restart(0);
    let old = world.current(0);
    world.ready(0);
    world.serve(40, &[0]);
    assert!(world.is_published(old));
    world.serve(20, &[0]);
    assert_eq!(world.notes_of(NoteKind::Hung).len(), 1);
    (world, restart, old)
}

#[test]
fn one_that_settles_takes_the_seat_when_the_old_one_hangs_and_cant_be_withdrawn() {
    let (mut world, restart, old) = hangs_beside_a_new_one(0);
    assert_eq!(world.published_slots(), [0, 1, 2]);
    let new = world.newest(0);
    assert!(world.is_published(new));
    world.gone(old, Exit::Code(0));
    world.pass(SETTLE_MS);
    world.done(restart);
}

#[test]
fn beside_one_that_hangs_and_is_withdrawn_it_settles() {
    let (mut world, restart, _) = hangs_beside_a_new_one(50);
    assert_eq!(world.published_slots(), [1, 2], "the others serve");
    world.exit_newest(0, 1);
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert!(refusal.error.contains("exited with code 1"), "{}", refusal.error);
    world.accept(0);
    assert_eq!(world.published_slots(), [0, 1, 2], "the old one goes on");
}

#[test]
fn a_shorter_one_holds_for_whoever_gets_ready_afterwards() {
    let mut world = active(2);
    let old = world.current(0);
    world.restart(0);
    world.restart(1);
    world.ready(0);
    world.rule(Rules {
        settle_ms: 0,
        ..world.rules()
    });
    world.ready(1);
    assert!(world.is_published(old) && world.is_published(world.newest(1)));
    world.pass(SETTLE_MS);
    assert!(!world.is_published(old));
}

#[test]
fn a_stop_ends_one_that_settles() {
    let mut world = active(1);
    let old = world.current(0);
    let restart = world.restart(0);
    let new = world.newest(0);
    world.ready(0);
    world.stop();
    world.refused(restart, ErrorKind::Failed);
    assert!(world.is_terminated(new));
    world.gone(new, Exit::Code(0));
    world.gone(old, Exit::Code(0));
    assert_eq!(world.referee.finished, Some(false));
}
