//! `drain` and `undrain`.

use super::world::{IDLE, World};
use crate::ids::{RequestId, SlotId};
use crate::interface::{Command, Effect, Load, NoteKind};
use crate::states::{ErrorKind, WorkerState};

fn drain_with(world: &mut World, timeout_ms: Option<u64>, no_wait: bool, force: bool) -> RequestId {
    world.ask(Command::Drain {
        slot: SlotId(0),
        timeout_ms,
        no_wait,
        force,
    })
}

#[test]
fn it_withdraws_and_is_done_when_nothing_is_left() {
    let mut world = World::active(2);
    let drain = world.drain(0);
    assert_eq!(world.published_slots(), [1]);
    assert_eq!(world.state(0), WorkerState::Draining);
    world.observe_slot(0, 2, 1);
    world.observe_slot(0, 1, 0);
    assert!(world.waits(drain));
    world.observe_slot(0, 0, 0);
    assert_eq!(world.done(drain).slots, [SlotId(0)]);
    assert_eq!(world.state(0), WorkerState::Drained);
    assert_eq!(
        world.noted(NoteKind::Drained),
        "worker 0 (pid 400) is drained: nothing is left on it"
    );
    assert!(!world.is_terminated(world.current(0)), "a drain sends no signal");
}

#[test]
fn what_was_seen_before_the_withdrawal_does_not_count() {
    let mut world = World::active(2);
    world.observe_slot(0, 0, 0);
    let drain = world.drain(0);
    world.pass(5_000);
    assert!(world.waits(drain));
}

#[test]
fn handshakes_are_waited_for_a_second_at_most() {
    let mut world = World::active(2);
    let drain = world.drain(0);
    let instance = world.current(0);
    world.pass(200);
    world.observe(instance, Load { handshakes: 5, ..IDLE });
    world.pass(799);
    assert!(world.waits(drain));
    world.pass(1);
    world.done(drain);
}

#[test]
fn at_the_deadline_it_tells_what_is_left_and_goes_on() {
    let mut world = World::active(3);
    let drain = world.drain(2);
    world.observe_slot(2, 3, 1);
    world.pass(30_000);
    let refusal = world.refused(drain, ErrorKind::Timeout);
    assert_eq!(refusal.error, "worker 2: 3 connections are left (1 not accepted yet)");
    assert_eq!(
        refusal.hint,
        "it stays withdrawn: `reuse-ctl undrain 2` publishes it again, `reuse-ctl restart 2` replaces it"
    );
    assert_eq!(world.published_slots(), [0, 1]);
    world.observe_slot(2, 0, 0);
    assert_eq!(world.state(2), WorkerState::Drained);
}

#[test]
fn a_second_drain_joins_with_a_deadline_of_its_own() {
    let mut world = World::active(2);
    let patient = world.drain(0);
    let hasty = drain_with(&mut world, Some(100), false, false);
    world.observe_slot(0, 1, 0);
    world.pass(100);
    assert_eq!(
        world.refused(hasty, ErrorKind::Timeout).error,
        "worker 0: 1 connection is left"
    );
    world.observe_slot(0, 0, 0);
    world.done(patient);
    let late = world.drain(0);
    assert_eq!(world.done(late).message, "worker 0 was already drained");
    assert!(world.done(late).slots.is_empty(), "nothing was changed");
}

#[test]
fn no_wait_is_answered_as_soon_as_it_is_withdrawn() {
    let mut world = World::active(2);
    let drain = drain_with(&mut world, None, true, false);
    world.done(drain);
    assert_eq!(world.published_slots(), [1]);
    let again = drain_with(&mut world, None, true, false);
    world.done(again);
}

#[test]
fn the_last_active_worker_needs_force() {
    let mut world = World::active(2);
    world.drain(1);
    let drain = world.drain(0);
    let refusal = world.refused(drain, ErrorKind::Failed);
    assert!(
        refusal.hint.contains("--force") && refusal.hint.contains("scale +1"),
        "{refusal:?}"
    );
    assert_eq!(world.published_slots(), [0]);
    let forced = drain_with(&mut world, None, false, true);
    assert!(world.published_slots().is_empty());
    world.observe_slot(0, 0, 0);
    world.done(forced);
}

#[test]
fn undrain_publishes_again_and_those_who_drained_are_told() {
    let mut world = World::active(2);
    let drain = world.drain(0);
    let undrain = world.undrain(0);
    assert_eq!(world.done(undrain).slots, [SlotId(0)]);
    assert_eq!(
        world.refused(drain, ErrorKind::Failed).error,
        "worker 0 was undrained meanwhile"
    );
    assert_eq!(world.published_slots(), [0, 1]);
    let again = world.undrain(0);
    assert_eq!(world.done(again).message, "worker 0 is active already");
}

#[test]
fn a_withdrawn_worker_without_listeners_is_published_when_it_listens_again() {
    let mut world = World::active(2);
    let drain = world.drain(0);
    world.unready(0);
    world.observe_slot(0, 1, 0);
    assert_eq!(
        world.state(0),
        WorkerState::Draining,
        "its connections are left in peace"
    );
    world.undrain(0);
    world.refused(drain, ErrorKind::Failed);
    assert_eq!(
        (world.state(0), world.published_slots()),
        (WorkerState::Starting, vec![1])
    );
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn an_unknown_worker_is_not_found() {
    let mut world = World::active(4);
    for request in [world.drain(9), world.undrain(4), world.restart(65_535)] {
        let refusal = world.refused(request, ErrorKind::NotFound);
        assert!(refusal.error.ends_with("this app has workers 0…3"), "{refusal:?}");
    }
}

#[test]
fn a_worker_that_is_still_starting_can_not_be_drained() {
    let mut world = World::starting(2);
    let drain = world.drain(0);
    assert_eq!(
        world.refused(drain, ErrorKind::Failed).error,
        "worker 0 is still starting"
    );
}

#[test]
fn what_is_not_accepted_within_a_second_goes_to_others() {
    let mut world = World::active(2);
    let instance = world.current(1);
    world.drain(1);
    let queued = Load {
        connections: 2,
        queue: 2,
        ..IDLE
    };
    world.observe(instance, queued);
    let taken = |world: &World| world.said.contains(&Effect::Rescue { instance });
    assert!(!taken(&world), "it may still accept");
    world.pass(1000);
    world.observe(instance, queued);
    assert!(taken(&world));
}
