//! Slots with a fixed share of new connections.

use std::net::{Ipv4Addr, SocketAddr};

use reuse_common::{Policy, Share, verdict::Verdict};

use crate::rig::{Group, Rig, connect_bound, reset};

const CONNECTIONS: u32 = 20_000;

fn percent(percent: u16) -> Option<Share> {
    Share::from_hundredths_of_a_percent(percent * 100)
}

/// Connections of so many clients, each from an address of its own.
fn connect_from_many(group: &Group, connections: u32) {
    for number in 0..connections {
        let client = Ipv4Addr::from(0x7f40_0000 + number);
        reset(&connect_bound(SocketAddr::new(client.into(), 0), group.target()));
        if number % 500 == 499 {
            group.accept_all();
        }
    }
    group.accept_all();
}

fn selected(rig: &Rig) -> Vec<u64> {
    rig.each(|load| load.selected_total())
}

/// 5 % ± 0.5, and the others divide the rest evenly.
fn a_canary_gets_its_share(policy: Policy) {
    let mut rig = Rig::new(policy);
    let mut group = rig.group("127.0.0.1:8080", 4);
    group.publish_shares([(0, None), (1, None), (2, percent(5)), (3, None)]);
    connect_from_many(&group, CONNECTIONS);
    let counts = selected(&rig);
    assert_eq!(counts.iter().sum::<u64>(), u64::from(CONNECTIONS));
    assert!((900..=1100).contains(&counts[2]), "{policy:?}: {counts:?}");
    for slot in [0, 1, 3] {
        // 16,384 buckets divided by chance give each slot a share that is off by about a hundredth.
        assert!((5_950..=6_720).contains(&counts[slot]), "{policy:?}: {counts:?}");
    }
    assert_eq!(
        (group.verdict(Verdict::Chosen), group.verdict(Verdict::Fallback)),
        (u64::from(CONNECTIONS), 0)
    );
    rig.comes_to_rest();
}

#[tokio::test]
async fn hash_gives_a_canary_its_share() {
    a_canary_gets_its_share(Policy::Hash);
}

#[tokio::test]
async fn round_robin_gives_a_canary_its_share() {
    a_canary_gets_its_share(Policy::RoundRobin);
}

#[tokio::test]
async fn least_loaded_gives_a_canary_its_share() {
    a_canary_gets_its_share(Policy::LeastLoaded);
}

#[tokio::test]
async fn sticky_gives_a_canary_its_share() {
    a_canary_gets_its_share(Policy::Sticky);
}

/// Every published slot has one: they are taken as weights. And shares end as they came.
#[tokio::test]
async fn shares_of_all_are_weights() {
    let mut rig = Rig::new(Policy::RoundRobin);
    let mut group = rig.group("127.0.0.1:8080", 2);
    for policy in Policy::ALL {
        rig.app.set_policy(policy).expect("set");
        group.publish_shares([(0, percent(1)), (1, percent(3))]);
        let before = selected(&rig);
        connect_from_many(&group, 2_000);
        let counts: Vec<u64> = selected(&rig)
            .iter()
            .zip(before)
            .map(|(now, then)| now - then)
            .collect();
        assert!((420..=580).contains(&counts[0]), "{policy:?}: {counts:?}");
        assert_eq!(counts.iter().sum::<u64>(), 2_000);
    }
    rig.app.set_policy(Policy::RoundRobin).expect("set");
    group.publish([0, 1]);
    let before = selected(&rig);
    connect_from_many(&group, 100);
    let counts: Vec<u64> = selected(&rig)
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    assert_eq!(counts, [50, 50]);
    rig.comes_to_rest();
}

/// What is queued on a worker that closes is divided the same way.
#[tokio::test]
async fn a_closing_workers_queue_is_shared_out_too() {
    let mut rig = Rig::new(Policy::RoundRobin);
    let mut group = rig.group("127.0.0.1:8080", 3);
    group.publish([0]);
    let clients: Vec<_> = (0..200).map(|_| group.connect()).collect();
    crate::rig::until("all wait on the first worker", || rig.load_of(0).established() == 200);
    group.publish_shares([(1, None), (2, percent(10))]);
    group.close(0);
    assert_eq!(group.verdict(Verdict::Migrated), 200);
    let moved = rig.load_of(2).migrated_in_total();
    assert!((18..=22).contains(&moved), "{moved}");
    assert_eq!(rig.load_of(1).migrated_in_total(), 200 - moved);
    drop((clients, group.accept_all()));
    rig.comes_to_rest();
}
