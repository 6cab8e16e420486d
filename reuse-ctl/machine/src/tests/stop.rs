//! `stop`, Ctrl-C, and the end.

use super::world::{IDLE, KILLED, World};
use crate::interface::{Command, Exit, Input, Load};
use crate::states::{ErrorKind, WorkerState};

#[test]
fn every_worker_is_ended_and_then_it_is_over() {
    let mut world = World::active(2);
    let (one, two) = (world.current(0), world.current(1));
    let stop = world.stop();
    assert!(world.published_slots().is_empty());
    assert!(world.machine.view().stopping);
    world.send(Input::Observed(vec![(one, IDLE), (two, IDLE)]));
    assert!(world.is_terminated(one) && world.is_terminated(two));
    world.gone(one, Exit::Code(0));
    assert_eq!(world.state(0), WorkerState::Exited);
    assert!(world.waits(stop));
    world.gone(two, Exit::Code(0));
    world.done(stop);
    assert_eq!(world.referee.finished, Some(false));
}

#[test]
fn its_timeout_is_the_grace() {
    let mut world = World::active(1);
    let instance = world.current(0);
    world.ask(Command::Stop {
        timeout_ms: Some(2_000),
    });
    world.observe(instance, Load { connections: 1, ..IDLE });
    assert!(world.is_terminated(instance));
    world.pass(1_999);
    assert!(!world.is_killed(instance));
    world.pass(1);
    assert!(world.is_killed(instance));
}

#[test]
fn a_second_stop_joins_and_can_only_hasten() {
    let mut world = World::active(1);
    let instance = world.current(0);
    let first = world.stop();
    let second = world.ask(Command::Stop {
        timeout_ms: Some(1_000_000),
    });
    world.observe(
        instance,
        Load {
            connections: 1,
            queue: 1,
            ..IDLE
        },
    );
    let third = world.ask(Command::Stop { timeout_ms: Some(500) });
    world.pass(500);
    assert!(world.is_terminated(instance));
    world.gone(instance, Exit::Code(0));
    for stop in [first, second, third] {
        world.done(stop);
    }
}

#[test]
fn whoever_waits_is_told_and_whoever_comes_is_refused() {
    let mut world = World::active(3);
    let (drain, restart) = (world.drain(0), world.restart(1));
    world.stop();
    for request in [drain, restart] {
        assert_eq!(
            world.refused(request, ErrorKind::Failed).error,
            "the app was stopped meanwhile"
        );
    }
    let late = world.undrain(0);
    assert_eq!(world.refused(late, ErrorKind::Failed).error, "the app is stopping");
}

#[test]
fn a_reload_is_given_up() {
    let mut world = World::active(2);
    let reload = world.reload();
    let incoming = world.newest(0);
    world.stop();
    assert_eq!(
        world.refused(reload, ErrorKind::Failed).error,
        "the app was stopped meanwhile"
    );
    assert!(world.is_terminated(incoming), "it has no connections");
}

#[test]
fn a_worker_that_backs_off_is_not_started_again() {
    let mut world = World::active(1);
    world.exit(0, 1);
    let stop = world.stop();
    world.done(stop);
    assert_eq!(world.referee.finished, Some(false));
}

#[test]
fn the_first_interrupt_stops_and_the_second_kills() {
    let mut world = World::active(2);
    let (one, two) = (world.current(0), world.current(1));
    world.send(Input::Interrupt);
    world.observe(one, IDLE);
    world.send(Input::Interrupt);
    assert!(world.is_killed(one) && world.is_killed(two));
    world.send(Input::Interrupt);
    world.gone(one, KILLED);
    world.gone(two, KILLED);
    assert_eq!(world.referee.finished, Some(false));
}

#[test]
fn an_interrupt_while_a_person_stops_it_only_joins() {
    let mut world = World::active(1);
    let instance = world.current(0);
    world.stop();
    world.send(Input::Interrupt);
    assert!(!world.is_killed(instance));
    world.send(Input::Interrupt);
    assert!(world.is_killed(instance));
}

#[test]
fn before_the_start_there_is_nothing_to_end() {
    let mut world = World::asleep(super::world::config());
    world.send(Input::Interrupt);
    assert_eq!(world.referee.finished, Some(false));
}

#[test]
fn after_the_end_nothing_is_said() {
    let mut world = World::asleep(super::world::config());
    world.send(Input::Interrupt);
    world.forget();
    world.send(Input::Start);
    world.stop();
    assert!(world.said.is_empty());
}

#[test]
fn a_later_stop_never_gives_more_time() {
    let mut world = World::active(1);
    let instance = world.current(0);
    world.stop();
    world.ask(Command::Stop {
        timeout_ms: Some(1_000_000),
    });
    world.pass(30_000);
    assert!(world.is_terminated(instance), "what is left was never seen");
}

#[test]
fn a_stop_hastens_what_was_ending_already() {
    let mut world = World::active(1);
    let old = world.current(0);
    world.restart(0);
    world.ready(0);
    world.observe(old, Load { connections: 1, ..IDLE });
    world.ask(Command::Stop {
        timeout_ms: Some(1_000),
    });
    world.pass(1_000);
    assert!(world.is_killed(old));
}
