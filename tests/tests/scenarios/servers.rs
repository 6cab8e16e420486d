//! Servers that never heard of any of this share a port.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::binaries::{python, script};
use reuse_tests::http::get;
use reuse_tests::reconcile::reconcile;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Namespace, PORT, SERVER, commands, kernel, wait};

const THREE: [&str; 4] = ["--workers", "3", "--policy", "round-robin"];

/// Thirty requests, ten for each of three workers; returns the app for more questions.
#[track_caller]
fn share_the_port(options: &[&str], command: &[String]) -> App {
    let app = App::run(options, command);
    for number in 0..30 {
        get(SERVER, None).unwrap_or_else(|failure| panic!("request {number}: {failure}"));
    }
    let status = reconcile(&app, 30);
    let accepted: Vec<_> = status.workers.iter().map(|worker| worker.accepted_total).collect();
    let directed = status.verdicts().directed;
    assert_eq!(accepted.iter().sum::<u64>(), 30 + directed);
    assert!(
        accepted.iter().all(|count| (10..=10 + directed).contains(count)),
        "{accepted:?}, {directed} of them directed"
    );
    app
}

#[test]
fn three_python_http_servers() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    folder.write("index.html", "hello\n");
    share_the_port(&THREE, &commands::python_http_server(folder.path())).stop();
}

#[test]
fn three_plain_node_servers() {
    let _namespace = Namespace::enter();
    share_the_port(&THREE, &commands::node_plain()).stop();
}

#[test]
fn three_plain_bun_servers() {
    let _namespace = Namespace::enter();
    share_the_port(&THREE, &commands::bun_plain()).stop();
}

#[test]
fn three_bun_servers_that_set_reuse_port_themselves() {
    let _namespace = Namespace::enter();
    share_the_port(&THREE, &commands::bun_reuse_port(&[])).stop();
}

#[test]
fn three_asyncio_servers_with_and_without_the_option() {
    let _namespace = Namespace::enter();
    share_the_port(&THREE, &commands::python_asyncio(&[])).stop();
    share_the_port(&THREE, &commands::python_asyncio(&["reuse-port"])).stop();
}

#[test]
fn an_mptcp_listener_falls_back_to_tcp_as_go_does() {
    let _namespace = Namespace::enter();
    let available = fs::read_to_string("/proc/sys/net/mptcp/enabled")
        .expect("this kernel knows MPTCP: the test is worth something");
    assert_eq!(available.trim(), "1");
    let app = share_the_port(&THREE, &commands::mptcp_listener());
    let logs = app.ctl(&["logs", "0"]).expect_code(0).stdout;
    assert!(
        logs.contains("MPTCP refused") && logs.contains("listening with TCP"),
        "{logs}"
    );
    app.stop();
}

#[test]
fn inherited_listeners() {
    let _namespace = Namespace::enter();
    let mut options = THREE.to_vec();
    let address = SERVER.to_string();
    options.extend(["--listen", &address]);
    share_the_port(&options, &commands::rust_inherited()).stop();
}

#[test]
fn two_ports_are_two_groups() {
    let _namespace = Namespace::enter();
    let app = App::run(&THREE, &commands::rust(&["--listen", "127.0.0.1:8081"]));
    let second = "127.0.0.1:8081".parse().expect("an address");
    for _ in 0..15 {
        get(SERVER, None).expect("an answer on the first port");
        get(second, None).expect("an answer on the second port");
    }
    let status = reconcile(&app, 30);
    let groups: Vec<_> = status
        .groups
        .iter()
        .map(|group| (group.addr.as_str(), group.protocol.as_str(), group.verdicts.chosen))
        .collect();
    assert_eq!(groups, [("127.0.0.1:8080", "tcp", 15), ("127.0.0.1:8081", "tcp", 15)]);
    app.stop();
}

