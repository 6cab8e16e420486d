//! `restart`: start-first, stop-first, and what goes wrong.

use super::world::{IDLE, KILLED, World, config};
use crate::ids::SlotId;
use crate::interface::{Config, Cut, Exit, HealthRules, Input, Load, WhenAllFailed};
use crate::states::{ErrorKind, WorkerState};

#[test]
fn the_new_one_is_published_in_place_of_the_old_one_which_then_ends() {
    let mut world = World::active(2);
    let old = world.current(0);
    let restart = world.restart(0);
    assert!(world.is_published(old), "the old one serves until the new one is ready");
    world.ready(0);
    let new = world.current(0);
    assert_eq!(
        world.published_sets(),
        [[(SlotId(0), new), (SlotId(1), world.current(1))]],
        "in one go"
    );
    assert!(!world.is_terminated(old), "its queue may not be empty");
    world.observe(
        old,
        Load {
            connections: 2,
            queue: 1,
            ..IDLE
        },
    );
    assert!(!world.is_terminated(old));
    world.observe(old, Load { connections: 2, ..IDLE });
    assert!(world.is_terminated(old), "its server knows of every connection");
    assert!(world.waits(restart));
    world.gone(old, Exit::Code(0));
    assert_eq!(world.done(restart).message, "worker 0 was restarted");
    assert_eq!(world.slot(0).restarts, 1);
}

#[test]
fn a_new_one_that_exits_costs_nothing() {
    let mut world = World::active(1);
    let old = world.current(0);
    let restart = world.restart(0);
    let new = world.newest(0);
    world.exit_newest(0, 3);
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 3 before it was ready"
    );
    assert!(
        refusal
            .hint
            .starts_with("the old instance (pid 400) goes on, untouched")
    );
    assert_eq!(refusal.culprit, Some(new));
    assert!(world.published_sets().is_empty(), "the old one was never touched");
    assert_eq!(
        (world.current(0), world.state(0), world.slot(0).restarts),
        (old, WorkerState::Active, 0)
    );
}

#[test]
fn a_new_one_that_is_not_ready_in_time_is_killed_after_the_answer() {
    let mut world = World::active(1);
    let restart = world.restart(0);
    let new = world.newest(0);
    world.pass(30_000);
    assert_eq!(
        world.refused(restart, ErrorKind::Failed).error,
        "the new instance of worker 0 was not ready within 30 s"
    );
    assert!(world.is_killed(new));
    world.gone(new, KILLED);
    assert_eq!(world.state(0), WorkerState::Active);
    assert!(world.published_sets().is_empty());
}

#[test]
fn if_the_old_one_crashes_meanwhile_the_new_one_is_its_successor() {
    let mut world = World::active(2);
    let restart = world.restart(0);
    let new = world.newest(0);
    world.exit(0, 1);
    assert_eq!((world.current(0), world.state(0)), (new, WorkerState::Starting));
    world.ready(0);
    world.done(restart);
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn if_both_crash_the_slot_backs_off() {
    let mut world = World::active(2);
    let restart = world.restart(0);
    world.exit(0, 1);
    world.exit(0, 1);
    world.refused(restart, ErrorKind::Failed);
    assert_eq!(world.state(0), WorkerState::BackingOff);
}

#[test]
fn a_failed_worker_starts_at_once_and_its_count_anew() {
    let mut world = World::active(2);
    world.crash_for_good(0);
    let restart = world.restart(0);
    assert_eq!(world.state(0), WorkerState::Starting);
    world.exit(0, 1);
    world.refused(restart, ErrorKind::Failed);
    assert_eq!(world.state(0), WorkerState::BackingOff, "one failure, not six");
    let again = world.restart(0);
    world.ready(0);
    world.done(again);
}

#[test]
fn a_worker_that_is_starting_is_replaced_at_once() {
    let mut world = World::starting(1);
    let stuck = world.current(0);
    let restart = world.restart(0);
    assert!(world.is_terminated(stuck));
    world.ready(0);
    assert!(world.waits(restart), "the stuck one is not gone yet");
    world.pass(10_000);
    assert!(world.is_killed(stuck));
    world.gone(stuck, KILLED);
    world.done(restart);
}

#[test]
fn stop_first_ends_the_old_one_before_the_new_one_starts() {
    let mut world = World::active(1);
    let old = world.current(0);
    let restart = world.restart_stop_first(0);
    assert!(
        world.published_slots().is_empty(),
        "new connections wait at the backstop listener"
    );
    assert_eq!(world.slot(0).instances.len(), 1);
    world.observe(old, IDLE);
    world.gone(old, Exit::Code(0));
    assert_eq!(world.state(0), WorkerState::Starting);
    assert!(world.waits(restart));
    world.ready(0);
    world.done(restart);
    assert_eq!(world.published_slots(), [0]);
}

#[test]
fn stop_first_with_a_new_one_that_fails_backs_off() {
    let mut world = World::active(2);
    let old = world.current(0);
    let restart = world.restart_stop_first(0);
    world.gone(old, Exit::Code(0));
    world.exit(0, 1);
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 1 before it was ready; nothing serves in its place"
    );
    assert!(
        refusal.hint.starts_with("worker 0 is started again in ") && refusal.hint.contains("`reuse-ctl logs 0`"),
        "{}",
        refusal.hint
    );
    assert_eq!(world.state(0), WorkerState::BackingOff);
}

