//! Connections whose listener closes.

use std::net::TcpStream;

use reuse_common::{Policy, load::InstanceLoad, verdict::Verdict};

use crate::rig::{Group, Rig, accept_all, connect, until};

fn queue_on_first(rig: &Rig, group: &mut Group, connections: u32) -> Vec<TcpStream> {
    group.publish([0]);
    let clients = (0..connections).map(|_| group.connect()).collect();
    until("all wait on the first worker", || {
        rig.load_of(0).established() == connections
    });
    clients
}

fn moves(load: InstanceLoad) -> (u32, u64, u64) {
    (load.established(), load.migrated_in_total(), load.migrated_out_total())
}

#[tokio::test]
async fn queued_connections_move_and_the_sums_stay_right() {
    let mut rig = Rig::new(Policy::RoundRobin);
    let mut group = rig.group("127.0.0.1:8080", 3);
    let held = {
        group.publish([0]);
        let client = group.connect();
        until("it is counted", || rig.load_of(0).established() == 1);
        (client, accept_all(&group.workers[&0]))
    };
    let queued: Vec<TcpStream> = (0..6).map(|_| group.connect()).collect();
    until("seven are on the first worker", || rig.load_of(0).established() == 7);

    group.publish([1, 2]);
    group.close(0);
    assert_eq!(
        (group.verdict(Verdict::Migrated), group.verdict(Verdict::Fallback)),
        (6, 0)
    );
    assert_eq!(
        rig.each(moves),
        [(1, 0, 6), (3, 3, 0), (3, 3, 0)],
        "what was accepted stays"
    );
    assert_eq!(
        rig.each(|load| load.selected_total()),
        [7, 0, 0],
        "a move is no selection"
    );

    let accepted: Vec<TcpStream> = [1, 2]
        .iter()
        .flat_map(|slot| accept_all(&group.workers[slot]))
        .collect();
    let mut peers: Vec<_> = accepted
        .iter()
        .map(|stream| stream.peer_addr().expect("open"))
        .collect();
    let mut clients: Vec<_> = queued.iter().map(|stream| stream.local_addr().expect("open")).collect();
    peers.sort_unstable();
    clients.sort_unstable();
    assert_eq!(peers, clients);
    drop((held, queued, accepted));
    rig.comes_to_rest();
    assert_eq!(rig.each(|load| load.established_total()), [7, 0, 0]);
}

#[tokio::test]
async fn a_connection_may_move_twice() {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let mut group = rig.group("127.0.0.1:8080", 3);
    let clients = queue_on_first(&rig, &mut group, 4);
    for (closing, next) in [(0, 1), (1, 2)] {
        group.publish([next]);
        group.close(closing);
    }
    assert_eq!(group.verdict(Verdict::Migrated), 8);
    assert_eq!(rig.each(moves), [(0, 0, 4), (0, 4, 4), (4, 4, 0)]);
    assert_eq!(accept_all(&group.workers[&2]).len(), 4);
    drop(clients);
    rig.comes_to_rest();
}

/// Its end is counted where it went, however little is left of the instance that it came from: not even a cgroup.
#[tokio::test]
async fn a_connection_that_moved_outlives_its_instance() {
    let mut rig = Rig::new(Policy::RoundRobin);
    let mut group = rig.group("127.0.0.1:8080", 2);
    let clients = queue_on_first(&rig, &mut group, 3);
    group.publish([1]);
    group.close(0);
    assert_eq!(rig.each(moves), [(0, 0, 3), (3, 3, 0)]);
    rig.register(0, 0);
    let accepted = accept_all(&group.workers[&1]);
    assert_eq!(accepted.len(), 3);
    drop((clients, accepted));
    rig.comes_to_rest();
    assert_eq!(rig.each(moves), [(0, 0, 0), (0, 3, 0)]);
}

#[tokio::test]
async fn with_nobody_published_they_move_to_the_backstop() {
    let mut rig = Rig::new(Policy::Hash);
    let mut group = rig.group("127.0.0.1:8080", 1);
    let clients = queue_on_first(&rig, &mut group, 3);
    group.publish([]);
    group.close(0);
    assert_eq!(
        (group.verdict(Verdict::Migrated), group.verdict(Verdict::Parked)),
        (3, 0)
    );
    assert_eq!(accept_all(&group.backstop).len(), 3);
    drop(clients);
    rig.comes_to_rest();
}

/// A listener that was never withdrawn closes: what comes in that moment is steered to the others, never to the kernel's hash.
#[tokio::test]
async fn a_worker_that_dies_unannounced_loses_nothing() {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let mut group = rig.group("127.0.0.1:8080", 4);
    group.publish(0..4);
    let before: Vec<TcpStream> = (0..40).map(|_| group.connect()).collect();
    until("all are counted", || rig.each(|load| load.established()) == [10; 4]);
    group.close(2);
    // The dead worker has the smallest load, so that each of these asks for it first.
    let after: Vec<TcpStream> = (0..40).map(|_| connect(group.target())).collect();
    until("all are counted", || {
        rig.each(|load| load.established()).iter().sum::<u32>() == 80
    });
    assert_eq!(rig.load_of(2).established(), 0);
    assert_eq!(group.accept_all().len(), 80);
    let verdicts = group.verdicts();
    assert_eq!(
        [Verdict::Chosen, Verdict::Migrated, Verdict::Fallback, Verdict::Parked].map(|verdict| verdicts.get(verdict)),
        [80, 10, 0, 0]
    );
    drop((before, after));
    rig.comes_to_rest();
}
