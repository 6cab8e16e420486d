//! The listener belongs to a child of the worker, and the worker dies.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::http::get;
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::{App, Namespace, PORT, SERVER, commands, kernel, wait};

#[test]
fn a_helper_does_not_outlive_its_worker_and_its_queue_moves() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "3", "--policy", "round-robin"],
        &commands::rust(&["--fork-helper"]),
    );
    let status = app.status();
    let main = status.pid_of(1);
    let mains: Vec<_> = status.workers.iter().map(|worker| status.pid_of(worker.id)).collect();
    let helpers: Vec<_> = kernel::listening_processes(PORT)
        .into_iter()
        .filter(|pid| *pid != app.pid())
        .collect();
    assert_eq!(helpers.len(), 3);
    assert!(
        helpers.iter().all(|helper| !mains.contains(helper)),
        "no main process has the listener itself"
    );
    let helper = helper_of(main, &helpers);

    kill(Pid::from_raw(helper), Signal::SIGSTOP).expect("stop the helper");
    wait::until("the helper is stopped", Duration::from_secs(5), || {
        kernel::is_stopped(helper)
    });
    let clients: Vec<_> = (0..12).map(|_| thread::spawn(|| get(SERVER, None))).collect();
    wait::until("four connections wait in its queue", Duration::from_secs(5), || {
        kernel::queued(helper, PORT) == 4
    });
    kill(Pid::from_raw(main), Signal::SIGKILL).expect("kill the main process");

    for client in clients {
        let answer = client
            .join()
            .expect("the client")
            .expect("every connection is answered, by another worker");
        assert_ne!(answer.pid, u32::try_from(helper).ok());
    }
    wait::until("the helper has ended", Duration::from_secs(5), || {
        !kernel::is_alive(helper)
    });
    app.wait_status("worker 1 is active again", Duration::from_secs(20), |status| {
        status.all_active(3)
    });
    let status = reconcile(&app, 12);
    assert_all_ended(&app);
    assert_eq!(status.worker(1).migrated_out_total, 4);
    app.stop();
}

/// The one of `helpers` whose parent is `main`.
fn helper_of(main: i32, helpers: &[i32]) -> i32 {
    let parent = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the helper runs");
        status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .and_then(|value| value.trim().parse::<i32>().ok())
    };
    *helpers
        .iter()
        .find(|helper| parent(helper) == Some(main))
        .expect("the worker has a helper")
}
