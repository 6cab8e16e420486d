use proptest::prelude::*;

use super::*;
use crate::{
    client::ClientMask,
    limits::MAX_INSTANCES,
    load::{InstanceLoad, LoadTable},
    seats::Seat,
    share::Share,
};

/// A group whose slot `n` is held by instance `n + 1`.
struct Group {
    membership: Membership,
    buckets: Box<Buckets>,
    table: Box<LoadTable>,
}

impl Group {
    fn new(slots: impl IntoIterator<Item = u16>) -> Self {
        Self::with_shares(slots.into_iter().map(|slot| (slot, None)))
    }

    fn with_shares(slots: impl IntoIterator<Item = (u16, Option<Share>)>) -> Self {
        let slots: Vec<(u16, Option<Share>)> = slots.into_iter().collect();
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&slots);
        // SAFETY: a table of integers may be all zeroes.
        let table = unsafe { Box::<LoadTable>::new_zeroed().assume_init() };
        assert_eq!(table.rows().len(), MAX_INSTANCES);
        assert_eq!(table.rows()[1], InstanceLoad::default());
        Self {
            membership: Membership::new(
                slots
                    .iter()
                    .map(|&(slot, share)| Seat::new(slot, slot + 1, 1).with_share(share)),
            ),
            buckets,
            table,
        }
    }

    fn loads(&mut self) -> Loads {
        // SAFETY: the table outlives every view in these tests.
        unsafe { Loads::new(&raw mut *self.table) }
    }

    fn slot(&self, place: u32) -> u16 {
        self.membership.seat(place).slot()
    }

    fn open_by_load(&mut self, random: u32) -> u16 {
        let loads = self.loads();
        let slot = self.slot(by_load(&self.membership, loads, 9, random));
        loads.entered(slot + 1, true);
        slot
    }
}

/// The whole of `sticky`.
fn by_client(group: &Group, loads: Loads, client: &ClientKey, recorded: Option<u16>) -> u32 {
    by_record(&group.membership, recorded)
        .unwrap_or_else(|| for_new_client(&group.membership, &group.buckets, loads, client, 9))
}

fn client(number: u32) -> ClientKey {
    ClientKey::from_v4(number, &ClientMask::new(32, 64))
}

#[test]
fn round_robin_is_exact() {
    let group = Group::new([0, 1, 5, 7]);
    let mut counts = [0; 8];
    for turn in 0..256 {
        counts[group.slot(by_turn(&group.membership, turn)) as usize] += 1;
    }
    assert_eq!(counts, [64, 64, 0, 0, 0, 64, 0, 64]);
}

#[test]
fn least_loaded_fills_evenly() {
    for workers in [1u16, 2, 8, 16] {
        let mut group = Group::new(0..workers);
        let mut counts = vec![0; workers as usize];
        for n in 0..u32::from(workers) * 32 {
            counts[group.open_by_load(n.wrapping_mul(2_654_435_761)) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| count == 32), "{workers} workers: {counts:?}");
    }
}

#[test]
fn two_choices_stay_close_above_the_full_scan() {
    let mut group = Group::new(0..256);
    let mut counts = vec![0u32; 256];
    for n in 0..256 * 40u32 {
        counts[group.open_by_load(n.wrapping_mul(2_654_435_761) ^ 77) as usize] += 1;
    }
    assert!(counts.iter().all(|&count| (34..=46).contains(&count)), "{counts:?}");
}

