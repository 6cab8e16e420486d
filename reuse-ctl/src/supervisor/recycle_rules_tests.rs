use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn rules(options: RecycleOptions) -> RecycleRules {
    RecycleRules::new(&options, 7)
}

fn memory(limit_mib: u64) -> RecycleRules {
    rules(RecycleOptions {
        max_memory_bytes: Some(limit_mib * MIB),
        ..RecycleOptions::default()
    })
}

fn worker(slot: u16, instance: u32, age_ms: u64, memory_mib: u64) -> Seen {
    Seen {
        slot: SlotId(slot),
        instance: InstanceId(instance),
        age_ms,
        active_ms: age_ms,
        memory_bytes: Some(memory_mib * MIB),
        connections: 0,
    }
}

fn slot_of(decision: &Decision) -> Option<u16> {
    match decision.replacement {
        Some(Replacement::One { slot, .. }) => Some(slot.0),
        _ => None,
    }
}

#[test]
fn each_limit_counts_when_it_is_the_only_one() {
    let none = RecycleOptions::default();
    assert!(!rules(none.clone()).looks_at_workers());
    let limits = [
        RecycleOptions {
            max_memory_bytes: Some(MIB),
            ..none.clone()
        },
        RecycleOptions {
            max_age: Some(Duration::from_secs(1)),
            ..none.clone()
        },
        RecycleOptions {
            max_connections: Some(1),
            ..none
        },
    ];
    let excessive = Seen {
        connections: 9,
        ..worker(0, 0, 60_000, 9)
    };
    for limit in limits {
        let mut rules = rules(limit.clone());
        assert!(rules.looks_at_workers(), "{limit:?}");
        assert_eq!(
            slot_of(&rules.look(Millis(0), &[excessive], true)),
            Some(0),
            "{limit:?}"
        );
    }
}

#[test]
fn the_largest_goes_first_and_one_at_a_time() {
    let mut rules = memory(300);
    let workers = [
        worker(0, 0, 60_000, 310),
        worker(1, 1, 60_000, 312),
        worker(2, 2, 60_000, 299),
    ];
    let decision = rules.look(Millis(0), &workers, true);
    assert_eq!(slot_of(&decision), Some(1));
    let replacement = decision.replacement.expect("one");
    assert_eq!(
        replacement.to_string(),
        "worker 1 uses 312M, more than --max-memory 300M: it is replaced"
    );
    assert_eq!(
        rules.look(Millis(2000), &workers, true).replacement,
        None,
        "one is under way"
    );
    rules.done();
    assert_eq!(slot_of(&rules.look(Millis(4000), &workers[..1], true)), Some(0));
    rules.done();
    assert_eq!(rules.look(Millis(6000), &workers[2..], true).replacement, None);
}

#[test]
fn a_worker_that_is_too_large_from_the_start_is_replaced_ever_more_rarely() {
    let mut rules = memory(100);
    let mut now = 0;
    let mut replaced = Vec::new();
    let mut warnings = 0;
    for instance in 0..8 {
        let mut active_ms = 0;
        loop {
            let decision = rules.look(Millis(now), &[worker(0, instance, active_ms, 150)], true);
            warnings += decision.warnings.len();
            if decision.replacement.is_some() {
                rules.done();
                replaced.push(active_ms);
                break;
            }
            active_ms += 2000;
            now += 2000;
        }
    }
    assert_eq!(
        replaced,
        [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]
    );
    assert_eq!(warnings, 8, "each is told of once");
    // A worker that leaks slowly shows that replacing it helps.
    assert!(
        rules
            .look(Millis(now), &[worker(0, 8, 599_000, 50)], true)
            .replacement
            .is_none()
    );
    assert!(
        rules
            .look(Millis(now), &[worker(0, 8, 700_000, 150)], true)
            .replacement
            .is_some()
    );
    rules.done();
    assert!(
        rules
            .look(Millis(now), &[worker(0, 9, 12_000, 150)], true)
            .replacement
            .is_some()
    );
}

