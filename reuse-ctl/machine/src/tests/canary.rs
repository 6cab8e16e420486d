//! `canary`, `promote`, `abort`.

use super::shares::percent;
use super::world::World;
use crate::ids::{InstanceId, SlotId, VersionId};
use crate::interface::{Command, Cut, Effect, NoteKind};
use crate::states::ErrorKind;

impl World {
    /// The version of each slot's newest instance.
    fn versions(&self) -> Vec<u32> {
        let slots = self.machine.view().slots;
        let newest = slots
            .iter()
            .filter_map(|slot| slot.instances.iter().map(|one| one.id).max());
        newest.map(|id| self.started_from[&id].0).collect()
    }
}

fn with_canary(workers: u16) -> World {
    let mut world = World::active(workers);
    world.canary(1);
    world.ready(workers);
    world.forget();
    world
}

#[test]
fn it_is_one_more_worker_on_its_own_version_with_its_share() {
    let mut world = World::active(2);
    let canary = world.canary(1);
    assert!(world.waits(canary));
    world.ready(2);
    assert_eq!(
        world.done(canary).message,
        "worker 2 is the canary: it gets 5% of new connections"
    );
    assert_eq!(world.done(canary).slots, [SlotId(2)]);
    assert_eq!(world.published_shares(), [None, None, Some(percent(5))]);
    let slot = world.slot(2);
    assert!(slot.canary && slot.version == VersionId(1) && !world.slot(0).canary);
    assert_eq!(world.versions(), [0, 0, 1]);
    world.exit(2, 1);
    world.pass(1_000);
    world.exit(0, 1);
    world.pass(1_000);
    assert_eq!(world.versions(), [0, 0, 1], "after a crash, too");
}

#[test]
fn one_that_does_not_get_ready_is_undone() {
    let mut world = World::active(2);
    let canary = world.canary(1);
    let culprit = world.newest(2);
    world.exit(2, 1);
    let refusal = world.refused(canary, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 2 exited with code 1 before it was ready; there are 2 workers, as before"
    );
    assert_eq!(refusal.culprit, Some(culprit));
    assert_eq!(world.machine.view().slots.len(), 2);
    let again = world.canary(2);
    world.ready(2);
    world.done(again);
    assert_eq!(world.versions(), [0, 0, 2]);
}

#[test]
fn there_is_one_at_a_time_and_no_scale_meanwhile() {
    let mut world = with_canary(2);
    let second = world.canary(2);
    assert_eq!(
        world.refused(second, ErrorKind::Failed).error,
        "worker 2 is a canary already"
    );
    let scale = world.scale(5);
    assert_eq!(
        world.refused(scale, ErrorKind::Failed).error,
        "worker 2 is a canary: promote or abort the canary first"
    );
    let mut world = World::active(2);
    world.scale(3);
    let busy = world.canary(1);
    assert_eq!(world.refused(busy, ErrorKind::Failed).error, "a scale is under way");
    let mut world = World::active(2);
    world.canary(1);
    let scale = world.scale(3);
    assert_eq!(
        world.refused(scale, ErrorKind::Failed).error,
        "the start of a canary is under way"
    );
}

#[test]
fn its_share_must_fit() {
    let mut world = World::active(2);
    for slot in [0, 1] {
        world.ask(Command::Weigh {
            slot: SlotId(slot),
            share: Some(percent(48)),
        });
    }
    let second = world.canary(1);
    assert_eq!(
        world.refused(second, ErrorKind::Usage).error,
        "the weights would add up to 101%"
    );
}

#[test]
fn a_reload_gives_each_its_own_version() {
    let mut world = with_canary(2);
    let reload = world.reload();
    (0..3).for_each(|slot| world.ready(slot));
    world.old_ones_go();
    assert_eq!(world.done(reload).message, "reloaded 3 workers");
    assert_eq!(world.versions(), [0, 0, 1]);
}

