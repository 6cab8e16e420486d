//! The control socket is plain HTTP: `curl --unix-socket` is a client.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reuse_tests::bus::Bus;
use reuse_tests::http::get;
use reuse_tests::{App, Launch, Namespace, SERVER, binaries, commands, run};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// The HTTP status and the JSON of the answer.
#[track_caller]
fn curl(app: &App, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    curl_with(Command::new("curl"), app, method, path, body)
}

#[track_caller]
fn curl_with(mut command: Command, app: &App, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    command
        .args(["--silent", "--show-error", "--unix-socket"])
        .arg(app.socket())
        .args(["--request", method, "--write-out", "\n%{http_code}"]);
    if let Some(body) = body {
        command.args([
            "--header",
            "Content-Type: application/json",
            "--data",
            &body.to_string(),
        ]);
    }
    command.arg(format!("http://localhost{path}"));
    let output = run::to_end(&mut command, LIMIT).expect_code(0).stdout;
    let (body, code) = output.trim_end().rsplit_once('\n').expect("a body and a code");
    (
        code.parse().expect("a code"),
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{method} {path}: {error} in {body}")),
    )
}

#[track_caller]
fn done(answer: &(u16, Value)) {
    assert_eq!((answer.0, &answer.1["ok"]), (200, &json!(true)), "{answer:?}");
}

#[track_caller]
fn refused(answer: &(u16, Value), code: u16) {
    assert_eq!((answer.0, &answer.1["ok"]), (code, &json!(false)), "{answer:?}");
    assert!(
        answer.1["error"].is_string() && answer.1["hint"].is_string(),
        "{answer:?}"
    );
}

#[test]
fn every_request_works_with_curl() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2", "--policy", "round-robin"], &commands::rust(&[]));
    get(SERVER, None).expect("an answer");

    let (code, status) = curl(&app, "GET", "/v1/status", None);
    assert_eq!(code, 200);
    assert_eq!(
        (&status["app"], &status["policy"]),
        (&json!(app.name()), &json!("round-robin"))
    );
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(2));
    assert_eq!(status["groups"][0]["addr"], json!("127.0.0.1:8080"));

    done(&curl(&app, "POST", "/v1/workers/1/drain", None));
    assert_eq!(app.status().states(), ["active", "drained"]);
    done(&curl(
        &app,
        "POST",
        "/v1/workers/1/drain",
        Some(&json!({"no_wait": true, "timeout_ms": 1000})),
    ));
    done(&curl(&app, "POST", "/v1/workers/1/undrain", None));
    done(&curl(
        &app,
        "POST",
        "/v1/workers/0/restart",
        Some(&json!({"stop_first": true})),
    ));
    done(&curl(&app, "POST", "/v1/reload", None));
    done(&curl(&app, "PUT", "/v1/workers", Some(&json!({"workers": "+1"}))));
    assert!(app.status().all_active(3));
    done(&curl(&app, "PUT", "/v1/policy", Some(&json!({"policy": "hash"}))));
    assert_eq!(app.status().policy, "hash");

    let weight = |weight: &str| curl(&app, "PUT", "/v1/workers/1/weight", Some(&json!({ "weight": weight })));
    done(&weight("12.5%"));
    assert_eq!(app.status().worker(1).weight.as_deref(), Some("12.5%"));
    done(&weight("auto"));
    assert_eq!(app.status().worker(1).weight, None);
    refused(&weight("12.5"), 400);

    let canary = json!({"weight": "5%", "command": commands::rust(&["--label", "canary"])});
    done(&curl(&app, "POST", "/v1/canary", Some(&canary)));
    assert!(app.status().worker(3).canary);
    done(&curl(&app, "POST", "/v1/canary/abort", None));
    assert!(app.status().all_active(3));
    refused(&curl(&app, "POST", "/v1/canary/promote", None), 500);
    refused(&curl(&app, "POST", "/v1/canary", Some(&json!({"weight": "5%"}))), 400);

    refused(&curl(&app, "POST", "/v1/workers/9/drain", None), 404);
    refused(
        &curl(&app, "PUT", "/v1/workers/9/weight", Some(&json!({"weight": "5%"}))),
        404,
    );
    refused(
        &curl(&app, "POST", "/v1/workers/9/get", Some(&json!({"path": "/"}))),
        404,
    );
    refused(&curl(&app, "POST", "/v1/workers/nine/drain", None), 404);
    refused(&curl(&app, "PUT", "/v1/policy", Some(&json!({"policy": "fair"}))), 400);
    refused(&curl(&app, "PUT", "/v1/workers", Some(&json!({"workers": "0"}))), 400);
    refused(&curl(&app, "PUT", "/v1/workers", Some(&json!({"wrong": "field"}))), 400);
    refused(&curl(&app, "GET", "/v1/nothing", None), 404);
    done(&curl(&app, "POST", "/v1/stop", None));
    let mut app = app;
    app.wait_exit(Duration::from_secs(20));
    reuse_tests::leftovers::assert_nothing_left(app.name());
}

