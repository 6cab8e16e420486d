//! Rollouts: how many slots are replaced at the same time, and that all of them are watched until the end.

use super::world::{World, config};
use crate::ids::{InstanceId, RequestId, SlotId, VersionId};
use crate::interface::{Command, Config, Cut, Exit, Input, Rules, Surge};
use crate::states::{ErrorKind, WorkerState};

fn active(workers: u16, surge: Surge) -> World {
    World::active_with(Config {
        workers,
        surge,
        settle_ms: 1_000,
        ..config()
    })
}

/// Version 1 has settled in a canary, and goes to the others.
fn promoting(workers: u16, surge: Surge) -> (World, RequestId) {
    let mut world = active(workers, surge);
    world.canary(1);
    world.ready(workers);
    world.pass(1_000);
    let promote = world.ask(Command::Promote);
    (world, promote)
}

impl World {
    /// Slots with an incoming instance.
    pub(super) fn incoming_slots(&self) -> Vec<u16> {
        let slots = self.machine.view().slots;
        let is_incoming = |slot: &&crate::SlotView| {
            let is_new = |id: InstanceId, state| Some(id) != slot.current && state == WorkerState::Starting;
            slot.instances.iter().any(|one| is_new(one.id, one.state))
        };
        slots.iter().filter(is_incoming).map(|slot| slot.id.0).collect()
    }

    /// The new instances become ready, and settle.
    fn replaced(&mut self, slots: &[u16]) {
        slots.iter().for_each(|slot| self.ready(*slot));
        self.pass(1_000);
    }

    /// They get ready, and settle, and the old ones end.
    fn rolled_over(&mut self, slots: &[u16]) {
        self.replaced(slots);
        self.old_ones_go();
    }

    fn slot_versions(&self) -> Vec<u32> {
        self.machine.view().slots.iter().map(|slot| slot.version.0).collect()
    }

    /// The version of the serving instance of each slot.
    fn serving_versions(&self) -> Vec<Option<u32>> {
        let slots = self.machine.view().slots;
        let served = slots.iter().map(|slot| {
            let current = slot.current.filter(|_| slot.state == WorkerState::Active)?;
            Some(self.started_from[&current].0)
        });
        served.collect()
    }
}

#[test]
fn a_surge_is_rounded_up_and_never_nobody() {
    for (surge, slots, at_once) in [
        (Surge::Percent(25), 1, 1),
        (Surge::Percent(25), 4, 1),
        (Surge::Percent(25), 5, 2),
        (Surge::Percent(25), 96, 24),
        (Surge::Percent(1), 256, 3),
        (Surge::Percent(100), 7, 7),
        (Surge::Workers(3), 2, 3),
    ] {
        assert_eq!(surge.of(slots), at_once, "{surge} of {slots}");
    }
}

#[test]
fn so_many_are_replaced_at_the_same_time() {
    let mut world = active(5, Surge::Percent(25));
    let reload = world.reload();
    assert_eq!(world.incoming_slots(), [0, 1]);
    world.ready(1);
    world.pass(999);
    assert_eq!(world.incoming_slots(), [0, 1], "it settles still");
    world.pass(1);
    assert_eq!(world.incoming_slots(), [0, 2], "the next begins when one has settled");
    world.replaced(&[0, 2]);
    assert_eq!(world.incoming_slots(), [3, 4]);
    world.rolled_over(&[3, 4]);
    assert_eq!(world.done(reload).message, "reloaded 5 workers");
}

#[test]
fn a_changed_surge_holds_for_the_next_rollout() {
    let mut world = active(4, Surge::Workers(1));
    world.reload();
    world.rule(Rules {
        surge: Surge::Workers(3),
        ..world.rules()
    });
    assert_eq!(world.incoming_slots(), [0]);
    world.exit_newest(0, 1);
    world.reload();
    assert_eq!(world.incoming_slots(), [0, 1, 2]);
}

#[test]
fn at_a_failure_those_on_their_way_in_are_given_up() {
    let mut world = active(5, Surge::Workers(3));
    let old: Vec<_> = (0..5).map(|slot| world.current(slot)).collect();
    let reload = world.reload();
    world.rolled_over(&[0]);
    world.ready(1);
    let (settling, starting) = (world.newest(1), world.newest(3));
    world.exit_newest(2, 1);
    let refusal = world.refused(reload, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 2 exited with code 1 before it was ready; reloaded 1 of 5: 0; \
         the others run the old version untouched"
    );
    assert!(world.is_terminated(settling) && world.is_terminated(starting));
    let now: Vec<_> = (1..5).map(|slot| world.current(slot)).collect();
    assert_eq!(now, old[1..], "the old ones go on");
    assert_eq!(world.published_slots(), [0, 1, 2, 3, 4]);
    let again = world.reload();
    assert!(world.waits(again), "it can be tried again at once");
}

