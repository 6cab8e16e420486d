//! Messages over the workers' IPC channel: Node, Bun and Python children, those that misbehave, and those that do not care.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::app::controller_command;
use reuse_tests::bus::Bus;
use reuse_tests::events::Events;
use reuse_tests::http::get;
use reuse_tests::scratch::Scratch;
use reuse_tests::status::Status;
use reuse_tests::{App, Launch, Namespace, SERVER, binaries, commands, control, wait};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// Debug builds on busy machines need a while for sixteen megabytes.
const LONG: Duration = Duration::from_secs(60);

const MEBIBYTE: usize = 1024 * 1024;

#[track_caller]
fn send(app: &App, to: &str, message: &Value) {
    app.ctl(&["send", to, &message.to_string()]).expect_code(0);
}

/// Who said what, of one kind of packet.
fn said(packets: &[Value]) -> Vec<(u64, Value)> {
    packets
        .iter()
        .map(|packet| {
            let from = packet["process"]["pm_id"].as_u64().expect("a number");
            (from, packet["data"].clone())
        })
        .collect()
}

fn log_of(app: &App, worker: u16) -> String {
    fs::read_to_string(format!("/var/log/reuse-ctl/{}/worker-{worker}.log", app.name())).unwrap_or_default()
}

#[test]
fn node_bun_and_python_are_ready_hear_and_are_heard() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let file = scratch.path().join("go");
    let launch = Launch::new(&["--workers", "4", "--ready", "ipc"]);
    let ready = format!("ready={}", file.display());
    let mut app = launch.start(&commands::all_messages(&[&ready]));
    // Python says that it is ready at once; the others listen, and are not ready.
    app.wait_status("only Python is active", LONG, |status| {
        status.states() == ["starting", "starting", "starting", "active"]
            && (0..3).all(|worker| log_of(&app, worker).contains("listens"))
    });
    scratch.write("go", "");
    app.wait_all_active(4);
    get(SERVER, None).expect("an answer");

    let bus = Bus::of(&app);
    let message = json!({"hello": ["wörld", 1.5, null]});
    let output = app.ctl(&["send", "all", &message.to_string()]).expect_code(0);
    assert_eq!(output.stdout, "queued for workers 0, 1, 2, 3\n");
    let mut heard = said(&bus.wait_for("heard", 4, SOON));
    heard.sort_by_key(|(from, _)| *from);
    assert_eq!(heard, [0, 1, 2, 3].map(|from| (from, message.clone())));
    let process = &bus.named("heard")[0]["process"];
    assert_eq!(
        (&process["name"], &process["namespace"]),
        (&json!(app.name()), &json!("default"))
    );

    bus.clear();
    app.ctl(&["send", "all", "--topic", "t", "[1]"]).expect_code(0);
    let mut heard = said(&bus.wait_for("heard", 4, SOON));
    heard.sort_by_key(|(from, _)| *from);
    let packet = |id: u64| json!({"id": id, "type": "process:msg", "topic": "t", "data": [1]});
    assert_eq!(heard, [0, 1, 2, 3].map(|id| (id, packet(id))));

    bus.clear();
    app.ctl(&["send", "2", "--text", "it's \"text\""]).expect_code(0);
    assert_eq!(said(&bus.wait_for("heard", 1, SOON)), [(2, json!("it's \"text\""))]);

    // What has no type and data comes raw; "ready" once more is nothing new.
    for message in [json!("ready"), json!({"topic": "chat", "data": {"success": true}})] {
        send(&app, "0", &json!({"do": "say", "message": message}));
    }
    let raw = bus.wait_for("process:msg", 1, SOON);
    assert_eq!(raw[0]["raw"], json!({"topic": "chat", "data": {"success": true}}));

    // From worker to worker, in all directions, unchanged; "all" are the others.
    bus.clear();
    let packet = json!({"type": "process:msg", "id": "all", "topic": "x", "data": {"a": 1}, "more": true});
    for from in 0..4_u64 {
        send(&app, &from.to_string(), &json!({"do": "say", "message": packet}));
        let heard = said(&bus.wait_for("heard", 3, SOON));
        let mut receivers: Vec<u64> = heard.iter().map(|(receiver, _)| *receiver).collect();
        receivers.sort_unstable();
        assert_eq!(receivers, (0..4).filter(|to| *to != from).collect::<Vec<_>>());
        assert!(heard.iter().all(|(_, message)| *message == packet), "{heard:?}");
        bus.clear();
    }
    app.stop();
}

