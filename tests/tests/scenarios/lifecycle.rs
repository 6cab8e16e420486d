//! From `run` to nothing left: Ctrl-C, stop, detach, scale, logs, owners.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::app::controller_command;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::{Connection, get};
use reuse_tests::leftovers::{assert_nothing_left, assert_port_free};
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::reconcile;
use reuse_tests::run::assert_says;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, binaries, commands, kernel, run, wait};

const SOON: Duration = Duration::from_secs(10);

fn held_connection() -> Connection {
    let mut connection = Connection::open(SERVER, None).expect("connect");
    connection.get(false).expect("an answer");
    connection
}

#[test]
fn one_interrupt_ends_everything_cleanly() {
    let _namespace = Namespace::enter();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut app = App::run(&["--workers", "3"], &commands::rust(&[]));
        let mut idle = held_connection();
        app.signal(signal);
        assert_eq!(app.wait_exit(SOON).code(), Some(0), "{}", app.output());
        assert!(
            idle.wait_closed(SOON),
            "the worker was told to stop and closed its idle connection"
        );
        assert_nothing_left(app.name());
        assert_port_free(PORT);
    }
}

#[test]
fn a_second_interrupt_kills() {
    let _namespace = Namespace::enter();
    let mut app = App::run(
        &["--workers", "2", "--stop-timeout", "60s", "--drain-timeout", "60s"],
        &commands::rust(&["--stubborn"]),
    );
    let _held = held_connection();
    app.signal(Signal::SIGINT);
    app.wait_status("the workers are stopping", Duration::from_secs(5), |status| {
        status.workers.iter().all(|worker| worker.state == "stopping")
    });
    let started = Instant::now();
    app.signal(Signal::SIGINT);
    app.wait_exit(SOON);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "killed, not waited for: {:?}",
        started.elapsed()
    );
    assert_nothing_left(app.name());
    assert_port_free(PORT);
}

#[test]
fn stop_kills_what_does_not_stop() {
    let _namespace = Namespace::enter();
    let mut app = App::run(
        &["--workers", "2", "--stop-timeout", "1s"],
        &commands::rust(&["--stubborn"]),
    );
    app.ctl(&["stop", "--timeout", "1s"]);
    app.wait_exit(SOON);
    assert_nothing_left(app.name());
    assert_port_free(PORT);
}

#[test]
fn a_stop_under_load_answers_what_is_under_way() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let mut app = App::run(&["--workers", "2"], &commands::rust(&["--slow-ms", "300"]));
    let clients: Vec<_> = (0..16).map(|_| std::thread::spawn(|| get(SERVER, None))).collect();
    app.wait_status("all requests are under way", Duration::from_secs(5), |status| {
        status.workers.iter().map(|worker| worker.accepted_total).sum::<u64>() == 16
    });
    app.ctl(&["stop"]).expect_code(0);
    for client in clients {
        client.join().expect("the client").expect("an answer");
    }
    app.wait_exit(SOON);
    assert_nothing_left(app.name());
}

#[test]
fn a_detached_app_runs_on_and_is_listed() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "2", "--detach"]);
    let output = launch
        .to_end(&commands::rust(&[]), Duration::from_secs(40))
        .expect_code(0);
    let app = App::detached(launch.app_name());
    assert!(
        app.status().all_active(2),
        "--detach returns when all are active; it wrote:\n{}{}",
        output.stdout,
        output.stderr
    );
    get(SERVER, None).expect("an answer");
    let list = run::to_end(controller_command().arg("ls"), SOON).expect_code(0).stdout;
    assert!(list.contains(app.name()), "{list}");
    let controller = app.pid();
    app.stop();
    wait::until("the controller has ended", SOON, || !kernel::is_alive(controller));
    let list = run::to_end(controller_command().arg("ls"), SOON).expect_code(0).stdout;
    assert!(!list.contains(launch.app_name()), "{list}");
}

