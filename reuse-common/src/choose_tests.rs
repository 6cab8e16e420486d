use proptest::prelude::*;

use super::*;
use crate::{
    client::ClientMask,
    ids::Row,
    limits::MAX_ROWS,
    load::{InstanceLoad, LoadTable},
    rendezvous::Buckets,
    seats::Seat,
    share::Share,
};

const NOW: Moment = Moment::new(9, 100);

/// A group in which slot `n` has row `n + 1`.
struct Group {
    membership: Membership,
    places: Box<Places>,
    table: Box<LoadTable>,
}

impl Group {
    fn new(slots: impl IntoIterator<Item = u16>) -> Self {
        Self::with_shares(slots.into_iter().map(|slot| (slot, None)))
    }

    fn with_shares(slots: impl IntoIterator<Item = (u16, Option<Share>)>) -> Self {
        let slots: Vec<(SlotId, Option<Share>)> =
            slots.into_iter().map(|(slot, share)| (SlotId(slot), share)).collect();
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&slots);
        // SAFETY: a table of integers may be all zeroes.
        let table = unsafe { Box::<LoadTable>::new_zeroed().assume_init() };
        assert_eq!(table.rows().len(), MAX_ROWS);
        assert_eq!(table.rows()[1], InstanceLoad::default());
        let seats = slots
            .iter()
            .map(|&(slot, share)| Seat::new(slot, row_of(slot.0), 1).with_share(share));
        let membership = Membership::new(seats);
        Self {
            places: Box::new(Places::new(&membership, &buckets)),
            membership,
            table,
        }
    }

    fn loads(&mut self) -> Loads {
        // SAFETY: the table outlives every view in these tests.
        unsafe { Loads::new(&raw mut *self.table) }
    }

    fn slot(&self, place: Place) -> u16 {
        self.membership.seat(place).slot().0
    }

    fn open_by_load(&mut self, random: u32) -> u16 {
        let loads = self.loads();
        let slot = self.slot(by_load(&self.membership, loads, NOW, random));
        loads.entered(row_of(slot), true);
        slot
    }
}

const fn row_of(slot: u16) -> Row {
    Row(slot + 1)
}

