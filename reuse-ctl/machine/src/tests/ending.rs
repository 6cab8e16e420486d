//! How an instance is stopped: when it gets the stop signal, and when its time is over.

use super::world::{IDLE, TERMINATED, World};
use crate::ids::InstanceId;
use crate::interface::{Audience, Cut, Effect, Exit, Input, Load, NoteKind, Rules};

/// Three connections, `in_flight` of which have a request in flight.
fn busy(in_flight: u32) -> Load {
    Load {
        connections: 3,
        in_flight,
        ..IDLE
    }
}

fn replaced() -> (World, InstanceId) {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    (world, old)
}

#[test]
fn the_signal_waits_until_no_request_is_in_flight() {
    let (mut world, old) = replaced();
    for in_flight in [2, 1, 1] {
        world.observe(old, busy(in_flight));
        world.pass(5_000);
        assert!(!world.is_terminated(old));
    }
    world.observe(old, busy(0));
    assert!(world.is_terminated(old), "idle connections are not waited for");
}

#[test]
fn a_closer_look_may_find_another_request() {
    let (mut world, old) = replaced();
    world.is_idle = false;
    for _ in 0..3 {
        world.forget();
        world.observe(old, busy(0));
        assert_eq!(world.said, [Effect::TerminateIfIdle { instance: old }]);
        assert!(!world.is_terminated(old));
    }
    world.is_idle = true;
    world.observe(old, busy(0));
    assert!(world.is_terminated(old));
}

#[test]
fn a_request_in_flight_is_waited_for_until_the_grace_is_over() {
    let (mut world, old) = replaced();
    world.observe(old, busy(1));
    world.pass(29_999);
    assert!(!world.is_terminated(old));
    world.pass(1);
    assert!(world.is_terminated(old));
}

#[test]
fn one_that_has_closed_its_listeners_finishes_its_requests_as_well() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.unready(0);
    world.restart(0);
    world.ready(0);
    world.observe(old, busy(1));
    assert!(!world.is_terminated(old));
    world.observe(old, busy(0));
    assert!(world.is_terminated(old));
}

fn servers_ended(world: &mut World, instance: InstanceId, connections: u32) {
    world.send(Input::ServersEnded { instance, connections });
}

#[test]
fn other_processes_keep_their_connections_when_the_main_one_has_ended() {
    let (mut world, old) = replaced();
    world.observe(old, busy(0));
    servers_ended(&mut world, old, 2);
    world.pass(20_000);
    assert!(!world.is_killed(old));
    world.observe(old, IDLE);
    assert!(
        world.is_killed(old),
        "nobody is served, and nobody is there to end them"
    );
}

#[test]
fn other_processes_are_told_when_their_time_is_over_and_then_killed() {
    let (mut world, old) = replaced();
    world.observe(old, busy(0));
    servers_ended(&mut world, old, 2);
    world.forget();
    world.pass(30_000);
    let audience = Audience::Everyone;
    assert!(world.said.contains(&Effect::Terminate {
        instance: old,
        audience
    }));
    world.pass(9_999);
    assert!(!world.is_killed(old));
    world.pass(1);
    assert!(world.is_killed(old));
}

#[test]
fn where_nobody_else_gets_the_signal_they_are_killed_when_their_time_is_over() {
    let (mut world, old) = replaced();
    world.rule(Rules {
        rest_gets_signal: false,
        ..world.rules()
    });
    world.observe(old, busy(0));
    servers_ended(&mut world, old, 2);
    world.forget();
    world.pass(29_999);
    assert!(!world.is_killed(old));
    world.pass(1);
    assert!(world.is_killed(old));
    let told = |effect: &Effect| matches!(effect, Effect::Terminate { .. });
    assert!(!world.said.iter().any(told));
}

#[test]
fn what_is_left_without_connections_is_ended_with_the_main_process() {
    let (mut world, old) = replaced();
    world.observe(old, IDLE);
    assert!(world.is_terminated(old));
    servers_ended(&mut world, old, 0);
    assert!(world.is_killed(old));
}

#[test]
fn what_was_cut_is_told_in_the_answer_an_event_and_the_status() {
    let mut world = World::active(2);
    let reload = world.reload();
    for slot in 0..2 {
        let old = world.current(slot);
        world.ready(slot);
        world.cut = Cut {
            in_flight: 2 * u32::from(slot),
            open: 0,
        };
        world.gone(old, TERMINATED);
    }
    let answer = world.replies[&reload].as_ref().expect("done");
    assert_eq!(
        answer.message,
        "reloaded 2 workers; 2 connections of worker 1 were cut with a request in flight"
    );
    assert_eq!(world.notes_of(NoteKind::Cut).len(), 1);
    assert_eq!(world.machine.view().slots[1].cut, world.cut);

    world.cut = Cut::default();
    let restart = world.restart(1);
    let old = world.current(1);
    world.ready(1);
    world.gone(old, Exit::Code(0));
    let answer = world.replies[&restart].as_ref().expect("done");
    assert_eq!(
        answer.message, "worker 1 was restarted",
        "what was before is not told again"
    );
}

#[test]
fn a_queue_that_never_empties_is_waited_for_until_the_grace_is_over() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    world.observe(
        old,
        Load {
            connections: 1,
            queue: 1,
            ..IDLE
        },
    );
    world.pass(29_999);
    assert!(!world.is_terminated(old));
    world.pass(1);
    assert!(world.is_terminated(old));
    world.pass(9_999);
    assert!(!world.is_killed(old), "it still gets the time to exit");
    world.pass(1);
    assert!(world.is_killed(old));
}

#[test]
fn connections_may_take_the_grace_after_the_signal() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    world.observe(old, Load { connections: 1, ..IDLE });
    world.pass(29_999);
    assert!(world.is_terminated(old) && !world.is_killed(old));
    world.pass(1);
    assert!(world.is_killed(old));
}

#[test]
fn without_connections_it_may_take_the_stop_timeout_counted_from_when_the_last_one_was_gone() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    world.observe(old, Load { connections: 1, ..IDLE });
    world.pass(5_000);
    world.observe(old, IDLE);
    world.pass(5_000);
    world.observe(old, IDLE);
    world.pass(4_999);
    assert!(!world.is_killed(old));
    world.pass(1);
    assert!(world.is_killed(old));
}

#[test]
fn handshakes_hold_up_the_signal_for_a_second_at_most() {
    let (mut world, old) = replaced();
    let load = Load {
        handshakes: 3,
        connections: 7,
        ..IDLE
    };
    world.observe(old, load);
    world.pass(999);
    world.observe(old, load);
    assert!(!world.is_terminated(old));
    world.pass(1);
    world.observe(old, load);
    assert!(world.is_terminated(old));
}

#[test]
fn a_server_that_gets_busy_again_may_take_the_grace_again() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    world.observe(old, IDLE);
    world.pass(5_000);
    world.observe(old, Load { connections: 1, ..IDLE });
    world.pass(24_999);
    assert!(!world.is_killed(old));
    world.pass(1);
    assert!(world.is_killed(old), "the grace is counted from the signal");
}

#[test]
fn the_second_for_handshakes_is_counted_from_the_withdrawal() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.drain(0);
    let load = Load {
        connections: 1,
        handshakes: 1,
        ..IDLE
    };
    world.observe(old, load);
    world.pass(900);
    world.restart(0);
    world.ready(0);
    world.pass(100);
    world.observe(old, load);
    assert!(world.is_terminated(old));
}