#[test]
fn drain_restart_and_weight_work_as_for_others() {
    let mut world = with_canary(2);
    let drain = world.drain(2);
    world.observe_slot(2, 0, 0);
    world.done(drain);
    let restart = world.restart(2);
    world.ready(2);
    world.old_ones_go();
    world.done(restart);
    assert_eq!(world.versions(), [0, 0, 1]);
    let weigh = world.ask(Command::Weigh {
        slot: SlotId(2),
        share: Some(percent(20)),
    });
    world.done(weigh);
    assert_eq!(world.published_shares(), [None, None, Some(percent(20))]);
}

#[test]
fn promote_rolls_its_version_to_all_and_removes_it() {
    let mut world = with_canary(2);
    let promote = world.ask(Command::Promote);
    assert_eq!(world.versions(), [1, 0, 1]);
    world.ready(0);
    assert_eq!(world.versions(), [1, 1, 1]);
    assert_eq!(world.published_slots(), [0, 1, 2]);
    world.ready(1);
    assert_eq!(world.published_slots(), [0, 1, 2], "it may have to go back still");
    world.old_ones_go();
    assert_eq!(world.published_slots(), [0, 1], "the canary has done its work");
    assert!(world.waits(promote));
    world.old_ones_go();
    assert_eq!(
        world.done(promote).message,
        "promoted: all 2 workers run the canary's version"
    );
    assert_eq!(world.done(promote).slots, [SlotId(0), SlotId(1)]);
    assert_eq!(
        world.noted(NoteKind::Weighed),
        "promoted: all 2 workers run the canary's version"
    );
    assert_eq!(world.machine.view().slots.len(), 2);
    let scale = world.scale(3);
    world.ready(2);
    world.done(scale);
    assert_eq!(world.versions(), [1, 1, 1]);
    let next = world.canary(2);
    world.ready(3);
    world.done(next);
    assert_eq!(world.versions(), [1, 1, 1, 2]);
}

#[test]
fn a_promotion_that_fails_is_taken_back_and_can_be_tried_again() {
    let mut world = with_canary(3);
    let promote = world.ask(Command::Promote);
    world.ready(0);
    world.old_ones_go();
    let culprit = world.newest(1);
    world.exit_newest(1, 1);
    assert!(world.waits(promote), "0 goes back");
    world.ready(0);
    world.old_ones_go();
    let refusal = world.refused(promote, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 1 exited with code 1 before it was ready; \
         worker 0 had it and was brought back: all run the old version; the canary stays"
    );
    assert_eq!((refusal.slots.len(), refusal.culprit), (0, Some(culprit)));
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    let versions: Vec<_> = world.machine.view().slots.iter().map(|slot| slot.version.0).collect();
    assert_eq!(versions, [0, 0, 0, 1]);
    world.exit(0, 1);
    world.pass(1_000);
    assert_eq!(world.versions(), [0, 0, 0, 1], "each goes on with what it had");
    world.ready(0);
    let again = world.ask(Command::Promote);
    (0..3).for_each(|slot| world.ready(slot));
    world.old_ones_go();
    world.old_ones_go();
    assert_eq!(world.done(again).slots, [SlotId(0), SlotId(1), SlotId(2)]);
    assert_eq!(world.versions(), [1, 1, 1]);
}

/// A failed promotion whose first slot also fails with the old version when it goes back.
fn half_promoted(workers: u16) -> World {
    let mut world = with_canary(workers);
    let promote = world.ask(Command::Promote);
    world.ready(0);
    world.old_ones_go();
    world.exit_newest(1, 1);
    world.exit_newest(0, 1);
    let refusal = world.refused(promote, ErrorKind::Failed);
    assert!(
        refusal.error.contains("could not be taken back on 1 worker (0)")
            && refusal.error.ends_with("the canary stays"),
        "{}",
        refusal.error
    );
    assert_eq!(
        refusal.hint,
        "`reuse-ctl promote` tries again, `reuse-ctl abort` brings every worker back"
    );
    world
}

