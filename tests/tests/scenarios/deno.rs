//! Deno: its servers share a port and are replaced without a loss, and its workers have the message channel.

use std::fs;
use std::time::{Duration, Instant};

use reuse_tests::bus::Bus;
use reuse_tests::events::Events;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::get;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, SERVER, commands, wait};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
const THREE: [&str; 4] = ["--workers", "3", "--policy", "round-robin"];
const CLIENTS: u16 = 16;
const RELOADS: u64 = 5;

/// So that somebody is always being answered when a worker is told to stop.
const BUSY: [&str; 1] = ["delay=50"];

/// Far below the ten seconds that a worker is given to end.
const PROMPT: Duration = Duration::from_secs(8);

/// Worker 0 is Node's `messages.js` on Deno, worker 1 `Deno.serve`, worker 2 `deno serve`, worker 3 Node 24.
fn deno_and_node(options: &[&str]) -> [String; 3] {
    let line = format!(
        "case $REUSE_WORKER_ID in 0) exec {};; 1) exec {};; 2) exec {};; *) exec {};; esac",
        commands::deno_messages(options).join(" "),
        commands::deno_server(options).join(" "),
        commands::deno_serve(&[], options).join(" "),
        commands::node_messages(options).join(" "),
    );
    ["/bin/sh".into(), "-c".into(), line]
}

#[track_caller]
fn send(app: &App, to: &str, message: &Value) {
    app.ctl(&["send", to, &message.to_string()]).expect_code(0);
}

/// Who told the bus `heard`, and what, in the order of workers.
#[track_caller]
fn heard(bus: &Bus, count: usize) -> Vec<(u64, Value)> {
    let packets = bus.wait_for("heard", count, SOON);
    let mut heard: Vec<_> = packets
        .iter()
        .map(|packet| {
            (
                packet["process"]["pm_id"].as_u64().expect("a number"),
                packet["data"].clone(),
            )
        })
        .collect();
    heard.sort_by_key(|(from, _)| *from);
    bus.clear();
    heard
}

fn log_of(app: &App, worker: u16) -> String {
    fs::read_to_string(format!("/var/log/reuse-ctl/{}/worker-{worker}.log", app.name())).unwrap_or_default()
}

#[test]
fn deno_workers_are_ready_hear_are_heard_and_end_by_a_message() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let ready = format!("ready={}", scratch.path().join("go").display());
    let launch = Launch::new(&[
        "--workers",
        "4",
        "--ready",
        "ipc",
        "--stop-message",
        "--stop-timeout",
        "60s",
    ]);
    let mut app = launch.start(&deno_and_node(&[&ready]));
    app.wait_status("all listen, and nobody is ready", LONG, |status| {
        status.states() == ["starting"; 4] && (0..4).all(|worker| log_of(&app, worker).contains("listens"))
    });
    scratch.write("go", "");
    app.wait_all_active(4);
    let (bus, events) = (Bus::of(&app), Events::of(&app));

    // In and out.
    let message = json!({"hello": ["wörld", 1.5, null, {"deep": [[]]}]});
    send(&app, "all", &message);
    assert_eq!(heard(&bus, 4), [0, 1, 2, 3].map(|from| (from, message.clone())));
    let long = "y".repeat(4 * 1024 * 1024);
    send(&app, "1", &json!({"do": "long", "bytes": long.len()}));
    let told = bus.wait_for("long", 1, SOON);
    assert_eq!(told[0]["data"].as_str().map(str::len), Some(long.len()));
    bus.clear();

    // From each to all others.
    let packet = json!({"type": "process:msg", "id": "all", "topic": "x", "data": {"a": 1}});
    for from in 0..4_u64 {
        send(&app, &from.to_string(), &json!({"do": "say", "message": packet}));
        let others = (0..4).filter(|to| *to != from).map(|to| (to, packet.clone()));
        assert_eq!(heard(&bus, 3), others.collect::<Vec<_>>());
    }

    // A long one, to each of them.
    let long = json!({ "type": "process:msg", "id": "all", "data": long });
    send(
        &app,
        "3",
        &json!({"do": "say", "message": {"type": "process:msg", "id": 0, "data": 1}}),
    );
    heard(&bus, 1);
    app.ctl(&["restart", "3"]).expect_code(0);
    let file = scratch.write("long", &long.to_string());
    let sender = std::process::Command::new(reuse_tests::binaries::reuse_ctl())
        .args(["send", "all", "-", "--app", app.name()])
        .stdin(fs::File::open(file).expect("a file just written"))
        .status();
    assert!(sender.is_ok_and(|status| status.success()));
    assert!(heard(&bus, 4).iter().all(|(_, data)| *data == long));

    let started = Instant::now();
    app.ctl(&["reload"]).expect_code(0);
    for worker in 0..4 {
        wait::until("it has ended by the message", SOON, || {
            log_of(&app, worker).contains("ends by message")
        });
        assert!(!log_of(&app, worker).contains("ends by signal"));
    }
    assert!(started.elapsed() < Duration::from_secs(50), "nobody was killed");
    for bad in ["warning", "deaf", "lost"] {
        assert_eq!(events.named(bad).len(), 0, "{:#?}", events.named(bad));
    }
    app.stop();
}

