//! How an instance is ended: when it hears the stop signal, and when its time is over.

use super::world::{IDLE, World};
use crate::supervisor::interface::Load;

#[test]
fn a_server_that_does_not_catch_the_signal_gets_it_when_its_connections_are_gone() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    let deaf = Load {
        catches_stop_signal: false,
        ..IDLE
    };
    world.observe(old, Load { connections: 1, ..deaf });
    assert!(!world.is_terminated(old));
    world.observe(old, deaf);
    assert!(world.is_terminated(old));
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
    let mut world = World::active(2);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    world.observe(
        old,
        Load {
            handshakes: 3,
            connections: 7,
            ..IDLE
        },
    );
    world.pass(999);
    assert!(!world.is_terminated(old));
    world.pass(1);
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
    world.observe(
        old,
        Load {
            connections: 1,
            handshakes: 1,
            ..IDLE
        },
    );
    world.pass(900);
    world.restart(0);
    world.ready(0);
    world.pass(100);
    assert!(world.is_terminated(old));
}
