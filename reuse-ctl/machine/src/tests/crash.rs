//! Crashes: backing off, giving up, and what makes a slot healthy again.

use super::world::{IDLE, World, config};
use crate::interface::{Config, Effect, Exit, Input, NoteKind, WhenAllFailed};
use crate::states::{ErrorKind, WorkerState};

/// Milliseconds until the slot starts again.
fn delay(world: &World) -> u64 {
    world
        .machine
        .next_deadline()
        .expect("it starts again some time")
        .since(world.now)
}

#[test]
fn a_worker_that_exits_is_withdrawn_and_started_again() {
    let mut world = World::active(3);
    world.pass(20_000);
    world.exit(2, 1);
    assert_eq!(world.published_slots(), [0, 1]);
    assert_eq!(world.state(2), WorkerState::BackingOff);
    assert_eq!(world.noted(NoteKind::Exited), "worker 2 (pid 402) exited with code 1");
    let expected = format!(
        "worker 2 exited with code 1; starting it again in 0.{} s",
        (delay(&world) + 50) / 100
    );
    assert_eq!(world.noted(NoteKind::BackingOff), expected);
    world.pass(600);
    world.ready(2);
    assert_eq!(world.published_slots(), [0, 1, 2]);
    assert_eq!(world.slot(2).restarts, 1);
}

#[test]
fn an_exit_with_code_0_is_a_crash_too() {
    let mut world = World::active(2);
    world.exit(0, 0);
    assert_eq!(world.state(0), WorkerState::BackingOff);
    assert!(
        world
            .noted(NoteKind::BackingOff)
            .contains("exited with code 0 (a server should not exit)")
    );
}

#[test]
fn the_delay_doubles_and_then_the_slot_has_failed() {
    let mut world = World::starting(2);
    world.ready(1);
    for expected in [400..=600, 800..=1200, 1600..=2400, 3200..=4800] {
        world.exit(0, 1);
        assert!(
            expected.contains(&delay(&world)),
            "{} is not in {expected:?}",
            delay(&world)
        );
        world.pass(5_000);
    }
    world.exit(0, 1);
    assert_eq!(world.state(0), WorkerState::Failed);
    assert_eq!(
        world.slot(0).reason.as_deref(),
        Some("exited with code 1 before it was ready")
    );
    assert!(
        world
            .noted(NoteKind::Failed)
            .ends_with("it is left alone until `reuse-ctl restart 0`")
    );
    world.pass(1_000_000);
    assert_eq!(world.state(0), WorkerState::Failed);
    assert_eq!(world.referee.finished, None, "the other one serves");
}

#[test]
fn an_instance_that_proved_stable_starts_the_count_anew() {
    let mut world = World::active(2);
    for _ in 0..20 {
        world.pass(10_000);
        world.exit(0, 1);
        assert!((400..=600).contains(&delay(&world)));
        world.pass(600);
        world.ready(0);
    }
    for _ in 0..5 {
        world.pass(9_999);
        assert_ne!(world.state(0), WorkerState::Failed);
        world.exit(0, 1);
        if world.state(0) == WorkerState::BackingOff {
            world.pass(delay(&world));
            world.ready(0);
        }
    }
    assert_eq!(
        world.state(0),
        WorkerState::Failed,
        "five in a row, none of them stable"
    );
}

#[test]
fn when_every_worker_has_failed_it_is_over() {
    let mut world = World::starting(2);
    world.crash_for_good(0);
    assert_eq!(world.referee.finished, None);
    world.crash_for_good(1);
    assert_eq!(world.referee.finished, Some(true));
    world.forget();
    world.send(Input::Tick);
    assert!(world.said.is_empty());
}

#[test]
fn it_is_not_over_while_an_old_instance_still_ends() {
    let mut world = World::asleep(Config {
        workers: 1,
        crash_limit: 1,
        ..config()
    });
    world.send(Input::Start);
    world.ready(0);
    let old = world.current(0);
    let restart = world.restart(0);
    world.ready(0);
    world.observe(old, IDLE);
    world.exit(0, 1);
    assert_eq!(world.state(0), WorkerState::Failed);
    world.refused(restart, ErrorKind::Failed);
    assert_eq!(world.referee.finished, None);
    world.gone(old, Exit::Code(0));
    assert_eq!(world.referee.finished, Some(true));
}

#[test]
fn a_crash_while_draining_is_the_end_of_the_drain_and_the_slot_stays_withdrawn() {
    let mut world = World::active(2);
    let drain = world.drain(0);
    world.observe_slot(0, 3, 0);
    world.exit(0, 1);
    assert_eq!(
        world.done(drain).message,
        "worker 0 exited with code 1: nothing is left on it"
    );
    world.pass(600);
    world.ready(0);
    assert_eq!(world.state(0), WorkerState::Drained);
    assert_eq!(world.published_slots(), [1]);
    world.undrain(0);
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn undrain_while_backing_off_publishes_the_next_instance() {
    let mut world = World::active(2);
    world.drain(0);
    world.exit(0, 1);
    let undrain = world.undrain(0);
    assert_eq!(
        world.done(undrain).message,
        "worker 0 will be published when it is ready"
    );
    world.pass(600);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1]);
}