#[test]
fn messages_between_deno_workers_arrive_in_order() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "3"], &commands::deno_messages(&[]));
    let bus = Bus::of(&app);
    for worker in 0..3_u64 {
        let others: Vec<u64> = (0..3).filter(|other| *other != worker).collect();
        let burst = json!({"do": "burst", "to": others, "count": 2000});
        send(&app, &worker.to_string(), &burst);
    }
    wait::until("all have arrived", LONG, || {
        bus.clear();
        send(&app, "all", &json!({"do": "report"}));
        let reports = bus.wait_for("report", 3, SOON);
        assert!(
            reports.iter().all(|report| report["data"]["disordered"] == 0),
            "{reports:?}"
        );
        reports.iter().all(|report| report["data"]["count"] == 2000)
    });
    app.stop();
}

/// Thirty requests, ten for each of three workers.
#[track_caller]
fn share_the_port(command: &[String]) {
    let app = App::run(&THREE, command);
    for number in 0..30 {
        get(SERVER, None).unwrap_or_else(|failure| panic!("request {number}: {failure}"));
    }
    let status = reconcile(&app, 30);
    let established: Vec<_> = status.workers.iter().map(|worker| worker.established_total).collect();
    assert_eq!(established, [10; 3], "{command:?}");
    app.stop();
}

#[test]
fn three_deno_servers_share_a_port_with_and_without_the_option() {
    let _namespace = Namespace::enter();
    share_the_port(&commands::deno_plain(&[]));
    share_the_port(&commands::deno_reuse_port());
}

#[test]
fn three_of_deno_serve_share_a_port_also_with_threads() {
    let _namespace = Namespace::enter();
    share_the_port(&commands::deno_serve(&[], &[]));
    share_the_port(&commands::deno_serve(&["--parallel"], &[]));
}

#[track_caller]
fn reload_under_load(options: &[&str], command: &[String], mode: Mode) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&[&["--workers", "2", "--settle", "0s"], options].concat(), command);
    let load = Load::start_with_pause(
        SERVER,
        CLIENTS,
        mode,
        Duration::from_secs(120),
        Duration::from_millis(2),
    );
    for _ in 0..RELOADS {
        load.wait_for(300, LONG);
        let reload = app.ctl(&["reload"]).expect_code(0);
        assert!(reload.took < PROMPT, "somebody had to be killed: {:?}", reload.took);
    }
    load.wait_for(300, LONG);
    let report = load.stop();
    println!(
        "{} {mode:?}: {} requests over {RELOADS} reloads, {} failed, {} retried, {} connections",
        command[4..].join(" "),
        report.answered,
        report.failures(),
        report.retried,
        report.connections
    );
    report.assert_nothing_failed();
    assert!(report.by_pid.len() as u64 >= 2 * RELOADS, "{:?}", report.by_pid);
    reconcile(&app, report.connections);
    assert_all_ended(&app);
    app.stop();
}

#[test]
fn reloads_of_deno_lose_no_connection() {
    reload_under_load(&[], &commands::deno_server(&BUSY), Mode::NewConnections);
}

#[test]
fn reloads_of_deno_lose_no_request_of_keep_alive_clients() {
    reload_under_load(&[], &commands::deno_server(&BUSY), Mode::KeepAlive);
}

#[test]
fn reloads_of_deno_serve_lose_no_connection() {
    reload_under_load(&[], &commands::deno_serve(&[], &BUSY), Mode::NewConnections);
}

#[test]
fn reloads_of_deno_serve_lose_no_request_of_keep_alive_clients() {
    reload_under_load(&[], &commands::deno_serve(&[], &BUSY), Mode::KeepAlive);
}

/// Deno catches SIGTERM, and dies of it if the program does not listen for it: no waiting first, as for others that do not catch it.
/// A signal that nobody can catch is sent when the connections have gone.
#[test]
fn reloads_of_a_deno_server_that_listens_for_no_signal_want_one_that_is_not_caught() {
    let without = ["--stop-signal", "SIGKILL"];
    reload_under_load(&without, &commands::deno_plain(&BUSY), Mode::NewConnections);
}
