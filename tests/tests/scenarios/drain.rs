//! `drain` withdraws a worker and returns when nothing is left on it.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use reuse_tests::heavy::Heavy;
use reuse_tests::http::{Connection, Failure, get};
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::{App, Namespace, SERVER, commands};

fn four() -> App {
    App::run(&["--workers", "4", "--policy", "round-robin"], &commands::rust(&[]))
}

/// Four connections, one on each worker; the index is the slot.
fn one_on_each() -> Vec<Connection> {
    let mut held: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = Connection::open(SERVER, None).expect("connect");
            (
                connection
                    .get(false)
                    .expect("an answer")
                    .slot
                    .expect("the server names its slot"),
                connection,
            )
        })
        .collect();
    held.sort_by_key(|(slot, _)| *slot);
    assert_eq!(held.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 1, 2, 3]);
    held.into_iter().map(|(_, connection)| connection).collect()
}

#[test]
fn a_drain_returns_when_the_last_connection_has_ended() {
    let _namespace = Namespace::enter();
    let app = four();
    let mut held = one_on_each();
    let drain = app.ctl_start(&["drain", "2"]);
    app.wait_status("worker 2 is draining", Duration::from_secs(5), |status| {
        status.worker(2).state == "draining"
    });
    for _ in 0..9 {
        assert_ne!(get(SERVER, None).expect("an answer").slot, Some(2), "withdrawn");
    }
    assert_eq!(held[2].get(false).expect("its connection goes on").slot, Some(2));
    assert!(!drain.is_finished(), "a connection is left");
    drop(held.remove(2));
    let output = drain.join().expect_code(0);
    assert!(
        output.took < Duration::from_secs(10),
        "long before the timeout: {:?}",
        output.took
    );
    assert_eq!(app.status().worker(2).state, "drained");
    app.ctl(&["undrain", "2"]).expect_code(0);
    assert_eq!(app.status().worker(2).state, "active");
    reconcile(&app, 4 + 9);
    app.stop();
}

#[test]
fn a_drain_that_runs_out_of_time_says_what_is_left_and_stays_withdrawn() {
    let _namespace = Namespace::enter();
    let app = four();
    let mut held = one_on_each();
    let output = app.ctl(&["drain", "1", "--timeout", "1s"]).expect_code(4);
    assert!(output.took >= Duration::from_secs(1));
    assert!(
        format!("{}{}", output.stdout, output.stderr).contains("1 connection"),
        "what was left is printed:\n{}{}",
        output.stdout,
        output.stderr
    );
    assert_eq!(app.status().worker(1).state, "draining", "it stays withdrawn");
    for _ in 0..6 {
        assert_ne!(get(SERVER, None).expect("an answer").slot, Some(1));
    }
    drop(held.remove(1));
    app.wait_status("worker 1 is drained all the same", Duration::from_secs(5), |status| {
        status.worker(1).state == "drained"
    });
    app.stop();
}

#[test]
fn a_drain_without_waiting_returns_at_once() {
    let _namespace = Namespace::enter();
    let app = four();
    let held = one_on_each();
    app.ctl(&["drain", "0", "3", "--no-wait"]).expect_code(0);
    let status = app.status();
    assert_eq!(status.states(), ["draining", "active", "active", "draining"]);
    let again = app.ctl_start(&["drain", "0"]);
    #[expect(
        clippy::disallowed_methods,
        reason = "that it does not return can only be seen by giving it time"
    )]
    thread::sleep(Duration::from_millis(300));
    assert!(!again.is_finished(), "draining a draining worker waits too");
    drop(held);
    again.join().expect_code(0);
    app.stop();
}

#[test]
fn the_last_active_worker_is_not_drained_without_force() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    app.ctl(&["drain", "0"]).expect_code(0);
    app.ctl(&["drain", "1"]).expect_code(1).expect_complaint(&["--force"]);
    assert_eq!(app.status().states(), ["drained", "active"]);
    app.ctl(&["drain", "1", "--force"]).expect_code(0);
    assert_eq!(app.status().states(), ["drained", "drained"]);

    let parked = thread::spawn(|| get(SERVER, None));
    app.wait_status("the connection is parked", Duration::from_secs(5), |status| {
        status.groups[0].parked == 1
    });
    app.ctl(&["undrain", "1"]).expect_code(0);
    assert_eq!(parked.join().expect("the client").expect("an answer").slot, Some(1));
    reconcile(&app, 1);
    assert_all_ended(&app);
    app.stop();
}

#[test]
fn when_empty_refuse_refuses() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1", "--when-empty", "refuse"], &commands::rust(&[]));
    get(SERVER, None).expect("an answer");
    app.ctl(&["drain", "0", "--force"]).expect_code(0);
    assert_eq!(get(SERVER, None), Err(Failure::Connect(ErrorKind::ConnectionRefused)));
    let status = app.status();
    assert_eq!(
        (status.verdicts().refused, status.verdicts().parked, status.fallbacks),
        (1, 0, 0)
    );
    app.ctl(&["undrain", "0"]).expect_code(0);
    get(SERVER, None).expect("an answer");
    app.stop();
}

#[test]
fn a_drain_under_load_loses_nothing() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four();
    let load = Load::start(SERVER, 16, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(500, Duration::from_secs(20));
    for slot in ["0", "1", "2", "3"] {
        app.ctl(&["drain", slot]).expect_code(0);
        let before = app.status().worker(slot.parse().expect("a number")).established_total;
        load.wait_for(500, Duration::from_secs(20));
        let after = app.status();
        let worker = after.worker(slot.parse().expect("a number"));
        assert_eq!(
            (worker.established_total, worker.connections),
            (before, 0),
            "nothing reaches a drained worker"
        );
        app.ctl(&["undrain", slot]).expect_code(0);
    }
    let report = load.stop();
    report.assert_nothing_failed();
    reconcile(&app, report.connections);
    assert_all_ended(&app);
    app.stop();
}