#[test]
fn a_failure_is_followed_by_a_pause_that_grows() {
    let mut rules = memory(100);
    let workers = [worker(0, 0, 60_000, 150)];
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert!(rules.look(Millis(now), &workers, true).replacement.is_some());
        let pause_ms = rules.failed(Millis(now)).expect("it is tried again");
        pauses.push(pause_ms / 1000);
        assert!(
            rules
                .look(Millis(now + pause_ms - 1), &workers, true)
                .replacement
                .is_none()
        );
        now += pause_ms;
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    assert!(rules.look(Millis(now), &workers, true).replacement.is_some());
    rules.done();
    assert!(rules.look(Millis(now), &workers, true).replacement.is_some());
    assert_eq!(
        rules.failed(Millis(now)),
        Some(30_000),
        "a success makes it short again"
    );
}

#[test]
fn a_roll_is_not_begun_again_by_the_next_tick_but_by_the_next_change() {
    let mut rules = rules(RecycleOptions::default());
    rules.on_time();
    assert_eq!(
        rules.look(Millis(0), &[], true).replacement,
        Some(Replacement::All(Occasion::Cron))
    );
    rules.on_time();
    assert!(!rules.is_waiting(), "it is under way");
    rules.on_change("a.js has changed".into());
    assert!(rules.look(Millis(1), &[], true).replacement.is_none());
    rules.done();
    let decision = rules.look(Millis(2), &[], true);
    assert_eq!(
        decision.replacement,
        Some(Replacement::All(Occasion::Changed("a.js has changed".into())))
    );
    // A user's request is in progress, so the newest reason waits.
    rules.on_change("b.js has changed".into());
    rules.not_now();
    let decision = rules.look(Millis(3), &[], true);
    assert_eq!(
        decision.replacement,
        Some(Replacement::All(Occasion::Changed("b.js has changed".into())))
    );
    assert_eq!(rules.failed(Millis(3)), None, "it is not tried again by itself");
    assert!(rules.look(Millis(3_600_000), &[], true).replacement.is_none());
    rules.on_change("c.js has changed".into());
    assert!(
        rules.look(Millis(4), &[], true).replacement.is_some(),
        "somebody has mended it: no pause"
    );
}

#[test]
fn a_tick_waits_for_the_pause_after_a_failure() {
    let mut rules = rules(RecycleOptions::default());
    rules.on_time();
    assert!(rules.look(Millis(0), &[], true).replacement.is_some());
    rules.failed(Millis(0));
    rules.on_time();
    assert!(rules.look(Millis(29_999), &[], true).replacement.is_none());
    assert!(rules.is_waiting());
    assert!(rules.look(Millis(30_000), &[], true).replacement.is_some());
}

#[test]
fn other_limits_forget_nothing_that_is_under_way_waits_or_has_failed() {
    let mut rules = memory(100);
    let workers = [worker(0, 0, 60_000, 250)];
    assert_eq!(slot_of(&rules.look(Millis(0), &workers, true)), Some(0));
    rules.on_time();
    let with_cron = RecycleOptions {
        max_memory_bytes: Some(200 * MIB),
        cron: Some("0 4 * * *".into()),
        ..RecycleOptions::default()
    };
    rules.change(&with_cron);
    assert!(
        rules.look(Millis(1), &workers, true).replacement.is_none(),
        "one is under way"
    );
    assert!(rules.under_way().is_some() && rules.is_waiting());
    assert_eq!(rules.failed(Millis(1)), Some(30_000));
    rules.change(&RecycleOptions {
        max_connections: Some(9),
        ..with_cron.clone()
    });
    assert!(
        rules.look(Millis(30_000), &workers, true).replacement.is_none(),
        "the pause goes on"
    );
    let decision = rules.look(Millis(30_001), &workers, true);
    assert_eq!(
        decision.replacement,
        Some(Replacement::All(Occasion::Cron)),
        "what waited"
    );
    rules.done();
    // The new limit applies, and the other kind is checked too.
    assert!(
        rules
            .look(Millis(30_002), &[worker(0, 1, 60_000, 150)], true)
            .replacement
            .is_none()
    );
    let busy = Seen {
        connections: 20,
        ..worker(0, 1, 60_000, 150)
    };
    assert!(rules.look(Millis(30_003), &[busy], true).replacement.is_some());
}