#[test]
fn stop_first_takes_one_after_the_other() {
    let mut world = active(4, Surge::Workers(4));
    let old = world.current(0);
    world.ask(Command::Reload { stop_first: true });
    assert_eq!(world.published_slots(), [1, 2, 3]);
    world.gone(old, Exit::Code(0));
    world.ready(0);
    world.pass(999);
    assert_eq!(world.published_slots(), [0, 1, 2, 3], "the new one has not settled");
    world.pass(1);
    assert_eq!(world.published_slots(), [0, 2, 3]);
}

#[test]
fn a_crash_of_the_first_while_the_last_starts_stops_a_reload() {
    let mut world = active(4, Surge::Workers(1));
    let reload = world.reload();
    for slot in 0..3 {
        world.replaced(&[slot]);
    }
    world.old_ones_go();
    let untouched = world.current(3);
    let culprit = world.current(0);
    world.exit(0, 1);
    let refusal = world.refused(reload, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 1, 3 s after it was ready; nothing serves in its place; reloaded 2 of 4: 1, 2; \
         worker 0 is started again; the others run the old version untouched"
    );
    assert_eq!(
        (refusal.culprit, refusal.slots.as_slice()),
        (Some(culprit), [SlotId(1), SlotId(2)].as_slice())
    );
    assert_eq!((world.current(3), world.state(0)), (untouched, WorkerState::BackingOff));
    assert_eq!(world.incoming_slots(), [0; 0]);
}

/// "Started again" would make the user stop watching.
#[test]
fn a_reload_that_fails_for_good_does_not_say_that_anything_is_started_again() {
    let mut world = World::active_with(Config {
        workers: 3,
        settle_ms: 1_000,
        crash_limit: 1,
        ..config()
    });
    let reload = world.reload();
    world.rolled_over(&[0]);
    world.exit(0, 1);
    assert_eq!(world.state(0), WorkerState::Failed);
    let refusal = world.refused(reload, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 1, 1 s after it was ready; nothing serves in its place; reloaded 0 of 3; \
         worker 0 is left alone: failed too often; the others run the old version untouched"
    );
    assert!(
        refusal
            .hint
            .starts_with("worker 0 is left alone until `reuse-ctl restart 0`"),
        "{}",
        refusal.hint
    );
}

#[test]
fn one_that_stops_listening_holds_it_up_and_stops_it_if_it_stays_so() {
    let mut world = active(3, Surge::Workers(1));
    let reload = world.reload();
    world.replaced(&[0]);
    world.unready(0);
    world.rolled_over(&[1]);
    assert_eq!(world.incoming_slots(), [0; 0], "nothing further begins");
    world.pass(30_000);
    assert!(world.refused(reload, ErrorKind::Failed).error.starts_with(
        "the new instance of worker 0 lost its listeners and had none again within 30 s; nothing serves in its place; reloaded 1 of 3: 1"
    ));
}

#[test]
fn it_is_watched_until_the_last_old_one_is_gone() {
    let mut world = active(2, Surge::Workers(2));
    let adopt = world.adopt(1);
    world.replaced(&[0, 1]);
    world.gone(InstanceId(1), Exit::Code(0));
    assert!(world.waits(adopt), "the other old one has connections");
    world.exit(1, 1);
    assert!(
        world.waits(adopt),
        "one goes back at once, for the other the old version is started"
    );
    assert_eq!(world.current(0), InstanceId(0));
    world.rolled_over(&[1]);
    assert_eq!(
        world.refused(adopt, ErrorKind::Failed).error,
        "the new instance of worker 1 exited with code 1, 1 s after it was ready; \
         workers 0, 1 had it and were brought back: all run the old version"
    );
    assert_eq!(
        (world.slot_versions(), world.machine.version()),
        (vec![0, 0], VersionId(0))
    );
}

