//! A worker that is killed takes with it what it was answering, and nothing else.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::heavy::Heavy;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::{App, Namespace, PORT, SERVER, commands, kernel, wait};

const CLIENTS: u16 = 64;

#[test]
fn only_what_the_killed_worker_was_answering_is_lost() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    // Round-robin goes on choosing a worker that does not accept, unless it is called hung: its queue fills.
    let app = App::run(
        &["--workers", "4", "--policy", "round-robin", "--hung-after", "0s"],
        &commands::bun_reuse_port(&[]),
    );
    let load = Load::start(SERVER, CLIENTS, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(2_000, Duration::from_secs(30));

    let victim = app.status().pid_of(1);
    kill(Pid::from_raw(victim), Signal::SIGSTOP).expect("stop the worker");
    wait::until("the worker is stopped", Duration::from_secs(5), || {
        kernel::is_stopped(victim)
    });
    // Sooner or later every client comes to it and waits: then nothing moves any more, and can be counted.
    let mut last = (load.finished(), Instant::now());
    wait::until(
        "every client waits for the stopped worker",
        Duration::from_secs(20),
        || {
            if load.finished() != last.0 {
                last = (load.finished(), Instant::now());
            }
            last.1.elapsed() > Duration::from_millis(500)
        },
    );
    let queued = kernel::queued(victim, PORT);
    assert!(queued >= 10, "{queued} connections wait in its queue");
    let status = app.status();
    let worker = status.worker(1);
    assert_eq!(worker.queue, queued, "the product's queue and the kernel's table agree");
    let at_risk = u64::from(worker.connections - worker.queue);
    assert_eq!(
        at_risk,
        kernel::accepted(victim, PORT) as u64,
        "the product's count and the kernel's table agree"
    );
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("kill the worker");

    let replaced = app.wait_status("worker 1 is active again", Duration::from_secs(20), |status| {
        status.worker(1).state == "active" && status.worker(1).pid != worker.pid
    });
    assert_eq!(replaced.worker(1).restarts, 1);
    load.wait_for(2_000, Duration::from_secs(30));
    let report = load.stop();
    assert!(
        report.failures() <= at_risk,
        "{} failed ({:?}), {at_risk} were being answered: {:#?}",
        report.failures(),
        report.failed,
        report.first_failures
    );
    let status = reconcile(&app, report.connections);
    assert_all_ended(&app);
    assert_eq!(
        status.worker(1).migrated_out_total,
        u64::from(queued),
        "the whole queue was moved"
    );
    assert_eq!(status.verdicts().migrated, status.worker(1).migrated_out_total);
    app.stop();
}

#[test]
fn a_worker_that_crashes_again_and_again_is_given_up() {
    let _namespace = Namespace::enter();
    let launcher = reuse_tests::launcher::Launcher::new(&commands::rust(&[]).join(" "));
    let app = App::run(&["--workers", "2"], &[launcher.command()]);
    launcher.deploy(&commands::rust(&["--exit-code", "7"]).join(" "));
    kill(Pid::from_raw(app.status().pid_of(0)), Signal::SIGKILL).expect("kill the worker");
    let status = app.wait_status("worker 0 is failed", Duration::from_secs(60), |status| {
        status.worker(0).state == "failed"
    });
    assert!(
        status
            .worker(0)
            .reason
            .as_ref()
            .is_some_and(|reason| reason.contains("exited with code 7")),
        "{status:#?}"
    );
    assert_eq!(status.worker(1).state, "active");
    for _ in 0..4 {
        assert_eq!(
            reuse_tests::http::get(SERVER, None).expect("the other goes on").slot,
            Some(1)
        );
    }
    launcher.deploy(&commands::rust(&[]).join(" "));
    app.ctl(&["restart", "0"]).expect_code(0);
    assert!(app.status().all_active(2));
    app.stop();
}