#[test]
fn abort_removes_it() {
    let mut world = with_canary(2);
    let abort = world.ask(Command::Abort);
    assert_eq!(world.published_slots(), [0, 1]);
    assert!(world.waits(abort));
    world.old_ones_go();
    assert_eq!(world.done(abort).message, "the canary is gone");
    assert_eq!(world.machine.view().slots.len(), 2);
    let none = world.ask(Command::Abort);
    assert_eq!(world.refused(none, ErrorKind::Failed).error, "there is no canary");
    let none = world.ask(Command::Promote);
    assert_eq!(world.refused(none, ErrorKind::Failed).error, "there is no canary");
}

#[test]
fn what_a_canary_s_end_has_cut_is_told() {
    let cut = Cut { in_flight: 2, open: 0 };
    let told = "; 2 connections of worker 2 were cut with a request in flight";
    let mut world = with_canary(2);
    let abort = world.ask(Command::Abort);
    world.cut = cut;
    world.old_ones_go();
    assert_eq!(world.done(abort).message, format!("the canary is gone{told}"));

    let mut world = with_canary(2);
    let promote = world.ask(Command::Promote);
    (0..2).for_each(|slot| world.ready(slot));
    world.old_ones_go();
    world.cut = cut;
    world.old_ones_go();
    let promoted = format!("promoted: all 2 workers run the canary's version{told}");
    assert_eq!(world.done(promote).message, promoted);
    assert_eq!(world.done(promote).slots, [SlotId(0), SlotId(1)]);
}

#[test]
fn abort_brings_back_what_a_failed_promotion_could_not() {
    let mut world = half_promoted(3);
    world.old_ones_go();
    let abort = world.ask(Command::Abort);
    assert_eq!(world.versions()[..3], [0, 0, 0]);
    world.ready(0);
    world.old_ones_go();
    assert_eq!(
        world.done(abort).message,
        "the canary is gone; 1 worker is brought back"
    );
    assert_eq!(world.published_slots(), [0, 1, 2]);
}

#[test]
fn an_abort_that_fails_can_be_tried_again() {
    let mut world = half_promoted(2);
    let abort = world.ask(Command::Abort);
    world.exit_newest(0, 1);
    let refusal = world.refused(abort, ErrorKind::Failed);
    assert!(
        refusal
            .error
            .ends_with("brought back 0 of 1; the others run the canary's version"),
        "{}",
        refusal.error
    );
    let early = world.scale(3);
    assert_eq!(world.refused(early, ErrorKind::Failed).error, "an abort is under way");
    world.old_ones_go();
    let new = world.canary(2);
    assert_eq!(
        world.refused(new, ErrorKind::Failed).error,
        "some workers run another version than the others"
    );
    let again = world.ask(Command::Abort);
    world.ready(0);
    world.old_ones_go();
    world.done(again);
    assert_eq!(world.versions(), [0, 0]);
}

#[test]
fn a_canary_that_does_not_serve_is_not_promoted() {
    let mut world = with_canary(2);
    world.exit(2, 1);
    let promote = world.ask(Command::Promote);
    assert_eq!(
        world.refused(promote, ErrorKind::Failed).error,
        "the canary, worker 2, does not serve"
    );
}

#[test]
fn meanwhile_nothing_else_replaces() {
    let mut world = with_canary(2);
    let promote = world.ask(Command::Promote);
    for request in [
        world.restart(1),
        world.reload(),
        world.canary(2),
        world.ask(Command::Abort),
    ] {
        assert_eq!(
            world.refused(request, ErrorKind::Failed).error,
            "a promotion is under way"
        );
    }
    world.stop();
    assert_eq!(
        world.refused(promote, ErrorKind::Failed).error,
        "the app was stopped meanwhile"
    );
}

#[test]
fn every_spawn_says_what_to_start() {
    let mut world = World::active(1);
    world.canary(7);
    let spawned = world.said.iter().any(|effect| {
        matches!(
            effect,
            Effect::Spawn {
                slot: SlotId(1),
                instance: InstanceId(1),
                version: VersionId(7)
            }
        )
    });
    assert!(spawned, "{:?}", world.said);
}