/// Old instances that have not been told to stop go on serving.
#[test]
fn a_reload_goes_back_where_the_old_ones_still_live() {
    let mut world = active(5, Surge::Workers(1));
    let old: Vec<_> = (0..5).map(|slot| world.current(slot)).collect();
    world.drain(3);
    let reload = world.reload();
    for slot in 0..4 {
        world.replaced(&[slot]);
    }
    world.gone(old[1], Exit::Code(0));
    world.observe(old[2], super::world::IDLE);
    assert!(world.is_terminated(old[2]) && !world.is_terminated(old[0]));
    let (new, crashed) = (world.current(2), world.current(0));
    world.exit(0, 1);
    assert_eq!(
        world.refused(reload, ErrorKind::Failed).error,
        "the new instance of worker 0 exited with code 1, 4 s after it was ready; reloaded 3 of 5: 1, 2, 3; \
         worker 0 is served by the old process again; the others run the old version untouched"
    );
    assert!(
        world
            .refused(reload, ErrorKind::Failed)
            .hint
            .starts_with("the old instance (pid 400) serves again;")
    );
    assert_ne!(world.current(0), crashed);
    assert_eq!((world.current(0), world.current(2)), (old[0], new));
    assert_eq!(
        world.state(3),
        WorkerState::Drained,
        "what was drained on it is not known any more"
    );
    assert_eq!(world.published_slots(), [0, 1, 2, 4], "nobody noticed");
    world.observe(old[0], super::world::IDLE);
    assert!(!world.is_terminated(old[0]));
}

#[test]
fn an_old_one_that_listens_no_more_is_not_taken_back() {
    let mut world = active(2, Surge::Workers(1));
    let old = world.current(0);
    let reload = world.reload();
    world.replaced(&[0]);
    world.send(Input::Unready {
        instance: old,
        reason: "its listener is gone".into(),
    });
    world.exit(0, 1);
    world.refused(reload, ErrorKind::Failed);
    assert_eq!(world.state(0), WorkerState::BackingOff);
}

#[test]
fn an_adoption_goes_back_wherever_the_new_version_is() {
    let mut world = active(6, Surge::Workers(2));
    let adopt = world.adopt(1);
    world.rolled_over(&[0, 1]);
    world.ready(2);
    world.pass(500);
    world.exit(0, 1);
    assert_eq!(
        world.slot_versions(),
        [0; 6],
        "2 and 3 are given up, 0 and 1 go back, 4 and 5 were never touched"
    );
    assert_eq!(world.incoming_slots(), [1], "0 has nobody to replace");
    assert_eq!(world.published_slots(), [1, 2, 3, 4, 5]);
    world.ready(0);
    assert_eq!(
        world.published_slots(),
        [0, 1, 2, 3, 4, 5],
        "who has nobody beside it is published at once"
    );
    world.rolled_over(&[1]);
    assert_eq!(
        world.refused(adopt, ErrorKind::Failed).error,
        "the new instance of worker 0 exited with code 1, 1.5 s after it was ready; \
         workers 0, 1 had it and were brought back: all run the old version"
    );
    assert_eq!(world.serving_versions(), [Some(0); 6]);
}

/// That the others serve again does not help clients that were cut off.
#[test]
fn what_was_cut_on_the_way_there_and_back_is_told() {
    let mut world = active(3, Surge::Workers(1));
    let adopt = world.adopt(1);
    world.rolled_over(&[0]);
    world.ready(1);
    world.pass(1_000);
    world.cut = Cut { in_flight: 3, open: 0 };
    world.exit(1, 1);
    world.cut = Cut { in_flight: 0, open: 1 };
    world.rolled_over(&[0]);
    let refusal = world.refused(adopt, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 1 exited with code 1, 1 s after it was ready; \
         workers 0, 1 had it and were brought back: all run the old version; \
         1 connection of worker 0 was cut; 3 connections of worker 1 were cut with a request in flight"
    );
    assert_eq!(refusal.slots, []);
}

#[test]
fn what_a_reload_has_cut_where_it_failed_is_told() {
    let mut world = active(2, Surge::Workers(1));
    let reload = world.reload();
    world.rolled_over(&[0]);
    world.cut = Cut { in_flight: 3, open: 0 };
    world.exit(0, 1);
    let refusal = world.refused(reload, ErrorKind::Failed);
    assert!(
        refusal
            .error
            .ends_with("; 3 connections of worker 0 were cut with a request in flight"),
        "{}",
        refusal.error
    );
}