/// When the only worker of two ports dies, its listeners close one after the other: neither port may be given up for that.
#[test]
fn both_ports_are_held_while_the_only_worker_is_started_again() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1"], &commands::rust(&["--listen", "127.0.0.1:8081"]));
    let second = "127.0.0.1:8081".parse().expect("an address");
    for crash in 1..=3 {
        let before = app.status().pids();
        let pid = before[0].expect("an active worker has a process");
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("kill the worker");
        // What it accepts before the signal reaches it is lost with it.
        wait::until("the worker is dead", Duration::from_secs(5), || {
            !kernel::is_alive(pid.cast_signed())
        });
        get(second, None).expect("an answer on the second port");
        get(SERVER, None).expect("an answer on the first port");
        let status = app.wait_status("the worker is active again", Duration::from_secs(20), |status| {
            status.all_active(1) && status.pids() != before
        });
        assert_eq!(status.groups.len(), 2, "after crash {crash}: {status:#?}");
    }
    app.stop();
}

/// A server that has crashed opens one listener after the other when it starts again: the later one is no port that it has left.
#[test]
fn who_waits_at_a_port_that_opens_late_is_answered_after_a_crash() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1"], &[python(), script("late_port.py")]);
    let second = "127.0.0.1:8081".parse().expect("an address");
    app.wait_status("both ports are there", Duration::from_secs(20), |status| {
        status.groups.len() == 2
    });
    get(second, None).expect("an answer on the second port");
    let pid = app.status().pid_of(0);
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill the worker");
    wait::until("the worker is dead", Duration::from_secs(5), || !kernel::is_alive(pid));
    get(second, None).expect("an answer on the second port");
    get(SERVER, None).expect("an answer on the first port");
    assert_eq!(app.status().groups.len(), 2);
    app.stop();
}

#[test]
fn a_port_that_the_kernel_chooses_is_left_alone() {
    let _namespace = Namespace::enter();
    let app = App::run(&THREE, &commands::rust(&["--listen", "127.0.0.1:0"]));
    let status = app.status();
    assert_eq!(
        status
            .groups
            .iter()
            .map(|group| group.addr.as_str())
            .collect::<Vec<_>>(),
        ["127.0.0.1:8080"]
    );
    app.stop();
}

#[test]
fn a_listener_that_goes_and_comes_back_is_noticed() {
    let _namespace = Namespace::enter();
    let app = App::run(&THREE, &commands::rust(&["--toggle"]));
    let pid = app.status().pid_of(1);
    kill(Pid::from_raw(pid), Signal::SIGUSR1).expect("signal the worker");
    app.wait_status("worker 1 is no longer active", Duration::from_secs(5), |status| {
        status.worker(1).state != "active"
    });
    for _ in 0..12 {
        let answer = get(SERVER, None).expect("the others answer");
        assert_ne!(answer.slot, Some(1));
    }
    assert!(kernel::is_alive(pid), "it only closed its listener");
    kill(Pid::from_raw(pid), Signal::SIGUSR1).expect("signal the worker");
    app.wait_status("worker 1 is active again", Duration::from_secs(5), |status| {
        status.worker(1).state == "active"
    });
    assert_eq!(app.status().pid_of(1), pid, "the same process");
    let slots: Vec<_> = (0..3).map(|_| get(SERVER, None).expect("an answer").slot).collect();
    assert!(slots.contains(&Some(1)), "it is chosen again: {slots:?}");
    reconcile(&app, 15);
    app.stop();
}

#[test]
fn workers_know_who_they_are() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &THREE,
        &[
            "/bin/sh",
            "-c",
            &format!(
                "echo I am $REUSE_APP $REUSE_WORKER_ID $NODE_APP_INSTANCE $GODEBUG; exec {}",
                commands::rust(&[]).join(" ")
            ),
        ],
    );
    for slot in ["0", "1", "2"] {
        let logs = app.ctl(&["logs", slot]).expect_code(0).stdout;
        assert!(
            logs.contains(&format!("I am {} {slot} {slot} multipathtcp=0", app.name())),
            "{logs}"
        );
    }
    assert_eq!(
        kernel::listening_processes(PORT).len(),
        4,
        "three workers, and the controller's backstop listener"
    );
    app.stop();
}
