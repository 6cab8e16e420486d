//! `scale`: up, down, and undone if it fails.

use super::world::{KILLED, World};
use crate::ids::SlotId;
use crate::interface::{Command, Exit, ScaleTarget};
use crate::states::{ErrorKind, WorkerState};

#[test]
fn up_adds_at_the_end_and_is_done_when_all_are_active() {
    let mut world = World::active(2);
    let scale = world.scale(4);
    world.ready(3);
    assert!(world.waits(scale));
    world.ready(2);
    assert_eq!(world.done(scale).message, "scaled from 2 to 4 workers");
    assert_eq!(world.done(scale).slots, [SlotId(2), SlotId(3)]);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
}

#[test]
fn up_is_undone_as_a_whole_when_one_fails() {
    let mut world = World::active(2);
    let scale = world.ask(Command::Scale(ScaleTarget::Up(3)));
    world.ready(2);
    let (served, stuck) = (world.current(2), world.current(4));
    world.exit(3, 1);
    let refusal = world.refused(scale, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 3 exited with code 1 before it was ready; there are 2 workers, as before"
    );
    assert!(world.is_killed(stuck) && !world.is_killed(served));
    assert_eq!(world.published_slots(), [0, 1]);
    let early = world.scale(3);
    assert_eq!(world.refused(early, ErrorKind::Failed).error, "a scale is under way");
    world.gone(stuck, KILLED);
    world.gone(served, Exit::Code(0));
    assert_eq!(world.machine.view().slots.len(), 2);
    let again = world.scale(3);
    assert!(world.waits(again));
}

#[test]
fn down_ends_the_last_ones_and_is_done_when_they_are_gone() {
    let mut world = World::active(4);
    let scale = world.ask(Command::Scale(ScaleTarget::Down(2)));
    assert_eq!(world.published_slots(), [0, 1]);
    assert_eq!(world.state(3), WorkerState::Stopping);
    let (two, three) = (world.newest(2), world.newest(3));
    world.observe(two, super::world::IDLE);
    assert!(world.is_terminated(two) && !world.is_terminated(three));
    world.gone(two, Exit::Code(0));
    assert_eq!(
        world.state(2),
        WorkerState::Exited,
        "a number stays a place until those after it are gone"
    );
    assert!(world.waits(scale));
    world.gone(three, Exit::Code(0));
    assert_eq!(world.done(scale).message, "scaled from 4 to 2 workers");
    assert_eq!(world.machine.view().slots.len(), 2);
}

#[test]
fn the_same_number_is_no_change() {
    let mut world = World::active(2);
    for target in [ScaleTarget::To(2), ScaleTarget::Up(0), ScaleTarget::Down(0)] {
        let scale = world.ask(Command::Scale(target));
        assert_eq!(world.done(scale).message, "there are 2 workers already");
    }
}

#[test]
fn less_than_one_and_more_than_256_make_no_sense() {
    let mut world = World::active(2);
    for target in [
        ScaleTarget::To(0),
        ScaleTarget::Down(2),
        ScaleTarget::Down(u16::MAX),
        ScaleTarget::To(257),
        ScaleTarget::Up(u16::MAX),
    ] {
        let scale = world.ask(Command::Scale(target));
        assert_eq!(
            world.refused(scale, ErrorKind::Usage).error,
            "an app has 1 to 256 workers; this one has 2"
        );
    }
}

#[test]
fn whoever_waits_for_a_removed_worker_is_told() {
    let mut world = World::active(3);
    let (drain, restart) = (world.drain(1), world.restart(2));
    world.scale(1);
    assert_eq!(
        world.refused(drain, ErrorKind::Failed).error,
        "worker 1 was not drained: its slot is removed"
    );
    assert_eq!(
        world.refused(restart, ErrorKind::Failed).error,
        "worker 2 was removed meanwhile"
    );
    let late = world.drain(2);
    assert_eq!(
        world.refused(late, ErrorKind::Failed).error,
        "worker 2 is being removed"
    );
}

#[test]
fn failed_workers_are_removed_at_once() {
    let mut world = World::active(2);
    world.crash_for_good(1);
    let scale = world.scale(1);
    world.done(scale);
    assert_eq!(world.machine.view().slots.len(), 1);
}
