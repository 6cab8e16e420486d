//! Hung workers: declared hung, withdrawn, rescued, probed, replaced, and recovered.

use super::world::{IDLE, KILLED, World, config};
use crate::ids::{InstanceId, SlotId};
use crate::interface::{Backlog, Command, Config, Effect, HungRules, Input, Load, NoteKind};
use crate::states::{ErrorKind, FaultKind, WorkerState};

fn warm(workers: u16, hung: HungRules) -> World {
    let config = Config {
        workers,
        hung,
        ..config()
    };
    World::warm(workers, World::asleep(config))
}

fn usual(workers: u16) -> World {
    warm(workers, config().hung)
}

/// Waits 60 ms: enough to be declared hung, not enough to be rescued.
fn with_hung(workers: u16, hung: &[u16]) -> World {
    let mut world = usual(workers);
    world.serve(60, hung);
    world
}

#[test]
fn it_is_withdrawn_then_rescued_then_probed() {
    let mut world = usual(4);
    let hung = world.current(2);
    world.serve(50, &[2]);
    assert_eq!(
        world.notes_of(NoteKind::Hung),
        ["worker 2 (pid 402) accepted nothing for 50 ms with 4 connections in its queue: it is withdrawn"]
    );
    assert_eq!(world.published_slots(), [0, 1, 3]);
    assert_eq!(world.state(2), WorkerState::Active, "it may come back at any time");
    let fault = world.slot(2).fault.expect("it is shown");
    assert_eq!((fault.kind, fault.withdrawn), (FaultKind::Hung, true));
    assert!(!world.slot(2).published);
    world.pass(19);
    assert_eq!(world.rescues(), []);
    world.pass(1);
    assert_eq!(
        world.rescues(),
        [Effect::Rescue { instance: hung }, Effect::WakeProbe { instance: hung }]
    );
}

#[test]
fn an_accepted_wake_probe_brings_it_back() {
    let mut world = with_hung(4, &[2]);
    let hung = world.current(2);
    world.wait(400);
    assert_eq!(
        world.published_slots(),
        [0, 1, 3],
        "its queue is empty, and that proves nothing"
    );
    world.forget();
    world.accept(2);
    assert_eq!(world.rescues(), [Effect::StopWakeProbe { instance: hung }]);
    assert_eq!(
        world.notes_of(NoteKind::Recovered),
        ["worker 2 (pid 402) accepts again after 410 ms: it is published again"]
    );
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    assert_eq!(world.slot(2).fault, None);
    world.serve(500, &[]);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    world.serve(50, &[2]);
    assert_eq!(world.published_slots(), [0, 1, 3], "and the next time is as quick");
}

#[test]
fn one_that_accepts_before_the_rescue_is_not_rescued() {
    let mut world = with_hung(4, &[2]);
    world.accept(2);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    world.wait(100);
    assert_eq!(world.rescues(), []);
}

#[test]
fn what_comes_late_is_rescued_too_and_the_wake_probe_is_renewed() {
    let mut world = with_hung(4, &[2]);
    world.wait(20);
    let hung = world.current(2);
    world.forget();
    world.traffic.of(hung).queue += 1;
    world.look();
    assert_eq!(world.rescues(), [], "not at once again");
    world.wait(20);
    assert_eq!(
        world.rescues(),
        [
            Effect::StopWakeProbe { instance: hung },
            Effect::Rescue { instance: hung },
            Effect::WakeProbe { instance: hung },
        ]
    );
    world.forget();
    world.wait(500);
    assert_eq!(world.rescues(), [], "the wake-up probe alone is no reason");
}

#[test]
fn a_wake_probe_that_does_not_wait_in_the_queue_is_repeated() {
    let mut world = with_hung(2, &[0]);
    world.wait(20);
    let hung = world.current(0);
    world.forget();
    world.traffic.of(hung).queue = 0;
    world.wait(85);
    assert_eq!(world.rescues(), []);
    world.wait(20);
    assert_eq!(
        world.rescues(),
        [
            Effect::StopWakeProbe { instance: hung },
            Effect::WakeProbe { instance: hung }
        ]
    );
}

#[test]
fn at_most_half_of_them_are_withdrawn() {
    let mut world = usual(4);
    world.serve(60, &[1]);
    world.serve(100, &[1, 3]);
    assert_eq!(world.published_slots(), [0, 2]);
    world.serve(1500, &[1, 2, 3]);
    assert_eq!(world.published_slots(), [0, 2]);
    assert!(
        world
            .noted(NoteKind::Hung)
            .ends_with("with 4 connections in its queue: it stays published, since too many others are faulty"),
        "{}",
        world.noted(NoteKind::Hung)
    );
    let fault = world.slot(2).fault.expect("it is shown");
    assert!(!fault.withdrawn);
    world.forget();
    world.accept(1);
    assert_eq!(world.published_slots(), [0, 1], "the next one takes its place");
    assert_eq!(
        world.noted(NoteKind::Hung),
        "worker 2 (pid 402) is still hung: it is withdrawn now"
    );
}