/// Has a validator of OpenAPI judge the document, and whether the answers (method, path as described, status, body) fit it.
fn judged(scratch: &Path, document: &Value, answers: &[(&str, &str, (u16, Value))]) -> run::Output {
    let answers: Vec<Value> = answers
        .iter()
        .map(|(method, path, (status, body))| json!({"method": method, "path": path, "status": status, "body": body}))
        .collect();
    let file = scratch.join("answers.json");
    fs::write(&file, json!({"document": document, "answers": answers}).to_string()).expect("write what is judged");
    let mut node = Command::new(binaries::node());
    node.arg(binaries::script("openapi-check.mjs")).arg(&file);
    run::to_end(&mut node, LIMIT)
}

#[test]
fn the_controller_describes_what_it_answers() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2", "--control-group", "nogroup"], &commands::rust(&[]));
    let mut member = Command::new("curl");
    member.uid(65534).gid(65534);
    let (code, document) = curl_with(member, &app, "GET", "/v1/openapi.json", None);
    assert_eq!(code, 200, "whoever may ask for the status gets it");
    let drain = "/v1/workers/{id}/drain";
    let one_more = |spec: &Value| {
        let mut spec = spec["spec"].clone();
        let arguments = spec["arguments"].as_array_mut().expect("a list");
        arguments.retain(|argument| argument != "--workers=2");
        arguments.insert(0, json!("--workers=3"));
        json!({ "spec": spec, "dry_run": true })
    };
    let spec = curl(&app, "GET", "/v1/spec", None);
    let changed = curl(&app, "PUT", "/v1/spec", Some(&one_more(&spec.1)));
    let change = &changed.1["changes"][0];
    assert_eq!(
        (&change["takes_effect"], &change["way"]),
        (&json!("scale"), &json!("scale"))
    );
    let answers = [
        ("GET", "/v1/openapi.json", (code, document.clone())),
        ("GET", "/v1/status", curl(&app, "GET", "/v1/status", None)),
        ("GET", "/v1/spec", spec),
        ("PUT", "/v1/spec", changed),
        ("POST", drain, curl(&app, "POST", "/v1/workers/1/drain", None)),
        ("POST", drain, curl(&app, "POST", "/v1/workers/9/drain", None)),
        (
            "POST",
            drain,
            curl(&app, "POST", "/v1/workers/0/drain", Some(&json!({"in": 3}))),
        ),
        ("POST", drain, curl(&app, "POST", "/v1/workers/0/drain", None)),
        ("GET", "/v1/status", curl(&app, "GET", "/v1/status", None)),
    ];
    let codes: Vec<u16> = answers.iter().map(|(_, _, (code, _))| *code).collect();
    assert_eq!(codes, [200, 200, 200, 200, 200, 404, 400, 500, 200]);
    let scratch = reuse_tests::scratch::Scratch::new();
    judged(scratch.path(), &document, &answers).expect_code(0);

    let mut strange = answers[4].clone();
    strange.2.1["workers"] = json!("1");
    let told = judged(scratch.path(), &document, &[strange]).expect_code(1);
    assert!(told.stderr.contains("must be array"), "{}", told.stderr);
    let mut wrong = document;
    wrong["paths"]["/v1/status"]["get"]["responses"] = json!([]);
    judged(scratch.path(), &wrong, &[]).expect_code(1);
    app.stop();
}

#[test]
fn a_workers_own_answer_is_told_from_a_refusal_by_its_header() {
    let _namespace = Namespace::enter();
    let scratch = reuse_tests::scratch::Scratch::new();
    scratch.write("there.txt", "it is there\n");
    let app = App::run(&["--workers", "2"], &commands::python_http_server(scratch.path()));
    let get = |worker: &str, path: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--unix-socket"]);
        command
            .arg(app.socket())
            .args(["--data", &json!({ "path": path }).to_string()]);
        command.arg(format!("http://localhost/v1/workers/{worker}/get"));
        let output = run::to_end(&mut command, LIMIT).expect_code(0).stdout;
        let (head, body) = output.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_lowercase(), body.to_owned())
    };
    let (head, body) = get("1", "/there.txt");
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("\r\nreuse-worker: 1"),
        "{head}"
    );
    assert!(head.contains("\r\ncontent-type: text/plain"), "{head}");
    assert_eq!(body, "it is there\n");
    let (head, body) = get("0", "/nowhere.txt");
    assert!(
        head.starts_with("http/1.1 404 ") && head.contains("\r\nreuse-worker: 0"),
        "{head}"
    );
    assert!(body.contains("File not found"), "{body}");
    let (head, _) = get("9", "/there.txt");
    assert!(
        head.starts_with("http/1.1 404 ") && !head.contains("reuse-worker"),
        "{head}"
    );
    app.stop();
}