#[test]
fn stop_first_tells_what_it_has_cut_though_it_fails() {
    let mut world = World::active(2);
    let old = world.current(0);
    let restart = world.restart_stop_first(0);
    world.cut = Cut { in_flight: 0, open: 5 };
    world.gone(old, Exit::Code(0));
    world.cut = Cut::default();
    world.exit(0, 1);
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert!(
        refusal.error.ends_with("; 5 connections of worker 0 were cut"),
        "{}",
        refusal.error
    );
    assert_eq!(refusal.slots, []);
}

#[test]
fn stop_first_of_the_only_worker_says_that_nobody_serves() {
    let mut world = World::asleep(Config {
        workers: 1,
        crash_limit: 1,
        when_all_failed: WhenAllFailed::Stay,
        ..config()
    });
    world.send(Input::Start);
    world.ready(0);
    let restart = world.restart_stop_first(0);
    let old = world.newest(0);
    world.gone(old, Exit::Code(0));
    world.exit(0, 1);
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert!(
        refusal
            .error
            .ends_with("; nothing serves in its place, and nobody else serves"),
        "{}",
        refusal.error
    );
    assert!(
        refusal
            .hint
            .starts_with("worker 0 is left alone until `reuse-ctl restart 0`"),
        "{}",
        refusal.hint
    );

    let mut world = World::active(1);
    let restart = world.restart_stop_first(0);
    let old = world.newest(0);
    world.gone(old, Exit::Code(0));
    world.pass(30_000);
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert!(
        refusal
            .hint
            .starts_with("worker 0 is started again when that one is gone"),
        "{}",
        refusal.hint
    );
}

#[test]
fn a_drained_worker_is_published_again_by_a_restart() {
    let mut world = World::active(2);
    let drain = world.drain(0);
    world.restart(0);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1]);
    assert_eq!(
        world.refused(drain, ErrorKind::Failed).error,
        "worker 0 was not drained: it is replaced"
    );
}

#[test]
fn one_restart_of_a_worker_at_a_time() {
    let mut world = World::active(3);
    let old = world.current(2);
    world.restart(2);
    let second = world.restart(2);
    assert_eq!(
        world.refused(second, ErrorKind::Failed).error,
        "a restart of worker 2 is under way"
    );
    let (drain, undrain) = (world.drain(2), world.undrain(2));
    world.refused(drain, ErrorKind::Failed);
    world.refused(undrain, ErrorKind::Failed);
    world.ready(2);
    let third = world.restart(2);
    world.refused(third, ErrorKind::Failed);
    let elsewhere = world.restart(1);
    assert!(world.waits(elsewhere));
    world.gone(old, Exit::Code(0));
    let fourth = world.restart(2);
    assert!(world.waits(fourth));
}

#[test]
fn an_old_one_that_finds_its_listeners_again_is_not_taken_for_the_new_one() {
    let mut world = World::active(2);
    let old = world.current(0);
    let restart = world.restart(0);
    world.unready(0);
    world.send(Input::Ready { instance: old });
    assert!(world.is_published(old));
    world.gone(old, Exit::Code(1));
    assert!(world.waits(restart), "the new one is not ready");
    world.ready(0);
    world.done(restart);
}

#[test]
fn an_old_one_that_never_listens_again_makes_way() {
    let mut world = World::active(2);
    let old = world.current(0);
    world.unready(0);
    world.pass(10_000);
    let restart = world.restart(0);
    world.observe(old, IDLE);
    assert!(
        world.is_terminated(old),
        "it does not serve: nothing is lost by ending it now"
    );
    world.ready(0);
    world.gone(old, Exit::Code(0));
    world.done(restart);
}

#[test]
fn stop_first_waits_for_the_old_one_and_for_no_other() {
    let mut world = World::active(1);
    let old = world.current(0);
    world.restart(0);
    let failed = world.newest(0);
    world.pass(30_000);
    world.restart_stop_first(0);
    world.gone(failed, KILLED);
    assert_eq!(world.state(0), WorkerState::Stopping);
    world.gone(old, Exit::Code(0));
    assert_eq!(world.state(0), WorkerState::Starting);
}

#[test]
fn if_the_new_one_crashes_before_the_old_one_is_told_to_stop_the_old_one_serves_on() {
    let mut world = World::active(2);
    let old = world.current(0);
    let restart = world.restart(0);
    world.ready(0);
    world.pass(2_000);
    world.exit(0, 1);
    assert_eq!((world.current(0), world.published_slots()), (old, vec![0, 1]));
    let refusal = world.refused(restart, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 1, 2 s after it was ready"
    );
    assert!(
        refusal.hint.starts_with("the old instance (pid 400) serves again;"),
        "{}",
        refusal.hint
    );
    world.observe(old, IDLE);
    assert!(!world.is_terminated(old));
}

#[test]
fn one_that_is_replaced_itself_for_a_fault_is_waited_for_no_longer() {
    let mut world = World::active_with(Config {
        workers: 3,
        health: Some(HealthRules { fails: 1, passes: 1 }),
        ..config()
    });
    let old = world.current(0);
    let restart = world.restart(0);
    world.ready(0);
    let new = world.current(0);
    world.send(Input::Checked {
        instance: new,
        outcome: Err("status 500".into()),
    });
    world.unready(0);
    world.ready(0);
    world.gone(old, Exit::Code(0));
    assert!(world.waits(restart), "it listens no more");
    world.gone(new, Exit::Code(0));
    world.done(restart);
}