#[test]
fn all_hung_stay_published_and_that_is_said() {
    let mut world = usual(4);
    world.serve(1_500, &[0, 1, 2, 3]);
    assert_eq!(
        world.notes_of(NoteKind::Warning),
        ["all 4 workers are hung: all stay published"]
    );
    assert_eq!(world.notes_of(NoteKind::Hung).len(), 4);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    assert_eq!(world.rescues(), []);
    for slot in 0..4 {
        let fault = world.slot(slot).fault.expect("it is shown");
        assert!(!fault.withdrawn);
    }
    world.serve(5, &[]);
    assert_eq!(world.notes_of(NoteKind::Recovered).len(), 4);
    assert_eq!(
        world.noted(NoteKind::Recovered),
        "worker 3 (pid 403) accepts again after 505 ms"
    );
}

#[test]
fn the_last_one_that_serves_falling_ill_brings_the_others_back() {
    let mut world = with_hung(2, &[0]);
    assert_eq!(world.published_slots(), [1]);
    world.forget();
    world.exit(1, 1);
    assert_eq!(world.published_slots(), [0], "hung or not, it is all there is");
    assert_eq!(
        world.noted(NoteKind::Warning),
        "the only active worker is hung: it stays published"
    );
    assert_eq!(
        world.noted(NoteKind::Hung),
        "worker 0 (pid 400) is hung and published again, since it is the only one"
    );
}

#[test]
fn an_overload_of_all_is_no_hang() {
    let mut world = usual(4);
    for _ in 0..20 {
        world.serve(300, &[0, 1, 2, 3]);
        world.serve(5, &[]);
    }
    assert_eq!(world.notes().count(), 0, "{:?}", world.said);
}

#[test]
fn none_is_called_if_that_is_not_wanted() {
    let mut world = warm(
        4,
        HungRules {
            hung_after_ms: 0,
            ..config().hung
        },
    );
    world.serve(5_000, &[2]);
    assert_eq!(world.slot(2).fault, None);
    let mut world = warm(
        4,
        HungRules {
            at_most_percent: 0,
            ..config().hung
        },
    );
    world.serve(60, &[2]);
    assert!(
        world
            .noted(NoteKind::Hung)
            .ends_with("it stays published, since none may be withdrawn for a fault")
    );
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
}

#[test]
fn a_drain_a_restart_and_an_end_take_the_fault_away() {
    let end = |world: &mut World, how: fn(&mut World)| {
        let hung = world.current(2);
        world.wait(30);
        world.forget();
        how(world);
        assert_eq!(world.rescues(), [Effect::StopWakeProbe { instance: hung }]);
        world.forget();
        world.wait(200);
        assert_eq!(world.rescues(), []);
    };
    let mut world = with_hung(4, &[2]);
    end(&mut world, |world| {
        world.drain(2);
    });
    assert_eq!((world.state(2), world.slot(2).fault), (WorkerState::Draining, None));
    world.undrain(2);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
    end(&mut with_hung(4, &[2]), |world| {
        world.restart(2);
        world.ready(2);
    });
    end(&mut with_hung(4, &[2]), |world| {
        world.stop();
    });
    end(&mut with_hung(4, &[2]), |world| world.unready(2));
}

#[test]
fn the_last_that_is_published_is_not_drained() {
    let mut world = with_hung(2, &[0]);
    let drain = world.drain(1);
    assert_eq!(
        world.refused(drain, ErrorKind::Failed).error,
        "worker 1 is the last active one: nobody would serve new connections"
    );
    let hung = world.drain(0);
    assert!(world.waits(hung), "the hung one can be: another is published");
}

#[test]
fn a_crash_of_a_hung_one_is_a_crash() {
    let mut world = with_hung(4, &[2]);
    let hung = world.current(2);
    world.wait(30);
    world.gone(hung, KILLED);
    assert_eq!(world.state(2), WorkerState::BackingOff);
    assert_eq!(world.published_slots(), [0, 1, 3]);
}

fn replacing(after_ms: u64) -> (World, InstanceId) {
    let mut world = warm(
        4,
        HungRules {
            replace_after_ms: Some(after_ms),
            ..config().hung
        },
    );
    world.pass(20_000);
    world.serve(50, &[2]);
    let hung = world.current(2);
    (world, hung)
}

