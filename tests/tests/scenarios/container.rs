//! What container engines' seccomp filters do to the controller: a call is refused (`bpf`), or said not to exist (`clone3`).

use std::time::Duration;

use reuse_tests::fault::forbidding;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::{Launch, Namespace, SERVER, commands, leftovers, run};

#[test]
fn a_filter_that_forbids_bpf_is_named_with_what_to_do() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&[]);
    let mut command = launch.command(&commands::rust(&[]));
    forbidding(&mut command, libc::SYS_bpf, libc::EPERM);
    run::to_end(&mut command, Duration::from_secs(20))
        .expect_code(1)
        .expect_complaint(&["bpf", "seccomp", "--cap-add SYS_ADMIN", "docs/containers.md"]);
    leftovers::assert_nothing_left(launch.app_name());

    let mut doctor = reuse_tests::app::controller_command();
    forbidding(doctor.arg("doctor"), libc::SYS_bpf, libc::EPERM);
    let seen = run::to_end(&mut doctor, Duration::from_secs(20)).expect_code(1);
    assert!(seen.stdout.contains("first missing: bpf"), "{}", seen.stdout);
}

#[test]
fn without_clone3_workers_start_in_their_cgroups_all_the_same() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "3"]);
    let mut app = launch.start_with(&commands::rust(&[]), |command| {
        forbidding(command, libc::SYS_clone3, libc::ENOSYS);
    });
    app.wait_all_active(3);
    let load = Load::start(SERVER, 8, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(100, Duration::from_secs(20));
    app.ctl(&["reload"]).expect_code(0);
    app.ctl(&["scale", "4"]).expect_code(0);
    load.wait_for(100, Duration::from_secs(20));
    let report = load.stop();
    report.assert_nothing_failed();
    // Counted by cgroups: it holds only if workers and the controller's own listeners are where they belong.
    reconcile(&app, report.connections);
    assert_all_ended(&app);
    app.stop();
}