#[test]
fn draining_what_does_not_serve_is_refused_in_clear_words() {
    let mut world = World::active(3);
    world.exit(0, 1);
    world.crash_for_good(1);
    for (slot, words) in [(0, "about to be started again"), (1, "has failed: nothing runs there")] {
        let drain = world.drain(slot);
        assert!(world.refused(drain, ErrorKind::Failed).error.contains(words));
    }
}

#[test]
fn nobody_published_is_worth_a_warning() {
    let mut world = World::active(1);
    world.exit(0, 1);
    assert_eq!(world.noted(NoteKind::Warning), "no worker is published now");
    assert!(world.said.contains(&Effect::Publish(Vec::new())));
}

#[test]
fn an_instance_that_was_stable_and_lost_its_listeners_starts_the_count_anew_too() {
    let mut world = World::active(2);
    for _ in 0..4 {
        world.exit(0, 1);
        world.pass(delay(&world));
        world.ready(0);
    }
    world.pass(10_000);
    world.unready(0);
    world.exit(0, 1);
    assert_eq!(
        world.state(0),
        WorkerState::BackingOff,
        "the first failure, not the fifth"
    );
}

/// Which of the two the controller hears first, that the listener is closed or that the process has ended, is chance.
#[test]
fn the_crash_of_a_stable_instance_does_not_count_whatever_is_heard_first() {
    for closes_first in [false, true] {
        let mut world = World::active(2);
        world.pass(10_000);
        if closes_first {
            world.unready(0);
        }
        world.exit(0, 1);
        for crash in 1..5 {
            assert_eq!(world.state(0), WorkerState::BackingOff, "{crash}, {closes_first}");
            world.pass(delay(&world));
            world.ready(0);
            world.exit(0, 1);
        }
        assert_eq!(
            world.state(0),
            WorkerState::BackingOff,
            "the fourth that counts, {closes_first}"
        );
        world.pass(delay(&world));
        world.exit(0, 1);
        assert_eq!(world.state(0), WorkerState::Failed, "the fifth, {closes_first}");
    }
}

/// Being stable is of no use to an instance that listens again and then crashes.
#[test]
fn the_crash_of_an_instance_that_listens_again_counts() {
    let mut world = World::active(2);
    for _ in 0..3 {
        world.exit(0, 1);
        world.pass(delay(&world));
        world.ready(0);
    }
    world.pass(10_000);
    world.unready(0);
    world.ready(0);
    for _ in 0..4 {
        world.exit(0, 1);
        assert_eq!(world.state(0), WorkerState::BackingOff);
        world.pass(delay(&world));
        world.ready(0);
    }
    world.exit(0, 1);
    assert_eq!(world.state(0), WorkerState::Failed);
}

/// An app that stays although both of its workers have failed for good.
fn all_failed() -> World {
    let mut world = staying(2);
    world.ready(0);
    world.ready(1);
    world.crash_for_good(0);
    world.forget();
    world.crash_for_good(1);
    world
}

fn staying(workers: u16) -> World {
    let mut world = World::asleep(Config {
        workers,
        when_all_failed: WhenAllFailed::Stay,
        ..config()
    });
    world.send(Input::Start);
    world
}

#[test]
fn an_app_that_is_to_stay_does_and_says_so_once() {
    let mut world = all_failed();
    assert_eq!(world.referee.finished, None);
    assert!(world.machine.view().all_failed);
    let said = world.noted(NoteKind::AllFailed);
    assert!(
        said.starts_with("every worker has failed (the last one ") && said.contains("`reuse-ctl reload`"),
        "{said}"
    );
    world.forget();
    world.pass(10_000_000);
    assert!(world.said.is_empty(), "{:?}", world.said);
    let stop = world.stop();
    assert_eq!(world.done(stop).message, "the app has stopped");
    assert_eq!(world.referee.finished, Some(false));
}

#[test]
fn an_app_that_never_served_does_not_stay() {
    let mut world = staying(2);
    world.crash_for_good(0);
    world.crash_for_good(1);
    assert_eq!(world.referee.finished, Some(true));
}

#[test]
fn reload_and_restart_start_an_app_anew_whose_workers_have_all_failed() {
    let mut world = all_failed();
    let reload = world.reload();
    assert!(!world.machine.view().all_failed);
    world.ready(0);
    world.ready(1);
    assert_eq!(world.done(reload).message, "reloaded 2 workers");
    assert_eq!(world.published_slots(), [0, 1]);

    let mut world = all_failed();
    let restart = world.restart(1);
    world.ready(1);
    world.done(restart);
    assert_eq!(world.published_slots(), [1]);
    world.forget();
    world.crash_for_good(1);
    assert!(!world.noted(NoteKind::AllFailed).is_empty(), "it is said each time");
}

#[test]
fn what_makes_no_sense_when_all_have_failed_is_refused_with_a_way_out() {
    let mut world = all_failed();
    for more in [2, 4] {
        let scale = world.scale(more);
        assert!(
            world
                .refused(scale, ErrorKind::Failed)
                .hint
                .contains("`reuse-ctl reload`")
        );
    }
    let drain = world.drain(0);
    assert!(
        world
            .refused(drain, ErrorKind::Failed)
            .hint
            .contains("`reuse-ctl restart 0`"),
        "nothing runs there"
    );
    let fewer = world.scale(1);
    world.done(fewer);
    assert!(world.machine.view().all_failed);
    assert_eq!(world.referee.finished, None);
}