#[test]
fn a_detached_app_that_does_not_start_says_so() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "2", "-d"]);
    let output = launch
        .to_end(&commands::rust(&["--exit-code", "5"]), Duration::from_secs(60))
        .expect_code(1);
    assert!(output.stderr.contains("exited with code 5"), "{}", output.stderr);
    assert_nothing_left(launch.app_name());
}

#[test]
fn logs_show_what_the_workers_write() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "2"],
        &[
            "/bin/sh",
            "-c",
            &format!(
                "echo to stdout from $REUSE_WORKER_ID; echo to stderr from $REUSE_WORKER_ID >&2; exec {}",
                commands::rust(&[]).join(" ")
            ),
        ],
    );
    let all = app.ctl(&["logs"]).expect_code(0).stdout;
    assert_says(
        &all,
        &[
            "to stdout from 0",
            "to stderr from 0",
            "to stdout from 1",
            "to stderr from 1",
        ],
    );
    let one = app.ctl(&["logs", "1"]).expect_code(0).stdout;
    assert!(one.contains("from 1") && !one.contains("from 0"), "{one}");
    app.stop();
}

#[test]
fn scaling_adds_and_removes_workers_without_loss() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let mut app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let load = Load::start(SERVER, 16, Mode::NewConnections, Duration::from_secs(60));
    for (target, count) in [("+2", 4), ("-3", 1), ("3", 3)] {
        app.ctl(&["scale", target]).expect_code(0);
        app.wait_all_active(count);
        load.wait_for(300, Duration::from_secs(20));
    }
    let report = load.stop();
    report.assert_nothing_failed();
    assert_eq!(app.status().fallbacks, 0);
    app.stop();
}

#[test]
fn the_policy_is_changed_while_it_runs() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4"], &commands::rust(&[]));
    app.ctl(&["policy", "sticky"]).expect_code(0);
    let slots: BTreeSet<_> = (0..20).map(|_| get(SERVER, None).expect("an answer").slot).collect();
    assert_eq!(slots.len(), 1);
    app.ctl(&["policy", "round-robin"]).expect_code(0);
    let slots: BTreeSet<_> = (0..8).map(|_| get(SERVER, None).expect("an answer").slot).collect();
    assert_eq!(slots.len(), 4);
    let shown = app.ctl(&["policy"]).expect_code(0).stdout;
    assert!(shown.contains("round-robin"), "{shown}");
    reconcile(&app, 28);
    app.stop();
}

#[test]
fn the_workers_of_a_killed_controller_serve_on_until_they_are_stopped() {
    let _namespace = Namespace::enter();
    let mut app = App::run(&["--workers", "2", "--policy", "round-robin"], &commands::rust(&[]));
    let name = app.name().to_owned();
    app.signal(Signal::SIGKILL);
    app.wait_exit(Duration::from_secs(5));
    let slots: BTreeSet<_> = (0..4).map(|_| get(SERVER, None).expect("an answer").slot).collect();
    assert_eq!(slots, BTreeSet::from([Some(0), Some(1)]), "still steered");

    let again = Launch::new(&["--workers", "2"]).name(&name);
    again
        .to_end(&commands::rust(&[]), SOON)
        .expect_code(1)
        .expect_complaint(&[&name, "stop"]);
    run::to_end(controller_command().args(["status", "--app", &name]), SOON)
        .expect_code(3)
        .expect_complaint(&[&name]);
    run::to_end(controller_command().args(["stop", "--app", &name]), SOON).expect_code(0);
    assert_nothing_left(&name);
    assert_port_free(PORT);
    let again = again.run(&commands::rust(&[]));
    get(SERVER, None).expect("an answer");
    again.stop();
}

#[test]
fn a_client_that_hangs_up_early_changes_nothing() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    for _ in 0..20 {
        Connection::open(SERVER, None).expect("connect").reset();
    }
    app.wait_status("all connections have ended", Duration::from_secs(5), |status| {
        status.connections() == [0, 0]
    });
    reconcile(&app, 20);
    app.stop();
}