#[test]
fn ties_are_broken_evenly() {
    for workers in [3u32, 4, 16] {
        let mut group = Group::new(0..workers as u16);
        let loads = group.loads();
        let mut counts = vec![0u32; workers as usize];
        for n in 0..workers * 10_000 {
            counts[by_load(&group.membership, loads, 9, n.wrapping_mul(747_796_405) ^ 0x5bd1) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{counts:?}"
        );
    }
}

#[test]
fn sticky_keeps_moves_and_bounds() {
    let mut group = Group::new(0..4);
    let loads = group.loads();
    let choose = |group: &Group, number, recorded| by_client(group, loads, &client(number), recorded);
    assert_eq!(choose(&group, 1, Some(2)), 2);
    let home = choose(&group, 1, None);
    assert_eq!(
        choose(&group, 1, None),
        home,
        "the same client always starts at the same place"
    );
    assert_eq!(choose(&group, 1, Some(9)), home);

    // Mean 2: up to mean + 8 = 10 connections are fine, the eleventh makes the worker too full for a new client.
    let instance = group.membership.seat(home).instance();
    for _ in 0..10 {
        loads.entered(instance, true);
    }
    assert_eq!(choose(&group, 1, None), home);
    loads.entered(instance, true);
    loads.entered(instance, true);
    let other = choose(&group, 1, None);
    assert_ne!(other, home);
    assert_eq!(
        choose(&group, 1, Some(home as u16)),
        home,
        "a known client stays all the same"
    );
}

#[test]
fn new_clients_spread_evenly() {
    let mut group = Group::new(0..4);
    let loads = group.loads();
    let mut counts = [0u32; 4];
    for number in 0..4000u32 {
        let key = client((0x7f00_0000 + number).to_be());
        counts[by_client(&group, loads, &key, None) as usize] += 1;
    }
    assert!(counts.iter().all(|&count| (880..1120).contains(&count)), "{counts:?}");
}

fn percent(percent: u16) -> Option<Share> {
    Share::from_hundredths_of_a_percent(percent * 100)
}

#[test]
fn shares_are_exact_and_the_rest_is_round_robin() {
    let group = Group::with_shares([(0, None), (1, percent(5)), (2, None), (3, percent(20)), (4, None)]);
    let mut counts = [0u32; 5];
    let mut turn = 0;
    for draw in 0..20_000u32 {
        let place = by_share(&group.membership, draw).unwrap_or_else(|| {
            turn += 1;
            by_turn(&group.membership, turn)
        });
        counts[group.slot(place) as usize] += 1;
    }
    for (slot, expected) in [(0, 5_000), (1, 1_000), (2, 5_000), (3, 4_000), (4, 5_000)] {
        assert!(counts[slot].abs_diff(expected) <= 2, "{counts:?}");
    }
    // Any hundred in a row have their five.
    for start in [0, 777, 12_345, u32::MAX - 50] {
        let draws = (0..100).map(|nth| start.wrapping_add(nth));
        let hits = draws.filter(|&draw| by_share(&group.membership, draw) == Some(3));
        assert!((3..=7).contains(&hits.count()), "from {start} on");
    }
}

#[test]
fn least_loaded_leaves_shares_alone() {
    let mut group = Group::with_shares([(0, percent(10)), (1, None), (2, None)]);
    let loads = group.loads();
    for _ in 0..9 {
        loads.entered(2, true);
        loads.entered(3, true);
    }
    let chosen: Vec<u16> = (0..100)
        .map(|random| group.slot(by_load(&group.membership, loads, 9, random)))
        .collect();
    assert!(
        chosen.iter().all(|&slot| slot != 0),
        "the idle canary gets no more than its share"
    );
}

/// However loaded the others are: the canary's 5 % of new clients are decided by their first bucket.
#[test]
fn sticky_honours_shares_under_load() {
    for crowded in [None, Some(0), Some(3)] {
        let mut group = Group::with_shares([(0, None), (1, None), (2, None), (3, percent(5))]);
        let loads = group.loads();
        if let Some(slot) = crowded {
            for _ in 0..100 {
                loads.entered(slot + 1, true);
            }
        }
        let mut counts = [0u32; 4];
        for number in 0..20_000u32 {
            let key = client((0x7f00_0000 + number).to_be());
            let place = by_client(&group, loads, &key, None);
            counts[group.slot(place) as usize] += 1;
        }
        assert!((900..=1100).contains(&counts[3]), "{crowded:?}: {counts:?}");
        if crowded == Some(0) {
            assert_eq!(counts[0], 0, "{counts:?}");
        }
    }
}

#[test]
fn shares_alone_fill_the_whole() {
    let mut group = Group::with_shares([(4, percent(1)), (9, percent(3))]);
    let loads = group.loads();
    let counts = |place: &dyn Fn(u32) -> u32| {
        let nines = (0..10_000).filter(|&n| group.slot(place(n)) == 9).count();
        (7_350..=7_650).contains(&nines)
    };
    assert!(counts(&|n| by_share(&group.membership, n).expect("all are shared")));
    assert!(counts(&|n| by_hash(&group.membership, &group.buckets, n)));
    assert!(counts(&|n| by_client(&group, loads, &client(n), None)));
}

proptest! {
    #[test]
    fn every_policy_names_a_seat(slots in prop::collection::btree_set(0u16..256, 1..256), stale in prop::collection::vec(0u16..256, 1..8), hash: u32, turn: u32, recorded in prop::option::of(0u16..300), loaded in prop::collection::vec(1u16..257, 0..400)) {
        let mut group = Group::new(slots.iter().copied());
        // The buckets of an earlier membership: what a reader may see between the two writes of a switch.
        group.buckets.assign(&stale.iter().map(|&slot| (slot, None)).collect::<Vec<_>>());
        let loads = group.loads();
        for instance in loaded {
            loads.entered(instance, true);
        }
        let count = group.membership.count();
        prop_assert!(by_hash(&group.membership, &group.buckets, hash) < count);
        prop_assert!(by_turn(&group.membership, turn) < count);
        prop_assert!(by_load(&group.membership, loads, 9, hash) < count);
        let place = by_client(&group, loads, &client(hash), recorded);
        prop_assert!(place < count);
        if let Some(slot) = recorded.filter(|slot| slots.contains(slot)) {
            prop_assert_eq!(group.slot(place), slot);
        }
    }

    #[test]
    fn least_loaded_is_least(loaded in prop::collection::vec(1u16..17, 0..200), random: u32) {
        let mut group = Group::new(0..16);
        let loads = group.loads();
        for instance in loaded {
            loads.entered(instance, true);
        }
        let chosen = group.membership.seat(by_load(&group.membership, loads, 9, random)).instance();
        let least = (1..=16).map(|instance| group.table.rows()[instance].established()).min();
        prop_assert_eq!(Some(group.table.rows()[chosen as usize].established()), least);
    }

    #[test]
    fn smaller_is_min(a in 0..=u64::MAX >> 1, b in 0..=u64::MAX >> 1) {
        prop_assert_eq!(smaller(a, b), a.min(b));
    }

    #[test]
    fn a_listener_number_is_within(hash: u32, listeners in 0u16..=8) {
        prop_assert!(listener(hash, listeners) < listeners.max(1));
    }
}