#[test]
fn the_way_back_is_tried_everywhere_and_told_as_it_went() {
    let mut world = active(4, Surge::Workers(1));
    let adopt = world.adopt(1);
    for slot in 0..3 {
        world.rolled_over(&[slot]);
    }
    world.exit(2, 1);
    world.exit_newest(0, 1);
    assert!(world.waits(adopt), "the others are tried as well");
    world.replaced(&[1]);
    world.ready(2);
    world.pass(100);
    world.exit(2, 1);
    world.old_ones_go();
    let refusal = world.refused(adopt, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 2 exited with code 1, 1 s after it was ready; \
         and it could not be taken back on 1 worker (0); and worker 2 fails with the old version, too: \
         the new instance of worker 0 exited with code 1 before it was ready"
    );
    assert_eq!(refusal.slots, [SlotId(0)]);
    assert_eq!(world.slot_versions(), [1, 0, 0, 0]);
    let abort = world.ask(Command::Abort);
    world.rolled_over(&[0]);
    world.done(abort);
    assert_eq!(world.slot_versions(), [0; 4]);
}

/// The instance may listen again.
#[test]
fn one_that_can_not_be_replaced_keeps_its_version_though_it_does_not_listen() {
    let mut world = active(2, Surge::Workers(1));
    let adopt = world.adopt(1);
    world.rolled_over(&[0]);
    world.exit_newest(1, 1);
    world.unready(0);
    world.exit_newest(0, 1);
    world.refused(adopt, ErrorKind::Failed);
    assert_eq!(world.slot_versions(), [1, 0]);
}

#[test]
fn a_promotion_goes_back_and_the_canary_stays() {
    let (mut world, promote) = promoting(4, Surge::Workers(2));
    world.rolled_over(&[0, 1]);
    world.ready(2);
    world.exit(0, 1);
    world.ready(0);
    world.rolled_over(&[1]);
    let refusal = world.refused(promote, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the new instance of worker 0 exited with code 1, 1 s after it was ready; \
         workers 0, 1 had it and were brought back: all run the old version; the canary stays"
    );
    assert_eq!(
        refusal.hint,
        "`reuse-ctl promote` tries again, `reuse-ctl abort` removes the canary"
    );
    assert_eq!(world.slot_versions(), [0, 0, 0, 0, 1]);
    assert_eq!(world.published_slots(), [0, 1, 2, 3, 4]);
}

/// The canary runs the version that is being rolled out to the others.
#[test]
fn a_promotion_goes_back_if_the_canary_itself_dies() {
    let (mut world, promote) = promoting(4, Surge::Workers(1));
    world.rolled_over(&[0]);
    world.ready(1);
    let (settling, culprit) = (world.newest(1), world.current(4));
    world.exit(4, 1);
    assert!(world.is_terminated(settling));
    assert_eq!(world.slot_versions(), [0, 0, 0, 0, 1]);
    assert!(world.waits(promote), "0 goes back");
    world.rolled_over(&[0]);
    let refusal = world.refused(promote, ErrorKind::Failed);
    assert_eq!(
        refusal.error,
        "the canary, worker 4, exited with code 1, 2 s after it was ready; \
         worker 0 had it and was brought back: all run the old version; the canary is started again"
    );
    assert_eq!(
        refusal.hint,
        "`reuse-ctl logs 4` shows what it wrote, `reuse-ctl abort` removes the canary"
    );
    assert_eq!((refusal.culprit, refusal.slots.len()), (Some(culprit), 0));
    assert_eq!(world.serving_versions()[..4], [Some(0); 4]);
}

#[test]
fn a_canary_that_listens_no_more_fails_the_promotion_in_the_end() {
    let (mut world, promote) = promoting(2, Surge::Workers(1));
    world.unready(2);
    world.replaced(&[0]);
    world.pass(28_999);
    assert!(world.waits(promote));
    world.pass(1);
    let refusal = world.refused(promote, ErrorKind::Failed);
    assert!(
        refusal
            .error
            .starts_with("the canary, worker 2, lost its listeners and had none again within 30 s; worker 0 had it and was brought back"),
        "{}",
        refusal.error
    );
}

#[test]
fn a_slot_that_did_not_serve_counts_as_failed_if_it_dies_before_it_has_settled() {
    let mut world = active(3, Surge::Workers(1));
    world.exit(0, 1);
    let adopt = world.adopt(1);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 1, 2], "nobody else served there");
    assert_eq!(world.incoming_slots(), [0; 0], "the next one waits");
    world.pass(20);
    world.exit(0, 1);
    assert!(world.waits(adopt));
    world.ready(0);
    world.pass(1_000);
    assert_eq!(
        world.refused(adopt, ErrorKind::Failed).error,
        "the new instance of worker 0 exited with code 1, 20 ms after it was ready; \
         worker 0 had it and was brought back: all run the old version"
    );
}