#[test]
fn six_lines_of_python_are_enough() {
    let _namespace = Namespace::enter();
    let command = [binaries::python(), binaries::script("six_lines.py")];
    let app = App::run(&["--ready", "ipc", "--stop-message", "--stop-timeout", "60s"], &command);
    let bus = Bus::of(&app);
    send(&app, "0", &json!({"a": 1}));
    assert_eq!(said(&bus.wait_for("heard", 1, SOON)), [(0, json!({"a": 1}))]);
    let started = Instant::now();
    app.stop();
    assert!(started.elapsed() < Duration::from_secs(30), "it ended by the message");
}

#[test]
fn who_never_says_ready_is_not_ready() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--ready", "ipc", "--ready-timeout", "1s", "--hung-after", "0s"]);
    let mut app = launch.start(&commands::node_plain());
    let status = app.wait_status("its start has failed", SOON, |status| {
        status.states() == ["backing_off"] || status.states() == ["failed"]
    });
    assert!(status.published().is_empty());
    app.ctl(&["stop"]).expect_code(0);
    app.wait_exit(SOON);
}

#[test]
fn a_message_ends_workers_and_the_signal_those_without_a_channel() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4", "--stop-message"], &commands::all_messages(&[]));
    let folder = format!("/var/log/reuse-ctl/{}", app.name());
    let log = move |worker: u16| fs::read_to_string(format!("{folder}/worker-{worker}.log")).unwrap_or_default();
    send(&app, "3", &json!({"do": "close"}));
    wait::until("worker 3 has no channel", SOON, || {
        let refused = app.ctl(&["send", "3", "1"]);
        refused.code == Some(1) && refused.stderr.contains("no channel")
    });
    app.ctl(&["restart", "0"]).expect_code(0);
    wait::until("the old worker 0 has ended by the message", SOON, || {
        log(0).contains("ends by message")
    });
    let started = Instant::now();
    app.stop();
    assert!(started.elapsed() < Duration::from_secs(8), "nobody was killed");
    for worker in 0..3 {
        assert!(log(worker).contains("ends by message"), "{worker}: {}", log(worker));
        assert!(!log(worker).contains("ends by signal"), "{worker}: {}", log(worker));
    }
    assert!(!log(3).contains("ends by"), "Python died of the signal: {}", log(3));
}