#[test]
fn it_is_replaced_start_first_after_a_while() {
    let (mut world, hung) = replacing(1_000);
    world.wait(995);
    assert_eq!(world.newest(2), hung);
    world.wait(5);
    let new = world.newest(2);
    assert_ne!(new, hung);
    assert_eq!(
        world.noted(NoteKind::Hung),
        "worker 2 (pid 402) has been hung for 1 s: it is replaced"
    );
    assert_eq!(world.published_slots(), [0, 1, 3]);
    world.ready(2);
    assert!(world.is_published(new));
    assert_eq!(world.slot(2).fault, None);
    world.observe(
        hung,
        Load {
            in_flight: 0,
            ..Default::default()
        },
    );
    assert!(world.is_terminated(hung));
    assert_eq!(world.state(2), WorkerState::Active);
}

#[test]
fn replacements_that_fail_are_tried_less_and_less_often() {
    let (mut world, hung) = replacing(100);
    let mut begun = Vec::new();
    let mut newest = hung;
    for _ in 0..80_000 / 5 {
        world.wait(5);
        if world.newest(2) != newest && world.newest(2) != hung {
            newest = world.newest(2);
            begun.push(world.now);
            world.exit_newest(2, 1);
        }
    }
    let gaps: Vec<_> = begun.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.len() >= 2, "{gaps:?}");
    for (gap, expected) in gaps.iter().zip([10_000, 20_000, 40_000]) {
        assert!((expected..=expected + 10).contains(gap), "{gaps:?}");
    }
    assert_eq!(world.current(2), hung, "it is still there, to come back");
    world.accept(2);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
}

#[test]
fn what_a_person_asks_for_comes_before_a_replacement() {
    let (mut world, hung) = replacing(100);
    world.wait(100);
    let unasked = world.newest(2);
    let restart = world.restart(2);
    let asked = world.newest(2);
    assert!(asked > unasked && world.is_terminated(unasked));
    world.ready(2);
    world.gone(hung, KILLED);
    assert_eq!(world.done(restart).message, "worker 2 was restarted");

    let (mut world, _) = replacing(100);
    world.wait(100);
    let reload = world.reload();
    (0..4).for_each(|slot| world.ready(slot));
    assert!(world.waits(reload));
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);

    let (mut world, _) = replacing(100);
    world.wait(100);
    let drain = world.ask(Command::Drain {
        slot: SlotId(2),
        timeout_ms: None,
        no_wait: true,
        force: false,
    });
    world.done(drain);
    assert_eq!(world.state(2), WorkerState::Draining);
}

#[test]
fn a_reload_is_not_disturbed_by_replacements() {
    let (mut world, hung) = replacing(100);
    world.reload();
    world.wait(500);
    assert_eq!(world.newest(2), hung, "its turn comes");
    world.ready(0);
    world.ready(1);
    assert_ne!(world.newest(2), hung);
    world.ready(2);
    world.ready(3);
    assert_eq!(world.published_slots(), [0, 1, 2, 3]);
}

#[test]
fn what_a_hung_one_has_queued_is_moved_when_it_is_ended() {
    let (mut world, hung) = replacing(100);
    world.wait(100);
    world.forget();
    world.ready(2);
    let left = Load {
        connections: 3,
        queue: 3,
        ..IDLE
    };
    world.observe(hung, left);
    assert!(world.rescues().contains(&Effect::Rescue { instance: hung }), "at once");
    world.forget();
    world.observe(hung, left);
    assert!(world.rescues().is_empty(), "not at every look");
    world.pass(1000);
    world.observe(hung, left);
    assert!(
        world.rescues().contains(&Effect::Rescue { instance: hung }),
        "after a second again"
    );
}

/// It is published again because all hang by then. Its wake-up probe was lost in the rescue.
#[test]
fn a_lost_wake_up_probe_is_not_sent_again_to_one_that_is_published() {
    let mut world = usual(5);
    world.serve(100, &[0]);
    assert_eq!(world.published_slots(), [1, 2, 3, 4]);
    let hung = world.current(0);
    world.serve(2_000, &[0, 1, 2, 3, 4]);
    assert_eq!(world.published_slots(), [0, 1, 2, 3, 4], "all hang");
    world.forget();
    world.pass(1_000);
    let lost = Backlog {
        queue: 0,
        ..Backlog::default()
    };
    world.send(Input::Watched(vec![(hung, lost)]));
    assert_eq!(world.rescues(), [Effect::StopWakeProbe { instance: hung }]);
}