#[test]
fn an_occasion_that_there_is_none_for_any_more_is_forgotten() {
    let mut rules = rules(RecycleOptions::default());
    rules.on_time();
    rules.change(&RecycleOptions::default());
    assert!(!rules.is_waiting(), "--cron was taken away");
    rules.on_change("a.js has changed".into());
    rules.change(&RecycleOptions::default());
    assert!(!rules.is_waiting(), "--watch was taken away");
}

#[test]
fn another_limit_of_memory_judges_anew_who_is_too_large_from_the_start() {
    let mut rules = memory(100);
    let young = worker(0, 0, 5_000, 250);
    assert_eq!(rules.look(Millis(0), &[young], true).warnings.len(), 1);
    rules.change(&RecycleOptions {
        max_memory_bytes: Some(200 * MIB),
        ..RecycleOptions::default()
    });
    let warned = rules.look(Millis(1), &[young], true).warnings;
    assert!(warned[0].1.contains("--max-memory 200M"), "{warned:?}");
}

#[test]
fn who_is_too_large_does_not_wait_with_a_roll_that_has_to() {
    let mut rules = rules(RecycleOptions {
        max_memory_bytes: Some(100 * MIB),
        max_age: Some(Duration::from_secs(60)),
        ..RecycleOptions::default()
    });
    let (large, old) = (worker(0, 0, 30_000, 150), worker(1, 1, 600_000, 50));
    for occasion in [RecycleRules::on_time, |rules: &mut RecycleRules| {
        rules.on_change("a.js has changed".into())
    }] {
        occasion(&mut rules);
        assert_eq!(
            rules.look(Millis(0), &[old], false).replacement,
            None,
            "it goes with the others"
        );
        assert_eq!(slot_of(&rules.look(Millis(1), &[large, old], false)), Some(0));
        rules.done();
        // As soon as possible, all are replaced.
        assert!(matches!(
            rules.look(Millis(2), &[large, old], true).replacement,
            Some(Replacement::All(_))
        ));
        rules.done();
    }
}

proptest! {
    #[test]
    fn limits_are_scattered_by_a_tenth_and_stay_so(limit in 0..=u64::MAX, instance: u32, seed: u64) {
        let rules = RecycleRules { seed, ..memory(1) };
        let scattered = rules.scattered(limit, InstanceId(instance));
        prop_assert_eq!(scattered, rules.scattered(limit, InstanceId(instance)));
        prop_assert!(u128::from(scattered) >= u128::from(limit) * 9 / 10);
        prop_assert!(u128::from(scattered) <= u128::from(limit) * 11 / 10);
    }

    /// Whatever is measured and whatever the outcome, at most one replacement is in progress, and only workers beyond a limit are replaced.
    #[test]
    fn never_two_and_never_without_a_reason(steps in prop::collection::vec((0_u64..5000, 0_u64..200, 0_u64..40, 0_u8..6), 1..200)) {
        let mut rules = rules(RecycleOptions {
            max_memory_bytes: Some(100 * MIB),
            max_age: Some(Duration::from_secs(60)),
            max_connections: Some(20),
            ..RecycleOptions::default()
        });
        let (mut now, mut under_way, mut born) = (0, false, 0);
        let mut instance = 0;
        for (passes, memory_mib, connections, outcome) in steps {
            now += passes;
            let age_ms = now - born;
            let seen = Seen { connections, ..worker(0, instance, age_ms, memory_mib) };
            let replacement = rules.look(Millis(now), &[seen], true).replacement;
            if let Some(Replacement::One { why, .. }) = &replacement {
                prop_assert!(!under_way);
                match why {
                    TooMuch::Memory { .. } => prop_assert!(memory_mib > 100 && age_ms >= YOUNG_MS),
                    TooMuch::Age { .. } => prop_assert!(age_ms >= 54_000),
                    TooMuch::Connections { .. } => prop_assert!(connections >= 18),
                }
            }
            prop_assert!(!matches!(replacement, Some(Replacement::All(_))));
            under_way |= replacement.is_some();
            if under_way {
                match outcome {
                    0 => { rules.done(); under_way = false; instance += 1; born = now; }
                    1 => { rules.failed(Millis(now)); under_way = false; }
                    2 => { rules.not_now(); under_way = false; }
                    _ => {}
                }
            }
        }
    }
}