#[test]
fn nonsense_and_long_lines_cost_themselves_alone() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4"], &commands::all_messages(&[]));
    let (bus, events) = (Bus::of(&app), Events::of(&app));
    let pids = app.status().pids();

    for text in ["no JSON\n", "\n", "{\"a\":\n", "\u{1}\n", "[1,]\n"] {
        send(&app, "3", &json!({"do": "raw", "text": text}));
    }
    // Node's own messages reach nobody, wherever they come from.
    let internal = json!({"cmd": "NODE_HANDLE_ACK", "type": "process:msg", "id": "all", "data": 1});
    send(&app, "3", &json!({"do": "say", "message": internal}));
    app.ctl(&["send", "all", r#"{"cmd":"NODE_HANDLE"}"#]).expect_code(2);
    // What Bun can't parse, and would be deaf after.
    let deep = [
        "{\"type\":\"process:msg\",\"id\":\"all\",\"data\":",
        &"[".repeat(9000),
        &"]".repeat(9000),
        "}\n",
    ]
    .concat();
    send(&app, "3", &json!({"do": "raw", "text": deep}));
    send(&app, "3", &json!({"do": "raw", "text": "\"split"}));
    send(
        &app,
        "3",
        &json!({"do": "raw", "text": " in two\"\n{\"type\":\"last\",\"data\":1}\n"}),
    );
    bus.wait_for("last", 1, SOON);
    assert_eq!(bus.named("process:msg")[0]["raw"], "split in two");
    let warnings = events.named("warning");
    assert!(
        matches!(&warnings[..], [one] if one.worker == Some(3) && one.message.contains("no JSON")),
        "{warnings:#?}"
    );

    // Sixteen mebibytes are a message, to the bus and to others; one more byte is none.
    send(&app, "3", &json!({"do": "long", "bytes": 16 * MEBIBYTE}));
    let long = bus.wait_for("long", 1, LONG);
    assert!(
        long[0]["data"]
            .as_str()
            .is_some_and(|data| data.len() > 16 * MEBIBYTE - 100)
    );
    send(&app, "3", &json!({"do": "long", "bytes": 16 * MEBIBYTE + 1}));
    send(&app, "3", &json!({"do": "long", "bytes": 40 * MEBIBYTE}));
    send(&app, "3", &json!({"after": 1}));
    let heard = said(&bus.wait_for("heard", 1, LONG));
    assert_eq!(heard, [(3, json!({"after": 1}))], "it goes on");
    assert_eq!(bus.named("long").len(), 1);
    let warnings = events.wait_for("warning", 2, SOON);
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[1].message.contains("longer than 16 MiB"), "{warnings:#?}");

    // Nobody of that name: one more warning, and nothing else.
    for _ in 0..3 {
        let message = json!({"type": "process:msg", "id": 9, "topic": "t", "data": 1});
        send(&app, "0", &json!({"do": "say", "message": message}));
    }
    let warnings = events.wait_for("warning", 3, SOON);
    assert!(
        warnings[2].worker == Some(0) && warnings[2].message.contains("no worker 9"),
        "{warnings:#?}"
    );

    // A long one from outside to everybody.
    bus.clear();
    // They send it back with a little around it.
    let text = format!("\"{}\"\n", "y".repeat(16 * MEBIBYTE - 1024));
    let mut sender = controller_command()
        .args(["send", "all", "-", "--app", app.name()])
        .stdin(Stdio::piped())
        .spawn()
        .expect("reuse-ctl runs");
    let mut input = sender.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    assert!(sender.wait().expect("ours").success());
    let heard = said(&bus.wait_for("heard", 4, LONG));
    assert!(
        heard
            .iter()
            .all(|(_, data)| data.as_str().is_some_and(|data| data.len() == 16 * MEBIBYTE - 1024))
    );
    assert_eq!(app.status().pids(), pids, "nobody died of anything");
    assert_eq!(events.named("warning").len(), 3);
    app.stop();
}

#[test]
fn who_reads_nothing_loses_his_own_messages_and_blocks_nobody() {
    let _namespace = Namespace::enter();
    let line = format!(
        "case $REUSE_WORKER_ID in 1) exec {};; *) exec {};; esac",
        commands::python_http_server(std::path::Path::new("/")).join(" "),
        commands::node_messages(&[]).join(" "),
    );
    let app = App::run(&["--workers", "3"], &["/bin/sh".to_owned(), "-c".into(), line]);
    let (bus, events) = (Bus::of(&app), Events::of(&app));
    // From outside and from a worker, until nothing fits any more.
    let burst = json!({"do": "burst", "to": [1, 2], "count": 100_000});
    send(&app, "0", &burst);
    let long = json!({"message": "z".repeat(4 * MEBIBYTE)}).to_string();
    let mut sent = 0;
    wait::until("no more fits", LONG, || {
        sent += 1;
        let sent = control::request(&app.socket(), "POST", "/v1/workers/1/send", &long);
        let (code, body) = sent.expect("an answer");
        code == 500 && body.contains("does not read its messages")
    });
    let deaf = events.wait_for("deaf", 1, SOON);
    assert_eq!((deaf.len(), deaf[0].worker), (1, Some(1)));
    let refused = app.ctl(&["send", "all", "1"]).expect_code(1);
    assert!(
        refused.stderr.contains("done all the same: worker 0, 2"),
        "{}",
        refused.stderr
    );
    wait::until("worker 2 has got all that was for it", LONG, || {
        bus.clear();
        send(&app, "2", &json!({"do": "report"}));
        let report = bus.wait_for("report", 1, LONG);
        let data = &report[0]["data"];
        assert_eq!(data["disordered"], 0);
        data["count"] == 50_000
    });
    assert_eq!(events.named("deaf").len(), 1, "it is told once");
    assert!(get(SERVER, None).is_ok());
    // A new instance of it can be spoken to again, and what the old one never read is counted.
    app.ctl(&["restart", "1"]).expect_code(0);
    let all = 50_000 + sent + 1;
    let lost = events.wait_for("lost", 1, SOON);
    assert!(
        lost[0].worker == Some(1) && lost[0].message.ends_with(&format!(" up to {all} messages lost")),
        "{lost:#?}"
    );
    app.ctl(&["send", "1", "1"]).expect_code(0);
    app.stop();
}