#[test]
fn the_person_behind_sudo_owns_the_app() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let copy = scratch.copy_program(&binaries::reuse_ctl(), "reuse-ctl");
    let server = scratch.copy_program(binaries::test_server().as_ref(), "server");
    let command = [server.to_str().expect("a plain path"), "--listen", "127.0.0.1:8080"];
    let launch = Launch::new(&["--workers", "2"]).directory(scratch.path());
    let app = launch
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534")
        .env("SUDO_USER", "nobody")
        .run(&command);

    let socket = fs::metadata(app.socket()).expect("the control socket");
    assert_eq!((socket.uid(), socket.permissions().mode() & 0o777), (65534, 0o600));
    for pid in app.status().pids().into_iter().flatten() {
        assert_eq!(
            kernel::user_of(i32::try_from(pid).expect("a process id")),
            Some(65534),
            "workers run as the person behind sudo"
        );
    }
    let as_user = |uid, arguments: &[&str]| {
        run::to_end(
            Command::new(&copy)
                .uid(uid)
                .gid(uid)
                .args(arguments)
                .args(["--app", app.name()]),
            SOON,
        )
    };
    as_user(65534, &["drain", "1"]).expect_code(0);
    as_user(65534, &["undrain", "1"]).expect_code(0);
    let stranger = as_user(65533, &["drain", "1"]);
    assert_ne!(stranger.code, Some(0), "another person may not");
    assert!(app.status().all_active(2));
    get(SERVER, None).expect("an answer");
    app.stop();
}

#[test]
fn workers_of_another_user_have_only_the_right_to_low_ports() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let server = scratch.copy_program(binaries::test_server().as_ref(), "server");
    let app = App::run(
        &["--workers", "1", "--user", "nobody"],
        &[server.to_str().expect("a plain path"), "--listen", "127.0.0.1:80"],
    );
    let pid = app.status().pid_of(0);
    assert_eq!(kernel::user_of(pid), Some(65534));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("CapEff")
        .trim();
    // CAP_NET_BIND_SERVICE is number 10.
    assert_eq!(
        u64::from_str_radix(effective, 16).expect("hexadecimal"),
        1 << 10,
        "CapEff {effective}"
    );
    app.stop();
}

#[test]
fn an_interrupt_of_the_terminal_reaches_only_the_controller() {
    let _namespace = Namespace::enter();
    let mut app = App::run(&["--workers", "2"], &commands::rust(&["--slow-ms", "500"]));
    let client = std::thread::spawn(|| get(SERVER, None));
    app.wait_status("the request is under way", Duration::from_secs(5), |status| {
        status.workers.iter().map(|worker| worker.accepted_total).sum::<u64>() == 1
    });
    // As a terminal does: to the whole process group of the foreground job.
    kill(Pid::from_raw(-app.pid()), Signal::SIGINT).expect("signal the process group");
    client
        .join()
        .expect("the client")
        .expect("the request under way is answered");
    assert_eq!(app.wait_exit(SOON).code(), Some(0));
    assert_nothing_left(app.name());
}

#[test]
fn a_listener_of_a_stranger_in_the_group_is_shown() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let mut stranger = Command::new(binaries::test_server())
        .args(["--listen", "127.0.0.1:8080", "--reuse-port"])
        .spawn()
        .expect("start a stranger");
    let pid = stranger.id().to_string();
    app.wait_status("the stranger is shown", SOON, |status| {
        status.groups[0].strangers.iter().any(|line| line.contains(&pid))
    });
    for _ in 0..20 {
        assert_ne!(
            get(SERVER, None).expect("an answer").pid,
            Some(stranger.id()),
            "it gets nothing"
        );
    }
    stranger.kill().expect("kill a child of ours");
    stranger.wait().expect("wait for a child of ours");
    app.wait_status("the stranger is no longer shown", SOON, |status| {
        status.groups[0].strangers.is_empty()
    });
    reconcile(&app, 20);
    app.stop();
}
