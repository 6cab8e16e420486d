//! Starting: an instance becomes ready in time, or fails.

use super::world::{KILLED, World, config, pid_of};
use crate::ids::{InstanceId, Millis, SlotId};
use crate::interface::{Config, Cut, Effect, Exit, Input, NoteKind};
use crate::states::{ErrorKind, WorkerState};

#[test]
fn every_slot_is_spawned_and_published_as_it_gets_ready() {
    let mut world = World::starting(3);
    assert_eq!(world.machine.view().slots.len(), 3);
    assert!(
        world.published_sets().is_empty(),
        "nothing is said before something may be chosen"
    );
    world.ready(1);
    assert_eq!(world.published_slots(), [1]);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1]);
    assert_eq!(world.noted(NoteKind::Active), "worker 0 (pid 400) is active");
    assert_eq!(world.state(2), WorkerState::Starting);
}

#[test]
fn the_view_tells_when_it_started_and_since_when_it_is_active() {
    let mut world = World::starting(1);
    let started = world.now;
    world.pass(700);
    world.ready(0);
    let slot = world.slot(0);
    assert_eq!(
        (slot.started_at, slot.active_at),
        (Some(started), Some(started.plus(700)))
    );
    assert_eq!(
        (slot.pid, slot.restarts, slot.reason),
        (Some(pid_of(InstanceId(0))), 0, None)
    );
}

#[test]
fn an_instance_that_is_not_ready_in_time_is_killed_and_started_again_when_it_is_gone() {
    let mut world = World::starting(2);
    world.ready(1);
    world.pass(29_999);
    assert_eq!(world.state(0), WorkerState::Starting);
    let late = world.current(0);
    world.pass(1);
    assert!(world.is_killed(late));
    assert_eq!(
        world.noted(NoteKind::Warning),
        "worker 0 (pid 400) was not ready within 30 s: it is killed"
    );
    world.pass(60_000);
    assert_eq!(world.current(0), late, "its exit is awaited");
    world.gone(late, KILLED);
    assert_eq!(world.state(0), WorkerState::BackingOff);
    assert_eq!(world.slot(0).reason.as_deref(), Some("was not ready within 30 s"));
    world.pass(600);
    assert_eq!(world.state(0), WorkerState::Starting);
    assert_eq!(world.slot(0).restarts, 1);
}

#[test]
fn what_comes_just_in_time_is_in_time() {
    let mut world = World::starting(1);
    world.now = world.machine.next_deadline().expect("it must get ready some time");
    world.ready(0);
    assert_eq!(world.state(0), WorkerState::Active);
}

#[test]
fn an_instance_that_can_not_be_spawned_backs_off() {
    let mut world = World::asleep(Config { workers: 1, ..config() });
    world.spawns = false;
    world.send(Input::Start);
    world.send(Input::SpawnFailed {
        instance: InstanceId(0),
        reason: "no such file".into(),
    });
    assert_eq!(world.state(0), WorkerState::BackingOff);
    assert_eq!(
        world.slot(0).reason.as_deref(),
        Some("could not be started: no such file")
    );
}

#[test]
fn an_instance_hears_nothing_before_its_process_exists() {
    let mut world = World::asleep(Config { workers: 1, ..config() });
    world.spawns = false;
    world.send(Input::Start);
    world.send(Input::Ready {
        instance: InstanceId(0),
    });
    assert_eq!(world.state(0), WorkerState::Starting, "no process, no listener");
    let stop = world.stop();
    world.pass(100_000);
    assert!(world.waits(stop));
    world.send(Input::Spawned {
        instance: InstanceId(0),
        pid: 7,
    });
    assert!(world.is_terminated(InstanceId(0)));
    world.pass(10_000);
    assert!(world.is_killed(InstanceId(0)));
}

#[test]
fn an_instance_that_loses_its_listeners_is_withdrawn_until_it_has_some_again() {
    let mut world = World::active(2);
    world.unready(0);
    assert_eq!(world.published_slots(), [1]);
    assert_eq!(world.state(0), WorkerState::Starting);
    assert_eq!(
        world.noted(NoteKind::Warning),
        "worker 0 (pid 400) can't be chosen: its listener was closed"
    );
    world.pass(29_999);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn an_instance_that_never_listens_again_counts_as_crashed() {
    let mut world = World::active(2);
    world.unready(0);
    let lost = world.current(0);
    world.pass(30_000);
    assert!(world.is_killed(lost));
    world.gone(lost, KILLED);
    assert_eq!(world.state(0), WorkerState::BackingOff);
    let reason = world.slot(0).reason.expect("it tells why");
    assert_eq!(reason, "lost its listeners and had none again within 30 s");
}

#[test]
fn before_the_start_requests_are_refused_and_a_second_start_changes_nothing() {
    let mut world = World::asleep(config());
    let early = world.restart(0);
    world.refused(early, ErrorKind::Failed);
    world.send(Input::Start);
    world.forget();
    world.send(Input::Start);
    assert!(world.said.is_empty());
}

#[test]
fn news_of_instances_that_are_not_there_changes_nothing() {
    let mut world = World::active(1);
    let (instance, reason) = (InstanceId(99), "?".to_owned());
    for nonsense in [
        Input::Spawned { instance, pid: 1 },
        Input::SpawnFailed {
            instance,
            reason: reason.clone(),
        },
        Input::SpawnFailed {
            instance: InstanceId(0),
            reason: reason.clone(),
        },
        Input::Spawned {
            instance: InstanceId(0),
            pid: 1,
        },
        Input::Ready { instance },
        Input::Ready {
            instance: InstanceId(0),
        },
        Input::Unready { instance, reason },
        Input::Exited {
            instance,
            exit: Exit::Code(0),
            cut: Cut::default(),
        },
        Input::Terminated { instance },
        Input::ServersEnded {
            instance,
            connections: 1,
        },
        Input::Terminated {
            instance: InstanceId(0),
        },
        Input::ServersEnded {
            instance: InstanceId(0),
            connections: 1,
        },
        Input::Observed(vec![(instance, super::world::IDLE)]),
        Input::Tick,
    ] {
        world.send(nonsense);
    }
    assert!(world.said.is_empty(), "{:?}", world.said);
}

#[test]
fn time_never_goes_back() {
    let mut world = World::active(2);
    world.send(Input::Tick);
    world.now = Millis(0);
    let drain = world.drain(0);
    world.now = Millis(1_000_000);
    world.observe_slot(0, 1, 0);
    world.pass(29_999);
    assert!(world.waits(drain), "its time is counted from the latest moment known");
}

#[test]
fn what_may_be_chosen_is_said_before_anything_else() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.forget();
    world.ready(0);
    assert!(matches!(&world.said[0], Effect::Publish(set) if set.len() == 2 && set[0].slot == SlotId(0)));
    assert!(!world.is_published(old));
}