#[test]
fn what_a_worker_has_not_read_when_it_ends_is_told() {
    let _namespace = Namespace::enter();
    let line = format!(
        "case $REUSE_WORKER_ID in 1) exec {};; *) exec {};; esac",
        commands::python_http_server(std::path::Path::new("/")).join(" "),
        commands::node_messages(&[]).join(" "),
    );
    let app = App::run(&["--workers", "2"], &["/bin/sh".to_owned(), "-c".into(), line]);
    let (bus, events) = (Bus::of(&app), Events::of(&app));
    let pids = app.status().pids();
    // Node reads, and ends; Python never reads.
    for message in 1..=3 {
        send(&app, "all", &json!({"number": message}));
    }
    bus.wait_for("heard", 3, SOON);
    app.ctl(&["reload"]).expect_code(0);
    let pid = pids[1].expect("a process");
    let told = format!("worker 1 (pid {pid}) has ended before it read all that was sent to it: up to 3 messages lost");
    let lost = events.wait_for("lost", 1, SOON);
    assert_eq!(
        (lost[0].worker, lost[0].pid, &lost[0].message),
        (Some(1), Some(pid), &told)
    );
    // The controller's terminal is written to beside it.
    let written = wait::poll(SOON, || app.output().contains(&told).then_some(()));
    assert!(written.is_some(), "{}", app.output());
    // One that crashes, with one message that another worker has sent.
    let stopped = Pid::from_raw(app.status().pid_of(1));
    kill(stopped, Signal::SIGSTOP).expect("ours");
    bus.clear();
    let packet = json!({"type": "process:msg", "id": 1, "topic": "t", "data": 1});
    send(&app, "0", &json!({"do": "say", "message": packet}));
    // What comes after it on the same way has been dealt with, so it has been.
    send(&app, "0", &json!({"after": 1}));
    bus.wait_for("heard", 1, SOON);
    kill(stopped, Signal::SIGKILL).expect("ours");
    let lost = events.wait_for("lost", 2, SOON);
    assert!(
        lost[1].worker == Some(1) && lost[1].message.ends_with("sent to it: 1 message lost"),
        "{lost:#?}"
    );
    app.wait_status("it is back", SOON, |status| status.all_active(2));
    app.stop();
    assert_eq!(
        events.named("lost").len(),
        2,
        "nobody else has lost anything: {:#?}",
        events.named("lost")
    );
}