#[test]
fn who_may_drive_an_app_may_not_start_commands() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2", "--control-group", "nogroup"], &commands::rust(&[]));
    let member = || {
        let mut command = Command::new("curl");
        command.uid(65534).gid(65534);
        command
    };
    done(&curl_with(member(), &app, "POST", "/v1/workers/1/drain", None));
    done(&curl_with(member(), &app, "POST", "/v1/workers/1/undrain", None));
    let scratch = reuse_tests::scratch::Scratch::new();
    let file = scratch.path().join("a-member-was-here");
    let canary = json!({"weight": "5%", "command": ["/bin/touch", &file]});
    let answer = curl_with(member(), &app, "POST", "/v1/canary", Some(&canary));
    refused(&answer, 500);
    assert_eq!(answer.1["kind"], json!("failed"), "{answer:?}");
    assert!(answer.1.to_string().contains("only root may start one"), "{answer:?}");
    assert!(!file.exists() && app.status().all_active(2), "nothing was started");
    app.stop();
}

#[test]
fn a_drain_that_runs_out_of_time_is_a_gateway_timeout() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2", "--policy", "round-robin"], &commands::rust(&[]));
    let mut held = reuse_tests::http::Connection::open(SERVER, None).expect("connect");
    let slot = held
        .get(false)
        .expect("an answer")
        .slot
        .expect("the server names its slot");
    refused(
        &curl(
            &app,
            "POST",
            &format!("/v1/workers/{slot}/drain"),
            Some(&json!({"timeout_ms": 300})),
        ),
        504,
    );
    drop(held);
    app.stop();
}

#[test]
fn a_stopped_controller_is_told_of_and_not_waited_for() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2", "--policy", "round-robin"], &commands::rust(&[]));
    let mut held = reuse_tests::http::Connection::open(SERVER, None).expect("connect");
    let slot = held.get(false).expect("an answer").slot.expect("it names its slot");
    let under_way = app.ctl_start(&["drain", &slot.to_string(), "--timeout", "80s"]);
    app.wait_status("the drain is under way", LIMIT, |status| {
        status.worker(slot).state == "draining"
    });
    let pid = app.pid();
    app.signal(nix::sys::signal::Signal::SIGSTOP);
    let verbs = [
        vec!["status"],
        vec!["status", "--watch"],
        vec!["drain", "1", "--force"],
        vec!["undrain", "1"],
        vec!["reload"],
        vec!["scale", "+1"],
        vec!["policy", "hash"],
        vec!["get", "1", "/"],
        vec!["send", "1", "{}"],
        vec!["events"],
        vec!["events", "--bus"],
        vec!["stop"],
    ];
    let started: Vec<_> = verbs.iter().map(|verb| app.ctl_start(verb)).collect();
    let wake = format!("kill -CONT {pid}");
    for verb in started.into_iter().chain([under_way]) {
        let output = verb.join().expect_code(1);
        assert!(output.took < Duration::from_secs(40), "{output:?}");
        let is_progress = |line: &&str| line.starts_with(&format!("worker {slot}: 1 connection left"));
        let lines: Vec<&str> = output.stderr.lines().filter(|line| !is_progress(line)).collect();
        assert!(
            matches!(lines[..], [reason, next] if reason.contains("does not answer") && next.contains(&wake)),
            "{lines:?}"
        );
    }
    let listed = app.ctl(&["ls"]).expect_code(0).stdout;
    assert!(listed.contains("does not answer: it was suspended"), "{listed}");
    app.ctl(&["logs"]);
    app.signal(nix::sys::signal::Signal::SIGCONT);
    // The drain was asked for before; nothing else is carried out now.
    app.wait_status("the drain goes on", LIMIT, |status| {
        status.worker(slot).state == "draining"
    });
    drop(held);
    app.wait_status("it is done", LIMIT, |status| status.worker(slot).state == "drained");
    let status = app.status();
    assert_eq!((status.workers.len(), status.policy.as_str()), (2, "round-robin"));
    assert_eq!(status.worker(1 - slot).state, "active");
    app.stop();
}

#[test]
fn hints_can_be_pasted_when_several_apps_run() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1"], &commands::rust(&[]));
    let other = App::run(&["--workers", "1", "--ready", "started"], &["/bin/sleep", "1000"]);
    let refused = app.ctl(&["drain", "7"]).expect_code(3).stderr;
    let command = format!("`reuse-ctl status --app {}`", app.name());
    assert!(refused.contains(&command), "{refused}");
    let named = app.ctl(&["logs", app.name()]).expect_code(2);
    assert!(
        named.stderr.contains(&format!("`reuse-ctl logs --app {}`", app.name())),
        "{}",
        named.stderr
    );
    let all = app.ctl(&["logs", "all"]).expect_code(0).stdout;
    assert_eq!(all, app.ctl(&["logs"]).expect_code(0).stdout);
    other.stop();
    app.stop();
}

