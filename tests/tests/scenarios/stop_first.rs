//! Stop-first: nobody is there for two seconds, and nobody is refused.

use std::time::Duration;

use reuse_tests::heavy::Heavy;
use reuse_tests::launcher::Launcher;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::run::assert_says;
use reuse_tests::{App, Namespace, SERVER, commands};

#[test]
fn a_stop_first_restart_of_the_only_worker_parks_and_answers_everybody() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1"], &commands::rust(&["--boot-delay-ms", "2000"]));
    let load = Load::start(SERVER, 64, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(1_000, Duration::from_secs(20));
    let before = app.status().pids();
    let output = app.ctl(&["restart", "0", "--stop-first"]).expect_code(0);
    assert!(
        output.took >= Duration::from_secs(2),
        "the new one takes two seconds to boot; the restart took {:?}",
        output.took
    );
    load.wait_for(1_000, Duration::from_secs(20));
    let report = load.stop();
    report.assert_nothing_failed();
    assert_eq!(
        report.by_pid.len(),
        2,
        "the old and the new one answered: {:?}",
        report.by_pid
    );
    let status = reconcile(&app, report.connections);
    assert_all_ended(&app);
    assert_ne!(status.pids(), before);
    assert!(
        status.verdicts().parked >= 32,
        "the clients waited at the backstop listener: {:?}",
        status.verdicts()
    );
    app.stop();
}

#[test]
fn a_stop_first_restart_works_with_inherited_listeners_too() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let mut command = commands::rust_inherited();
    command.extend(["--boot-delay-ms".to_owned(), "500".to_owned()]);
    let app = App::run(&["--workers", "1", "--listen", &SERVER.to_string()], &command);
    let load = Load::start(SERVER, 16, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(500, Duration::from_secs(20));
    app.ctl(&["restart", "0", "--stop-first"]).expect_code(0);
    load.wait_for(500, Duration::from_secs(20));
    let report = load.stop();
    report.assert_nothing_failed();
    reconcile(&app, report.connections);
    assert_all_ended(&app);
    app.stop();
}

#[test]
fn a_stop_first_that_fails_says_truly_what_is_left() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let good = commands::rust(&[]).join(" ");
    let script = Launcher::new(&good);
    let app = App::run(&["--workers", "2"], &[script.command()]);
    let load = Load::start(SERVER, 8, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(200, Duration::from_secs(20));
    script.deploy("/bin/sh -c 'echo broken >&2; exit 3'");
    let restart = app.ctl(&["restart", "0", "--stop-first"]).expect_code(1).stderr;
    assert_says(
        &restart,
        &[
            "exited with code 3",
            "; nothing serves in its place\n",
            "worker 0 is started again in",
            "| broken",
        ],
    );
    assert!(!restart.contains("untouched"), "{restart}");
    let status = app.status();
    assert_ne!(status.worker(0).state, "active");
    assert_eq!(status.worker(1).state, "active");

    let reload = app.ctl(&["reload", "--stop-first"]).expect_code(1).stderr;
    let left = "reloaded 0 of 2; worker 0 does not serve now; worker 1 runs the old version untouched";
    assert!(reload.contains(left), "{left:?} is missing in:\n{reload}");
    script.deploy(&good);
    app.ctl(&["reload", "--stop-first"]).expect_code(0);
    assert!(app.status().all_active(2));
    load.stop().assert_nothing_failed();
    app.stop();
}