/// Who serves gets what is sent: the old process until the new one has taken its place, and never one that goes.
#[test]
fn a_message_in_the_middle_of_a_reload_reaches_the_process_that_serves() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let file = scratch.write("go", "");
    let ready = format!("ready={}", file.display());
    let app = App::run(
        &["--workers", "2", "--ready", "ipc"],
        &commands::node_messages(&[&ready]),
    );
    let (bus, events) = (Bus::of(&app), Events::of(&app));
    let who_hears = || {
        bus.clear();
        send(&app, "0", &json!({"do": "who"}));
        bus.wait_for("who", 1, SOON)[0]["data"].as_u64().expect("a number")
    };
    let pid_of = |status: &Status| u64::from(status.pids()[0].expect("a process"));
    let old = pid_of(&app.status());

    fs::remove_file(&file).expect("our file");
    let reload = app.ctl_start(&["reload"]);
    app.wait_status("the new one has come to life beside the old one", SOON, |status| {
        status.worker(0).instances.len() == 2 && log_of(&app, 0).matches("listens").count() == 2
    });
    for _ in 0..3 {
        assert_eq!(who_hears(), old, "the new one does not serve yet");
    }
    scratch.write("go", "");
    reload.join().expect_code(0);
    let new = pid_of(&app.status());
    assert_ne!(new, old);
    assert_eq!(who_hears(), new);

    // Stop-first there is nobody for a while, and then the new one, ready or not.
    fs::remove_file(&file).expect("our file");
    let restart = app.ctl_start(&["restart", "0", "--stop-first"]);
    wait::until("nobody is there, or somebody new", SOON, || {
        let sent = app.ctl(&["send", "0", r#"{"do":"who"}"#]);
        let is_nobody = sent.code == Some(1) && sent.stderr.contains("nothing runs there now");
        assert!(is_nobody || sent.code == Some(0), "{sent:?}");
        !is_nobody && app.status().worker(0).state == "starting"
    });
    let newer = who_hears();
    assert!(newer != new && newer != old);
    scratch.write("go", "");
    restart.join().expect_code(0);
    assert_eq!(pid_of(&app.status()), newer);
    assert_eq!(events.named("warning").len(), 0);
    app.stop();
}

#[test]
fn ten_thousand_messages_between_four_workers_arrive_in_order() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4"], &commands::all_messages(&[]));
    let (bus, events) = (Bus::of(&app), Events::of(&app));
    for worker in 0..4_u64 {
        let others: Vec<u64> = (0..4).filter(|other| *other != worker).collect();
        send(
            &app,
            &worker.to_string(),
            &json!({"do": "burst", "to": others, "count": 2499}),
        );
    }
    // One each is missing to ten thousand.
    for worker in 0..4_u64 {
        let packet = json!({"type": "process:msg", "id": (worker + 1) % 4, "topic": "numbered", "data": {"from": 10 + worker, "n": 1}});
        send(&app, &worker.to_string(), &json!({"do": "say", "message": packet}));
    }
    let mut total = 0;
    wait::until("all have arrived", LONG, || {
        bus.clear();
        send(&app, "all", &json!({"do": "report"}));
        let reports = said(&bus.wait_for("report", 4, SOON));
        assert!(
            reports.iter().all(|(_, report)| report["disordered"] == 0),
            "{reports:?}"
        );
        total = reports.iter().filter_map(|(_, report)| report["count"].as_u64()).sum();
        total >= 10_000
    });
    assert_eq!(total, 10_000);
    assert_eq!(events.named("deaf").len() + events.named("warning").len(), 0);
    app.stop();
}

#[test]
fn messages_follow_a_worker_that_is_restarted() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::node_messages(&[]));
    let (bus, events) = (Bus::of(&app), Events::of(&app));
    send(&app, "0", &json!({"do": "steady", "to": 1}));
    let report = || {
        bus.clear();
        send(&app, "1", &json!({"do": "report"}));
        said(&bus.wait_for("report", 1, SOON))[0].1.clone()
    };
    wait::until("they arrive", SOON, || report()["count"].as_u64() > Some(50));
    for _ in 0..2 {
        let before = report()["seen"]["0"].as_u64().expect("a number");
        app.ctl(&["restart", "1"]).expect_code(0);
        wait::until("they arrive at the new one", SOON, || {
            report()["count"].as_u64() > Some(50)
        });
        let after = report();
        assert!(after["seen"]["0"].as_u64() > Some(before + 50));
        assert_eq!(after["disordered"], 0);
    }
    assert_eq!(events.named("warning").len(), 0, "there is always one to send to");
    let packets = bus.named("process:event");
    assert!(packets.iter().all(|packet| packet["manually"] == true), "{packets:?}");
    app.stop();
}

#[test]
fn who_does_not_care_never_notices() {
    let _namespace = Namespace::enter();
    // A Node or Bun process ends by itself when it has nothing to do, channel or not.
    for runtime in [binaries::node(), binaries::node24(), binaries::bun()] {
        let script = "const s = require('node:http').createServer((q, r) => r.end('x')); \
                      s.listen(8080, '127.0.0.1', () => setTimeout(() => s.close(), 1000))";
        let mut app = Launch::new(&[]).start(&[runtime.as_str(), "-e", script]);
        let status = app.wait_status("it has ended by itself", SOON, |status| {
            status.worker(0).reason.is_some()
        });
        let reason = status.worker(0).reason.clone();
        assert!(
            reason.as_deref().is_some_and(|reason| reason.contains("code 0")),
            "{runtime}: {reason:?}"
        );
        app.ctl(&["stop"]).expect_code(0);
        app.wait_exit(SOON);
    }
    // A Python worker runs Node, which inherits the variable but not the descriptor.
    let app = App::run(&[], &commands::python_messages());
    let bus = Bus::of(&app);
    for (count, node) in [binaries::node(), binaries::node24(), binaries::bun()]
        .into_iter()
        .enumerate()
    {
        send(&app, "0", &json!({"do": "node", "node": node}));
        let done = said(&bus.wait_for("node", count + 1, SOON));
        assert_eq!(done[count].1, json!([0, "fine"]), "{node}");
    }
    app.stop();
}

