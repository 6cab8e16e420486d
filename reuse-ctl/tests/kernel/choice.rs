//! Which worker the policies choose.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use reuse_common::{Policy, verdict::Verdict};

use crate::rig::{Group, Rig, accept_all, connect, connect_bound, reset, until};

const WORKERS: u16 = 8;

fn eight_workers(policy: Policy) -> (Rig, Group) {
    let mut rig = Rig::new(policy);
    let mut group = rig.group("127.0.0.1:8080", WORKERS);
    group.publish(0..WORKERS);
    (rig, group)
}

/// Connections held open at each worker.
fn established(rig: &Rig) -> Vec<u32> {
    rig.each(|load| load.established())
}

#[tokio::test]
async fn round_robin_is_exact() {
    let (rig, group) = eight_workers(Policy::RoundRobin);
    for connections in [16, 64, 256] {
        let selected = || rig.each(|load| load.selected_total());
        // Not from the beginning of the test: a packet of a connection that has just gone is looked up among the listeners, and runs the
        // program too.
        let (chosen_before, selected_before) = (group.verdict(Verdict::Chosen), selected());
        let open: Vec<TcpStream> = (0..connections).map(|_| group.connect()).collect();
        until("all are counted", || {
            established(&rig).iter().sum::<u32>() == connections
        });
        assert_eq!(established(&rig), vec![connections / 8; 8]);
        assert_eq!(group.verdict(Verdict::Chosen) - chosen_before, u64::from(connections));
        for (now, before) in selected().into_iter().zip(selected_before) {
            assert_eq!(now - before, u64::from(connections / 8));
        }
        drop((open, group.accept_all()));
        rig.comes_to_rest();
    }
}

#[tokio::test]
async fn least_loaded_is_exact_one_by_one() {
    let (rig, group) = eight_workers(Policy::LeastLoaded);
    for connections in [16, 64, 256] {
        let open: Vec<TcpStream> = (0..connections).map(|_| group.connect()).collect();
        until("all are counted", || {
            established(&rig).iter().sum::<u32>() == connections
        });
        assert_eq!(established(&rig), vec![connections / 8; 8]);
        drop((open, group.accept_all()));
        rig.comes_to_rest();
    }
}

#[tokio::test]
async fn least_loaded_fills_the_gap() {
    let (rig, group) = eight_workers(Policy::LeastLoaded);
    let open: Vec<TcpStream> = (0..64).map(|_| group.connect()).collect();
    until("all are counted", || established(&rig).iter().sum::<u32>() == 64);
    // Both ends of worker 5's connections are closed.
    let theirs = accept_all(&group.workers[&5]);
    let ports: Vec<SocketAddr> = theirs.iter().map(|stream| stream.peer_addr().expect("open")).collect();
    let (gone, kept): (Vec<_>, Vec<_>) = open
        .into_iter()
        .partition(|stream| ports.contains(&stream.local_addr().expect("open")));
    assert_eq!(gone.len(), 8);
    drop((gone, theirs));
    until("worker 5 is idle", || rig.load_of(5).established() == 0);
    let refilled: Vec<(u16, TcpStream)> = (0..8).map(|_| rig.chosen(|| group.connect())).collect();
    assert!(refilled.iter().all(|(slot, _)| *slot == 5), "{refilled:?}");
    drop((kept, refilled, group.accept_all()));
    rig.comes_to_rest();
}

#[tokio::test]
async fn least_loaded_is_off_by_one_at_most_when_eight_connect_at_once() {
    let (rig, group) = eight_workers(Policy::LeastLoaded);
    let target = group.target();
    for connections in [16, 64, 256] {
        let open: Vec<TcpStream> = thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| scope.spawn(move || (0..connections / 8).map(|_| connect(target)).collect::<Vec<_>>()))
                .collect();
            clients
                .into_iter()
                .flat_map(|client| client.join().expect("connects"))
                .collect()
        });
        until("all are counted", || {
            established(&rig).iter().sum::<u32>() == connections
        });
        let counts = established(&rig);
        let mean = connections / 8;
        assert!(counts.iter().all(|count| count.abs_diff(mean) <= 1), "{counts:?}");
        drop((open, group.accept_all()));
        rig.comes_to_rest();
    }
}

#[tokio::test]
async fn hash_keeps_every_key_but_those_of_the_worker_that_goes() {
    let (rig, mut group) = eight_workers(Policy::Hash);
    let owners = |group: &Group| -> BTreeMap<SocketAddr, u16> {
        let owners =
            (0..50_u16).flat_map(|port| (1..=4).map(move |host| SocketAddr::from(([127, 0, 9, host], 20_000 + port))));
        let owners = owners
            .map(|client| {
                let (slot, stream) = rig.chosen(|| connect_bound(client, group.target()));
                reset(&stream);
                (client, slot)
            })
            .collect();
        group.accept_all();
        owners
    };
    let before = owners(&group);
    assert_eq!(owners(&group), before, "the same connection has the same worker");
    let shares: Vec<usize> = (0..8)
        .map(|slot| before.values().filter(|&&owner| owner == slot).count())
        .collect();
    assert!(shares.iter().all(|&share| share > 2), "200 keys: {shares:?}");

    group.publish((0..WORKERS).filter(|&slot| slot != 3));
    let without = owners(&group);
    for (client, owner) in &before {
        if *owner == 3 {
            assert_ne!(without[client], 3);
        } else {
            assert_eq!(without[client], *owner, "{client}");
        }
    }
    group.publish(0..WORKERS);
    assert_eq!(owners(&group), before);
    assert_eq!(
        (group.verdict(Verdict::Chosen), group.verdict(Verdict::Fallback)),
        (800, 0)
    );
}

#[tokio::test]
async fn withdrawn_workers_get_nothing_while_connections_pour_in() {
    let (mut rig, mut group) = eight_workers(Policy::LeastLoaded);
    for policy in Policy::ALL {
        rig.app.set_policy(policy).expect("set");
        pour(&rig, &mut group);
    }
    let verdicts = group.verdicts();
    assert_eq!(
        [Verdict::Fallback, Verdict::Parked, Verdict::Refused].map(|verdict| verdicts.get(verdict)),
        [0; 3]
    );
    drop(group.accept_all());
    rig.comes_to_rest();
}

/// Two threads connect as fast as they can, while every worker in turn is withdrawn.
fn pour(rig: &Rig, group: &mut Group) {
    let (stop, made, target) = (AtomicBool::new(false), AtomicU64::new(0), group.target());
    thread::scope(|scope| {
        for host in 1..=2 {
            let (stop, made) = (&stop, &made);
            scope.spawn(move || {
                for client in (0..=255).cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let from = SocketAddr::from(([127, 0, host, client], 0));
                    reset(&connect_bound(from, target));
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let pass = |group: &Group, connections: u64| {
            let goal = made.load(Ordering::Relaxed) + connections;
            until("more connections are made", || {
                group.accept_all();
                made.load(Ordering::Relaxed) >= goal
            });
        };
        for withdrawn in 0..WORKERS {
            group.publish((0..WORKERS).filter(|&slot| slot != withdrawn));
            // A program that runs at this moment on another processor may still have the old set in its hands.
            pass(group, 4);
            let before = rig.load_of(withdrawn).selected_total();
            pass(group, 50);
            assert_eq!(
                rig.load_of(withdrawn).selected_total(),
                before,
                "worker {withdrawn} is withdrawn"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
}