#[test]
fn events_are_streamed() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let scratch = reuse_tests::scratch::Scratch::new();
    let file = scratch.path().join("events");
    let output = fs::File::create(&file).expect("create a file");
    let mut curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--unix-socket"])
        .arg(app.socket())
        .arg("http://localhost/v1/events")
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .expect("start curl");
    let events = || -> Vec<Value> {
        fs::read_to_string(&file)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok())
            .collect()
    };
    // The stream may not be open yet when a first event happens: restart until one is seen.
    reuse_tests::wait::until("an event is seen", LIMIT, || {
        app.ctl(&["restart", "1"]).expect_code(0);
        events()
            .iter()
            .any(|event| event["event"] == "active" && event["worker"] == 1)
    });
    let seen = events();
    assert!(
        seen.iter()
            .all(|event| event["at_ms"].is_u64() && event["message"].is_string()),
        "{seen:?}"
    );
    curl.kill().expect("kill a child of ours");
    curl.wait().expect("wait for a child of ours");
    app.stop();
}

#[test]
fn the_controllers_own_events_are_on_the_bus_and_in_json() {
    let _namespace = Namespace::enter();
    let app = Launch::new(&["--workers", "1"]).own_session().run(&commands::rust(&[]));
    let bus = Bus::of(&app);
    let scratch = reuse_tests::scratch::Scratch::new();
    let file = scratch.path().join("events");
    let mut events = reuse_tests::app::controller_command()
        .args(["events", "--json", "--app", app.name()])
        .stdout(fs::File::create(&file).expect("create a file"))
        .spawn()
        .expect("start reuse-ctl");
    let warned = || -> Option<Value> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["event"] == "reuse:warning")
    };
    // It may not listen yet.
    reuse_tests::wait::until("a warning is seen", LIMIT, || {
        app.signal(nix::sys::signal::Signal::SIGTTOU);
        warned().is_some()
    });
    let packet = &warned().expect("seen above")["packet"];
    assert_eq!(packet["event"], "warning");
    assert!(
        packet["at_ms"].is_u64()
            && packet["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("SIGTTOU: "))
    );
    assert!(!bus.named("reuse:warning").is_empty());
    app.ctl(&["restart", "0"]).expect_code(0);
    assert_eq!(bus.wait_for("reuse:active", 1, LIMIT)[0]["worker"], 0);
    events.kill().expect("kill a child of ours");
    events.wait().expect("wait for a child of ours");
    app.stop();
}

#[test]
fn the_socket_is_the_owners_alone_unless_a_group_is_named() {
    let _namespace = Namespace::enter();
    let alone = App::run(&["--workers", "1"], &commands::rust(&[]));
    let metadata = fs::metadata(alone.socket()).expect("the control socket");
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (0, 0o600));
    alone.stop();
    let shared = App::run(&["--workers", "1", "--control-group", "nogroup"], &commands::rust(&[]));
    let metadata = fs::metadata(shared.socket()).expect("the control socket");
    assert_eq!((metadata.gid(), metadata.permissions().mode() & 0o777), (65534, 0o660));
    shared.stop();
}

#[test]
fn verbs_answer_in_json_when_asked() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let json = |arguments: &[&str], code| -> Value {
        let output = app.ctl(&[arguments, &["--json"]].concat()).expect_code(code);
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error} in {:?}", output.stdout))
    };
    assert_eq!(json(&["drain", "0"], 0)["ok"], json!(true));
    assert_eq!(json(&["undrain", "0"], 0)["ok"], json!(true));
    assert_eq!(json(&["restart", "0"], 0)["ok"], json!(true));
    assert_eq!(json(&["policy", "hash"], 0)["ok"], json!(true));
    assert_eq!(json(&["weight", "0", "5%"], 0)["ok"], json!(true));
    assert_eq!(json(&["weight", "0", "auto"], 0)["ok"], json!(true));
    assert_eq!(json(&["weight", "0", "5"], 2)["kind"], json!("usage"));
    assert_eq!(json(&["abort"], 1)["kind"], json!("failed"));
    let got = json(&["get", "1", "/"], 0);
    let body = got["body"].as_str().expect("a text");
    assert!(body.starts_with("1 "), "{got}");
    assert_eq!((&got["ok"], &got["status"]), (&json!(true), &json!(200)));
    let refusal = json(&["drain", "7"], 3);
    assert_eq!(refusal["ok"], json!(false));
    assert!(refusal["error"].is_string());
    assert_eq!(json(&["status"], 0)["app"], json!(app.name()));
    app.stop();
}