#[test]
fn the_bus_tells_lives_and_output_in_pm2s_shapes() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::node_messages(&[]));
    let all = app.ctl_start(&["events", "--json"]);
    let people = app.ctl_start(&["events"]);
    let bus = Bus::of(&app);
    let happened = |count: usize| -> Vec<(u64, String, bool)> {
        let packets = bus.wait_for("process:event", count, LONG);
        let packets = packets.iter().map(|packet| {
            assert!(packet["at"].as_u64() > Some(1_700_000_000_000), "{packet}");
            (
                packet["process"]["pm_id"].as_u64().expect("a number"),
                packet["event"].as_str().expect("a word").to_owned(),
                packet["manually"].as_bool().expect("yes or no"),
            )
        });
        packets.collect()
    };
    let events = |list: &[(u64, &str, bool)]| -> Vec<(u64, String, bool)> {
        list.iter()
            .map(|(id, event, manually)| (*id, (*event).to_owned(), *manually))
            .collect()
    };
    app.ctl(&["restart", "1"]).expect_code(0);
    assert_eq!(
        happened(3),
        events(&[(1, "restart", true), (1, "online", true), (1, "exit", true)])
    );
    bus.clear();
    kill(Pid::from_raw(app.status().pid_of(0)), Signal::SIGKILL).expect("ours");
    assert_eq!(
        happened(3),
        events(&[(0, "exit", false), (0, "restart", false), (0, "online", false)])
    );
    bus.clear();
    app.ctl(&["scale", "3"]).expect_code(0);
    assert_eq!(happened(2), events(&[(2, "start", true), (2, "online", true)]));
    // Also the output of a worker that came later.
    wait::until("a line of worker 2", SOON, || {
        let lines = bus.named("log:out");
        lines
            .iter()
            .any(|line| line["process"]["pm_id"] == 2 && line["data"] == "listens\n")
    });
    bus.clear();
    app.ctl(&["scale", "2"]).expect_code(0);
    assert_eq!(
        happened(3),
        events(&[(2, "stop", true), (2, "exit", true), (2, "delete", true)])
    );
    drop(bus);
    app.stop();
    let lines: Vec<Value> = all
        .join()
        .expect_code(0)
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let online = lines
        .iter()
        .filter(|line| line["event"] == "process:event" && line["packet"]["event"] == "online");
    assert!(online.count() >= 2, "{lines:?}");
    assert!(lines.iter().any(|line| line["event"] == "log:out"), "{lines:?}");
    let people = people.join().expect_code(0).stdout;
    assert!(
        people.contains("worker 1 (pid ") && people.lines().all(|line| line.starts_with("20")),
        "{people}"
    );
}

#[test]
fn sending_says_what_is_wrong() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    app.ctl(&["send", "7", "1"])
        .expect_code(3)
        .expect_complaint(&["no worker 7", "status"]);
    app.ctl(&["send", "0", "hello"])
        .expect_code(2)
        .expect_complaint(&["not JSON", "--text"]);
    app.ctl(&["send", "0", r#"{"cmd":"NODE_X"}"#])
        .expect_code(2)
        .expect_complaint(&["NODE_"]);
    app.ctl(&["send", "first", "1"]).expect_code(2);
    let json = app.ctl(&["send", "7", "1", "--json"]).expect_code(3).stdout;
    assert!(
        serde_json::from_str::<Value>(&json).is_ok_and(|answer| answer["ok"] == false),
        "{json}"
    );
    app.stop();
}
