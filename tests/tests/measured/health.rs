//! Workers that fail their health checks are withdrawn and replaced, unless all fail.

use std::time::Duration;

use reuse_tests::events::Events;
use reuse_tests::fault::Stopped;
use reuse_tests::open_loop::OpenLoop;
use reuse_tests::reconcile::reconcile;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Namespace, SERVER, commands};

const CHECKS: [&str; 4] = ["--health-interval", "200ms", "--health-fails", "2"];
const FOUR: [&str; 4] = ["--workers", "4", "--policy", "round-robin"];

/// Two checks, each with its time, and a start of a runtime on a busy machine.
const REPLACED: Duration = Duration::from_secs(20);

fn run(health: &str, options: &[&str], command: &[String]) -> App {
    App::run(&[&FOUR[..], &CHECKS, &["--health", health], options].concat(), command)
}

/// Those are sick whose process ids, or "all", the file `sick` of the folder names.
fn can_be_sick() -> (Scratch, App) {
    let folder = Scratch::new();
    let sick = format!("health={}", folder.path().join("sick").display());
    let app = run("/health", &[], &commands::node_faults(&[&sick]));
    (folder, app)
}

#[test]
fn a_worker_that_says_that_it_is_sick_is_replaced() {
    let _namespace = Namespace::enter();
    let (folder, app) = can_be_sick();
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 200);
    clients.run_for(Duration::from_secs(1));
    let before = app.status();
    assert!(before.faulty().is_empty(), "{before:#?}");
    // Its successor has another process id, and is healthy.
    folder.write("sick", &before.pid_of(1).to_string());
    let event = events.wait_for("unhealthy", 1, Duration::from_secs(5)).remove(0);
    assert_eq!(event.worker, Some(1));
    assert!(event.message.contains("503"), "it says why: {}", event.message);
    let after = app.wait_status("it is replaced", REPLACED, |status| {
        status.all_active(4) && status.worker(1).pid != before.worker(1).pid
    });
    assert_eq!(after.worker(1).restarts, 1);
    let healthy = app.wait_status("nobody has a fault", REPLACED, |status| {
        status.faulty().is_empty() && status.published().len() == 4
    });
    for slot in [0, 2, 3] {
        assert_eq!(healthy.pid_of(slot), before.pid_of(slot), "the others go on");
    }
    clients.run_for(Duration::from_secs(1));
    let run = clients.stop();
    run.assert_nothing_failed();
    assert!(
        events.named("unhealthy").iter().all(|event| event.worker == Some(1)),
        "nobody else is blamed: {:?}",
        events.named("unhealthy")
    );
    reconcile(&app, run.connections());
    app.stop();
}

/// From the moment at which it is called unhealthy, nobody comes to it.
#[test]
fn a_sick_worker_is_withdrawn_before_it_is_replaced() {
    let _namespace = Namespace::enter();
    let (folder, app) = can_be_sick();
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 200);
    let pid = app.status().pid_of(2);
    folder.write("sick", &pid.to_string());
    let at_ms = events.wait_for("unhealthy", 1, Duration::from_secs(5))[0].at_ms;
    clients.run_for(Duration::from_secs(2));
    let run = clients.stop();
    run.assert_nothing_failed();
    let served = |from: u64, until: u64| {
        let sick = u32::try_from(pid).expect("a process id");
        let between = run.between_ms(from, until);
        let answers = between.iter().filter_map(|sample| sample.result.as_ref().ok()?.pid);
        answers.filter(|by| *by == sick).count()
    };
    assert!(served(0, at_ms) > 0, "it served while it was not known to be sick");
    // What had come just before may be answered a little later.
    assert_eq!(served(at_ms + 50, u64::MAX), 0, "it serves no more");
    app.stop();
}

#[test]
fn a_worker_that_does_not_accept_fails_a_tcp_check() {
    let _namespace = Namespace::enter();
    let app = run(
        "tcp",
        &[
            "--hung-after",
            "0s",
            "--health-timeout",
            "500ms",
            "--stop-timeout",
            "1s",
            "--drain-timeout",
            "1s",
        ],
        &commands::node_faults(&[]),
    );
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 100);
    clients.run_for(Duration::from_secs(2));
    let before = app.status();
    assert!(events.named("unhealthy").is_empty(), "all of them accept");
    let stopped = Stopped::new(before.pid_of(3));
    let event = events.wait_for("unhealthy", 1, Duration::from_secs(5)).remove(0);
    assert_eq!(event.worker, Some(3));
    let after = app.wait_status("it is replaced", REPLACED, |status| {
        status.all_active(4) && status.worker(3).pid != before.worker(3).pid && status.faulty().is_empty()
    });
    assert_eq!(after.worker(3).restarts, 1);
    drop(stopped);
    clients.run_for(Duration::from_secs(1));
    let run = clients.stop();
    // What the stopped process had accepted dies with it; there is hardly ever more than one.
    let failed = run.samples.iter().filter(|sample| sample.result.is_err()).count();
    assert!(failed <= 1, "{failed} failed");
    app.stop();
}

/// Then the check, or what is behind all of them, is to blame: taking the workers away would make it worse.
#[test]
fn when_all_are_sick_all_stay_published() {
    let _namespace = Namespace::enter();
    let (folder, app) = can_be_sick();
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 200);
    clients.run_for(Duration::from_secs(1));
    folder.write("sick", "all");
    app.wait_status(
        "all are unhealthy, and all are published",
        Duration::from_secs(10),
        |status| {
            status.published().len() == 4
                && status.workers.iter().all(|worker| {
                    worker
                        .fault
                        .as_ref()
                        .is_some_and(|fault| fault.kind == "unhealthy" && !fault.withdrawn)
                })
        },
    );
    let shown = app.ctl(&["status"]).expect_code(0).stdout;
    assert!(shown.contains("unhealthy"), "status says so:\n{shown}");
    clients.run_for(Duration::from_secs(10));
    let status = app.status();
    let restarts: u64 = status.workers.iter().map(|worker| worker.restarts).sum();
    assert!(restarts <= 8, "no storm of restarts: {restarts}; {status:#?}");
    let blamed: Vec<_> = events
        .named("unhealthy")
        .iter()
        .filter_map(|event| event.worker)
        .collect();
    assert!((0..4).all(|slot| blamed.contains(&slot)), "events say so: {blamed:?}");
    std::fs::remove_file(folder.path().join("sick")).expect("remove a file of ours");
    app.wait_status("all is well again", Duration::from_secs(10), |status| {
        status.faulty().is_empty() && status.published().len() == 4
    });
    let run = clients.stop();
    run.assert_nothing_failed();
    reconcile(&app, run.connections());
    app.stop();
}
