//! Connections land evenly: exactly, where the policy promises it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use reuse_tests::heavy::Heavy;
use reuse_tests::http::Connection;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::reconcile;
use reuse_tests::{App, Namespace, SERVER, commands};

const WORKERS: usize = 8;

/// Opens `count` connections, has one request answered on each, and keeps them.
fn hold(count: usize) -> Vec<(u16, Connection)> {
    (0..count)
        .map(|_| {
            let mut connection = Connection::open(SERVER, None).expect("connect");
            let answer = connection.get(false).expect("an answer");
            (answer.slot.expect("the server names its slot"), connection)
        })
        .collect()
}

fn per_slot(held: &[(u16, Connection)]) -> BTreeMap<u16, usize> {
    held.iter().fold(BTreeMap::new(), |mut counts, (slot, _)| {
        *counts.entry(*slot).or_default() += 1;
        counts
    })
}

#[track_caller]
fn assert_exactly_even(policy: &str) {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "8", "--policy", policy], &commands::rust(&[]));
    let mut held = Vec::new();
    for (total, each) in [(16, 2), (64, 8), (256, 32)] {
        held.extend(hold(total - held.len()));
        assert_eq!(
            per_slot(&held),
            (0..8).map(|slot| (slot, each)).collect(),
            "{total} connections, as the servers see it"
        );
        let status = reconcile(&app, total as u64);
        assert_eq!(
            status.connections(),
            vec![u32::try_from(each).expect("small"); WORKERS],
            "{total} connections, as the kernel counts"
        );
    }
    drop(held);
    app.stop();
}

#[test]
fn round_robin_spreads_held_connections_exactly() {
    assert_exactly_even("round-robin");
}

#[test]
fn least_loaded_spreads_connections_opened_one_by_one_exactly() {
    assert_exactly_even("least-loaded");
}

#[test]
fn least_loaded_spreads_connections_opened_by_eight_threads_within_one() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "8", "--policy", "least-loaded"], &commands::rust(&[]));
    let mut opened = 0;
    for each in [2, 8, 32] {
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(move || hold(each))).collect();
        let held: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a client thread"))
            .collect();
        opened += held.len() as u64;
        for (slot, count) in per_slot(&held) {
            assert!(
                count.abs_diff(each) <= 1,
                "worker {slot} has {count} of {} connections; {:?}",
                held.len(),
                per_slot(&held)
            );
        }
        assert_eq!(per_slot(&held).len(), WORKERS);
        reconcile(&app, opened);
        drop(held);
        app.wait_status("all connections have ended", Duration::from_secs(5), |status| {
            status.connections().iter().all(|count| *count == 0)
        });
    }
    app.stop();
}

#[test]
fn least_loaded_spreads_short_connections_within_ten_percent() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4", "--policy", "least-loaded"], &commands::rust(&[]));
    let load = Load::start(SERVER, 64, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(40_000, Duration::from_secs(50));
    let report = load.stop();
    report.assert_nothing_failed();
    let status = reconcile(&app, report.connections);
    let quarter = report.connections as f64 / 4.0;
    for worker in &status.workers {
        let share = worker.established_total as f64 / quarter;
        assert!(
            (0.9..=1.1).contains(&share),
            "worker {} got {} of {} connections: {share:.3} of a quarter",
            worker.id,
            worker.established_total,
            report.connections
        );
    }
    app.stop();
}
