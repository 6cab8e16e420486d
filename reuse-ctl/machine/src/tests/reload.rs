//! `reload`: one slot after the other.

use reuse_common::Policy;

use super::world::{World, config};
use crate::ids::{InstanceId, SlotId};
use crate::interface::{Command, Config, Effect, Exit, Input, WhenAllFailed};
use crate::states::{ErrorKind, WorkerState};

fn currents(world: &World) -> Vec<InstanceId> {
    world
        .machine
        .view()
        .slots
        .iter()
        .filter_map(|slot| slot.current)
        .collect()
}

fn incoming(world: &World) -> Vec<u16> {
    let slots = world.machine.view().slots;
    let with_incoming = slots
        .iter()
        .filter(|slot| slot.instances.iter().any(|one| one.state == WorkerState::Starting));
    with_incoming.map(|slot| slot.id.0).collect()
}

#[test]
fn slot_by_slot_without_waiting_for_the_old_ones_to_end() {
    let mut world = World::active(3);
    let old = currents(&world);
    let reload = world.reload();
    for slot in 0..3 {
        assert_eq!(incoming(&world), [slot]);
        world.ready(slot);
        assert_eq!(world.published_slots(), [0, 1, 2]);
    }
    assert!(currents(&world).iter().all(|new| !old.contains(new)));
    for instance in old {
        assert!(world.waits(reload));
        world.gone(instance, Exit::Code(0));
    }
    assert_eq!(world.done(reload).message, "reloaded 3 workers");
    assert_eq!(world.done(reload).slots, [SlotId(0), SlotId(1), SlotId(2)]);
}

#[test]
fn it_stops_at_the_first_that_fails_and_says_which_were_done() {
    let mut world = World::active(4);
    let old = currents(&world);
    let reload = world.reload();
    world.ready(0);
    world.gone(old[0], Exit::Code(0));
    let culprit = world.newest(1);
    world.exit_newest(1, 1);
    let refusal = world.refused(reload, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 1 exited with code 1 before it was ready; \
         reloaded 1 of 4: 0; the others run the old version untouched"
    );
    assert_eq!(
        (refusal.slots.as_slice(), refusal.culprit),
        ([SlotId(0)].as_slice(), Some(culprit))
    );
    assert_eq!(currents(&world)[1..], old[1..]);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    let again = world.reload();
    assert!(world.waits(again), "it can be tried again at once");
}

#[test]
fn it_does_not_wait_for_one_that_lingers() {
    let mut world = World::active(2);
    let old = currents(&world);
    let reload = world.reload();
    world.ready(0);
    world.gone(old[0], Exit::Code(0));
    world.ready(1);
    assert!(world.waits(reload));
    world.send(Input::Lingers { instance: old[1] });
    assert_eq!(world.done(reload).message, "reloaded 2 workers");
    assert!(!world.is_terminated(old[1]), "nothing was seen of it yet");
    world.pass(30_000);
    assert!(world.is_terminated(old[1]), "its time is over in any case");
}

#[test]
fn stop_first_that_fails_says_who_does_not_serve_any_more() {
    let mut world = World::active(3);
    let old = currents(&world);
    let reload = world.ask(Command::Reload { stop_first: true });
    world.gone(old[0], Exit::Code(0));
    world.ready(0);
    world.gone(old[1], Exit::Code(0));
    world.exit_newest(1, 1);
    assert_eq!(
        world.refused(reload, ErrorKind::Failed).error,
        "the new instance of worker 1 exited with code 1 before it was ready; nothing serves in its place; \
         reloaded 1 of 3: 0; worker 1 does not serve now; worker 2 runs the old version untouched"
    );
}

#[test]
fn a_reload_of_an_app_whose_workers_have_all_failed_does_not_speak_of_old_ones() {
    let mut world = World::asleep(Config {
        workers: 3,
        when_all_failed: WhenAllFailed::Stay,
        ..config()
    });
    world.send(Input::Start);
    world.ready(0);
    (0..3).for_each(|slot| world.crash_for_good(slot));
    let reload = world.reload();
    world.exit_newest(0, 1);
    assert_eq!(
        world.refused(reload, ErrorKind::Failed).error,
        "the new instance of worker 0 exited with code 1 before it was ready; nothing serves in its place, \
         and nobody else serves; reloaded 0 of 3; workers 0, 1, 2 do not serve now"
    );
    let apply = world.adopt(7);
    world.exit_newest(0, 1);
    let refusal = world.refused(apply, ErrorKind::Failed);
    assert!(
        refusal
            .error
            .ends_with("no worker was changed: workers 0, 1, 2 do not serve now"),
        "{}",
        refusal.error
    );
}

#[test]
fn a_drained_worker_gets_the_new_version_and_stays_withdrawn() {
    let mut world = World::active(2);
    world.drain(0);
    world.observe_slot(0, 0, 0);
    let old = world.current(0);
    world.reload();
    world.ready(0);
    assert_eq!(
        (world.state(0), world.published_slots()),
        (WorkerState::Drained, vec![1])
    );
    assert!(world.is_terminated(old), "nothing was left on it");
    assert_eq!(incoming(&world), [1]);
}

#[test]
fn failed_and_backing_off_workers_are_started() {
    let mut world = World::active(3);
    let old = world.current(2);
    world.crash_for_good(0);
    world.exit(1, 1);
    let reload = world.reload();
    world.ready(0);
    world.ready(1);
    world.ready(2);
    world.gone(old, Exit::Code(0));
    world.done(reload);
    assert_eq!(world.published_slots(), [0, 1, 2]);
}

#[test]
fn stop_first_goes_slot_by_slot_too() {
    let mut world = World::active(2);
    let old = currents(&world);
    let reload = world.ask(Command::Reload { stop_first: true });
    assert_eq!(world.published_slots(), [1]);
    world.gone(old[0], Exit::Code(0));
    assert_eq!(world.published_slots(), [1], "the next one waits for the new one");
    world.ready(0);
    assert_eq!(world.published_slots(), [0]);
    world.gone(old[1], Exit::Code(0));
    world.ready(1);
    world.done(reload);
}

#[test]
fn meanwhile_nothing_else_that_replaces_but_drains_and_policies() {
    let mut world = World::active(4);
    world.reload();
    for request in [world.reload(), world.restart(0), world.restart(3), world.scale(2)] {
        assert_eq!(world.refused(request, ErrorKind::Failed).error, "a reload is under way");
    }
    let busy = world.drain(0);
    world.refused(busy, ErrorKind::Failed);
    let drain = world.drain(3);
    world.observe_slot(3, 0, 0);
    world.done(drain);
    let undrain = world.undrain(3);
    world.done(undrain);
    let policy = world.ask(Command::SetPolicy(Policy::Sticky));
    world.done(policy);
    assert!(world.said.contains(&Effect::SetPolicy(Policy::Sticky)));
    assert_eq!(world.machine.view().policy, Policy::Sticky);
}

#[test]
fn it_waits_for_a_restart() {
    let mut world = World::active(2);
    world.restart(1);
    let reload = world.reload();
    assert_eq!(
        world.refused(reload, ErrorKind::Failed).error,
        "a restart of worker 1 is under way"
    );
}

#[test]
fn a_policy_that_is_set_already_is_no_change() {
    let mut world = World::active(1);
    let same = world.ask(Command::SetPolicy(Policy::LeastLoaded));
    assert_eq!(world.done(same).message, "the policy is least-loaded already");
    assert!(!world.said.iter().any(|effect| matches!(effect, Effect::SetPolicy(_))));
}
