//! Health checks: what makes a worker unhealthy, and what happens then.

use super::world::{World, config};
use crate::interface::{Config, Effect, HealthRules, Input, NoteKind};
use crate::states::FaultKind;

fn with_checks(workers: u16) -> World {
    let config = Config {
        workers,
        health: Some(HealthRules { fails: 3, passes: 2 }),
        ..config()
    };
    let mut world = World::warm(workers, World::asleep(config));
    world.pass(20_000);
    world.forget();
    world
}

impl World {
    fn fails_check(&mut self, slot: u16) {
        let instance = self.current(slot);
        let outcome = Err("status 503".to_owned());
        self.send(Input::Checked { instance, outcome });
    }

    fn passes_check(&mut self, slot: u16) {
        let instance = self.current(slot);
        self.send(Input::Checked {
            instance,
            outcome: Ok(()),
        });
    }
}

fn unhealthy(workers: u16, slot: u16) -> World {
    let mut world = with_checks(workers);
    (0..3).for_each(|_| world.fails_check(slot));
    world
}

#[test]
fn so_many_failures_in_a_row_withdraw_and_replace_it() {
    let mut world = with_checks(4);
    let old = world.current(1);
    for fails in [true, true, false, true, true] {
        if fails {
            world.fails_check(1);
        } else {
            world.passes_check(1);
        }
    }
    assert_eq!(world.slot(1).fault, None, "not in a row");
    world.fails_check(1);
    assert_eq!(
        world.notes_of(NoteKind::Unhealthy),
        [
            "worker 1 (pid 401) failed 3 health checks in a row: status 503: it is withdrawn",
            "worker 1 (pid 401) has been unhealthy for 0 ms: it is replaced"
        ]
    );
    assert_eq!(world.published_slots(), [0, 2, 3]);
    let fault = world.slot(1).fault.expect("it is shown");
    assert_eq!((fault.kind, fault.withdrawn), (FaultKind::Unhealthy, true));
    assert_ne!(world.newest(1), old, "its replacement starts at once");
    world.ready(1);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    assert_eq!(world.slot(1).fault, None);
}

#[test]
fn so_many_successes_in_a_row_bring_it_back() {
    let mut world = unhealthy(4, 1);
    world.passes_check(1);
    world.fails_check(1);
    world.passes_check(1);
    assert_eq!(world.published_slots(), [0, 2, 3]);
    world.pass(4_000);
    world.passes_check(1);
    assert_eq!(
        world.noted(NoteKind::Recovered),
        "worker 1 (pid 401) passes its health checks again after 4 s: it is published again"
    );
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
}

#[test]
fn its_queue_is_rescued_and_it_is_not_probed() {
    let mut world = with_checks(4);
    let instance = world.current(1);
    world.traffic.of(instance).queue = 2;
    world.look();
    (0..3).for_each(|_| world.fails_check(1));
    world.wait(20);
    assert_eq!(world.rescues(), [Effect::Rescue { instance }]);
    world.wait(200);
    assert_eq!(world.rescues().len(), 1, "nothing is there any more");
}

#[test]
fn a_hung_one_that_is_unhealthy_too_is_back_when_both_are_over() {
    let mut world = with_checks(4);
    world.serve(50, &[1]);
    world.wait(30);
    (0..3).for_each(|_| world.fails_check(1));
    assert!(
        world
            .notes_of(NoteKind::Unhealthy)
            .contains(&"worker 1 (pid 401) failed 3 health checks in a row: status 503: it stays withdrawn")
    );
    assert_eq!(world.slot(1).fault.map(|fault| fault.kind), Some(FaultKind::Hung));
    world.accept(1);
    assert_eq!(world.slot(1).fault.map(|fault| fault.kind), Some(FaultKind::Unhealthy));
    assert_eq!(world.published_slots(), [0, 2, 3]);
    world.passes_check(1);
    world.passes_check(1);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    assert_eq!(world.notes_of(NoteKind::Recovered).len(), 1);
}

#[test]
fn the_only_one_stays_published_and_is_replaced() {
    let mut world = unhealthy(1, 0);
    assert_eq!(world.published_slots(), [0]);
    assert_eq!(
        world.notes_of(NoteKind::Warning),
        ["the only active worker is unhealthy: it stays published"]
    );
    let new = world.newest(0);
    world.ready(0);
    assert!(world.is_published(new));
}

#[test]
fn all_unhealthy_are_not_all_replaced_at_once() {
    let mut world = with_checks(4);
    for slot in 0..4 {
        (0..3).for_each(|_| world.fails_check(slot));
    }
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    assert_eq!(
        world.notes_of(NoteKind::Warning),
        ["all 4 workers are unhealthy: all stay published"]
    );
    let replaced = |world: &World| {
        let slots = world.machine.view().slots;
        slots.iter().filter(|slot| slot.instances.len() > 1).count()
    };
    assert_eq!(replaced(&world), 2);
    world.ready(0);
    assert_eq!(world.published_slots(), [0, 3], "now they are not all unhealthy");
    assert_eq!(replaced(&world), 3);
}

#[test]
fn a_replacement_that_is_unhealthy_too_waits_for_its_own() {
    let mut world = unhealthy(4, 1);
    world.ready(1);
    let second = world.current(1);
    (0..3).for_each(|_| world.fails_check(1));
    assert_eq!(world.newest(1), second, "not at once again");
    world.pass(9_900);
    assert_eq!(world.newest(1), second, "not before it would have proved itself");
    world.pass(200);
    assert_ne!(world.newest(1), second);
    world.ready(1);
    world.pass(12_000);
    let third = world.current(1);
    (0..3).for_each(|_| world.fails_check(1));
    assert_ne!(world.newest(1), third, "it had been well for long");
}

#[test]
fn checks_mean_nothing_without_rules_or_of_one_that_is_not_active() {
    let mut world = World::active(2);
    (0..9).for_each(|_| world.fails_check(1));
    assert_eq!(world.slot(1).fault, None);
    let mut world = with_checks(2);
    world.drain(1);
    (0..9).for_each(|_| world.fails_check(1));
    world.undrain(1);
    assert_eq!(world.slot(1).fault, None);
    assert_eq!(world.published_slots(), [0, 1]);
}