/// All steps of `sticky` together.
fn by_client(group: &Group, loads: Loads, client: &ClientKey, recorded: Option<u16>) -> Place {
    by_record(&group.membership, recorded.map(SlotId))
        .unwrap_or_else(|| for_new_client(&group.membership, &group.places, loads, client, NOW))
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
fn sixteen_neighbours_stay_close_above_the_full_scan() {
    for workers in [17u16, 100, 256] {
        let mut group = Group::new(0..workers);
        let mut counts = vec![0u32; workers as usize];
        for n in 0..u32::from(workers) * 40 {
            counts[group.open_by_load(n.wrapping_mul(2_654_435_761) ^ 77) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (38..=41).contains(&count)),
            "{workers} workers: {counts:?}"
        );
    }
}

#[test]
fn ties_are_broken_evenly() {
    for workers in [3u32, 4, 16, 17, 40] {
        let mut group = Group::new(0..workers as u16);
        let loads = group.loads();
        let mut counts = vec![0u32; workers as usize];
        for n in 0..workers * 10_000 {
            counts[by_load(&group.membership, loads, NOW, n.wrapping_mul(747_796_405) ^ 0x5bd1).index()] += 1;
        }
        assert!(
            counts.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{counts:?}"
        );
    }
}

/// One idle worker among busy ones is found from each of the sixteen places whose scan includes it, some of them at the other end of the
/// table.
#[test]
fn above_the_full_scan_neighbours_are_looked_at_around_the_end() {
    for idle in [0u16, 7, 39] {
        let mut group = Group::new(0..40);
        let loads = group.loads();
        for slot in (0..40).filter(|&slot| slot != idle) {
            loads.entered(row_of(slot), true);
        }
        let found = (0..40_000u32)
            .filter(|n| group.slot(by_load(&group.membership, loads, NOW, n.wrapping_mul(2_654_435_761))) == idle)
            .count();
        assert!((15_500..16_500).contains(&found), "{idle}: {found} of 16,000");
    }
}

#[test]
fn sticky_keeps_moves_and_bounds() {
    let mut group = Group::new(0..4);
    let loads = group.loads();
    let choose = |group: &Group, number, recorded| by_client(group, loads, &client(number), recorded);
    assert_eq!(choose(&group, 1, Some(2)), Place(2));
    let home = choose(&group, 1, None);
    assert_eq!(
        choose(&group, 1, None),
        home,
        "the same client always starts at the same place"
    );
    assert_eq!(choose(&group, 1, Some(9)), home);

    // Mean 2: up to mean + 8 = 10 connections are fine, the eleventh makes the worker too full for a new client.
    let row = group.membership.seat(home).row();
    for _ in 0..10 {
        loads.entered(row, true);
    }
    assert_eq!(choose(&group, 1, None), home);
    loads.entered(row, true);
    loads.entered(row, true);
    let other = choose(&group, 1, None);
    assert_ne!(other, home);
    assert_eq!(
        choose(&group, 1, Some(home.0 as u16)),
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
        counts[by_client(&group, loads, &key, None).index()] += 1;
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
    // Any hundred connections in a row contain the share's five.
    for start in [0, 777, 12_345, u32::MAX - 50] {
        let draws = (0..100).map(|nth| start.wrapping_add(nth));
        let hits = draws.filter(|&draw| by_share(&group.membership, draw) == Some(Place(3)));
        assert!((3..=7).contains(&hits.count()), "from {start} on");
    }
}

#[test]
fn least_loaded_leaves_shares_alone() {
    let mut group = Group::with_shares([(0, percent(10)), (1, None), (2, None)]);
    let loads = group.loads();
    for _ in 0..9 {
        loads.entered(row_of(1), true);
        loads.entered(row_of(2), true);
    }
    let chosen: Vec<u16> = (0..100)
        .map(|random| group.slot(by_load(&group.membership, loads, NOW, random)))
        .collect();
    assert!(
        chosen.iter().all(|&slot| slot != 0),
        "the idle canary gets no more than its share"
    );
}

/// However loaded the others are, the canary's 5 % of new clients are decided by their first bucket.
#[test]
fn sticky_honours_shares_under_load() {
    for crowded in [None, Some(0), Some(3)] {
        let mut group = Group::with_shares([(0, None), (1, None), (2, None), (3, percent(5))]);
        let loads = group.loads();
        if let Some(slot) = crowded {
            for _ in 0..100 {
                loads.entered(row_of(slot), true);
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
    let counts = |place: &dyn Fn(u32) -> Place| {
        let nines = (0..10_000).filter(|&n| group.slot(place(n)) == 9).count();
        (7_350..=7_650).contains(&nines)
    };
    assert!(counts(&|n| by_share(&group.membership, n).expect("all are shared")));
    assert!(counts(&|n| by_hash(&group.places, mix(n.into()) as u32)));
    assert!(counts(&|n| by_client(&group, loads, &client(n), None)));
}

/// Each listener of an instance gets its part of the instance's connections, even if the instance has few buckets.
#[test]
fn the_listener_does_not_depend_on_the_bucket() {
    let group = Group::new(0..256);
    for listeners in [3_u16, 8] {
        let mut counts = vec![0u32; 256 * listeners as usize];
        for n in 0..2_000_000_u64 {
            let hash = mix(n) as u32;
            let place = by_hash(&group.places, hash).index();
            counts[place * listeners as usize + listener(hash, listeners) as usize] += 1;
        }
        for of_one in counts.chunks(listeners as usize) {
            let mean = of_one.iter().sum::<u32>() / u32::from(listeners);
            assert!(
                of_one.iter().all(|count| count.abs_diff(mean) < mean / 5),
                "{listeners}: {of_one:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn every_policy_names_a_seat(slots in prop::collection::btree_set(0u16..256, 1..256), stale in prop::collection::vec(0u16..256, 1..8), hash: u32, turn: u32, recorded in prop::option::of(0u16..300), loaded in prop::collection::vec(1u16..257, 0..400)) {
        let mut group = Group::new(slots.iter().copied());
        // Some owners have no seat.
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&stale.iter().map(|&slot| (SlotId(slot), None)).collect::<Vec<_>>());
        *group.places = Places::new(&group.membership, &buckets);
        let loads = group.loads();
        for row in loaded {
            loads.entered(Row(row), true);
        }
        let count = group.membership.count();
        prop_assert!(by_hash(&group.places, hash).0 < count);
        prop_assert!(by_turn(&group.membership, turn).0 < count);
        prop_assert!(by_load(&group.membership, loads, NOW, hash).0 < count);
        let place = by_client(&group, loads, &client(hash), recorded);
        prop_assert!(place.0 < count);
        if let Some(slot) = recorded.filter(|slot| slots.contains(slot)) {
            prop_assert_eq!(group.slot(place), slot);
        }
    }

    #[test]
    fn least_loaded_is_least(loaded in prop::collection::vec(1u16..17, 0..200), random: u32) {
        let mut group = Group::new(0..16);
        let loads = group.loads();
        for row in loaded {
            loads.entered(Row(row), true);
        }
        let chosen = group.membership.seat(by_load(&group.membership, loads, NOW, random)).row();
        let least = (1..=16).map(|row| group.table.rows()[row].established()).min();
        prop_assert_eq!(Some(group.table.rows()[chosen.index()].established()), least);
    }

    #[test]
    fn smaller_is_min(a in i64::MIN / 2..=i64::MAX / 2, b in i64::MIN / 2..=i64::MAX / 2, c: u32, d: u32) {
        prop_assert_eq!(cell::smaller(a, b), a.min(b));
        prop_assert_eq!(cell::smaller(i64::MAX, a.abs()), a.abs());
        prop_assert_eq!(cell::ones_if_less(c, d), if c < d { u32::MAX } else { 0 });
        prop_assert_eq!(cell::ones_if_less(c, c), 0);
    }

    /// A program that reads while the controller writes may find places of another membership.
    #[test]
    fn places_of_another_membership_are_harmless(slots in 0u16..256, before in 1u16..=256, hash: u32) {
        let (mut group, other) = (Group::new(0..slots), Group::new(0..before));
        let loads = group.loads();
        for place in [
            by_hash(&other.places, hash),
            for_new_client(&group.membership, &other.places, loads, &client(hash), NOW),
        ] {
            let seat = group.membership.seat(place);
            prop_assert_eq!(seat.listeners() > 0, place.0 < group.membership.count());
            prop_assert!(seat.listeners() > 0 || seat.row() == Row::BACKSTOP);
        }
    }

    #[test]
    fn a_listener_number_is_within(hash: u32, listeners in 0u16..=8) {
        prop_assert!(listener(hash, listeners) < listeners.max(1));
    }
}
