//! `apply`: what runs becomes what the file says, without a lost request, and a second time nothing happens.

use std::time::Duration;

use reuse_tests::app::controller_command;
use reuse_tests::events::Events;
use reuse_tests::http::get;
use reuse_tests::load::{Load, Mode};
use reuse_tests::run::{self, Output, assert_says};
use reuse_tests::scratch::Scratch;
use reuse_tests::site::Site;
use reuse_tests::status::Status;
use reuse_tests::{App, Launch, Namespace, SERVER, binaries, commands, control, kernel, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(10);

/// Pauses of the clients whose requests a deploy must not lose, so that they leave the servers time to start.
const PAUSE: Duration = Duration::from_millis(5);

/// A name that no other test has.
fn name() -> String {
    Launch::new(&[]).app_name().to_owned()
}

/// The keys of an app of two workers, then `more`.
fn app(name: &str, command: &[String], more: &str) -> String {
    let command: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    format!("name = {name:?}\ncommand = [{}]\n{more}\n", command.join(", "))
}

fn label(label: &str) -> Vec<String> {
    commands::rust(&["--label", label])
}

fn answers_as(label: &str) -> bool {
    get(SERVER, None).is_ok_and(|answer| answer.body.contains(label))
}

/// The lines about one app, without its name.
fn lines<'a>(output: &'a Output, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}: ");
    output
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

/// An app of its own, applied.
#[track_caller]
fn applied(command: &[String], more: &str) -> (String, Site, App) {
    let name = name();
    let file = Site::of(&app(&name, command, more));
    file.apply(&[]).expect_code(0);
    let app = App::detached(&name);
    (name, file, app)
}

#[track_caller]
fn assert_applies(file: &Site, name: &str, said: &[&str]) {
    let output = file.apply(&[]).expect_code(0);
    assert_eq!(lines(&output, name), said, "{output:?}");
}

fn ready(status: &Status, count: usize) -> bool {
    status.all_active(count)
}

#[test]
fn it_starts_what_is_missing_and_the_second_time_does_nothing() {
    let _namespace = Namespace::enter();
    let name = name();
    let file = Site::of(&app(&name, &label("v1"), "workers = 2"));
    let output = file.apply(&["--dry-run"]).expect_code(0);
    assert_eq!(lines(&output, &name), ["would be started"]);
    assert!(!App::detached(&name).socket().exists(), "nothing runs yet");
    let output = file.apply(&[]).expect_code(0);
    assert!(
        output.stdout.contains(&format!("{name}: started 2 workers on ")),
        "{output:?}"
    );
    let app = App::detached(&name);
    let before = app.status();
    assert!(ready(&before, 2));
    let output = file.apply(&[]).expect_code(0);
    assert_eq!(lines(&output, &name), ["unchanged"]);
    assert!(output.stdout.ends_with("nothing to do\n"), "{output:?}");
    assert_eq!(app.status().pids(), before.pids());
    app.stop();
}

#[test]
fn what_was_typed_and_what_is_written_compare_equal() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let launch = Launch::new(&["--workers", "2", "--drain-timeout", "20s"]).directory(folder.path());
    let name = launch.app_name().to_owned();
    let running = launch.run(&label("v1"));
    let file = Site::new();
    let cwd = format!("workers = 2\ndrain_timeout = \"20s\"\ncwd = {:?}", folder.path());
    file.file(&app(&name, &label("v1"), &cwd));
    assert_applies(&file, &name, &["unchanged"]);
    running.stop();
}

#[test]
fn nobody_named_is_whoever_they_run_as() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let launch = Launch::new(&["--user", "nobody"]).directory(folder.path());
    let name = launch.app_name().to_owned();
    let running = launch.run(&label("v1"));
    let cwd = format!("cwd = {:?}", folder.path());
    let file = Site::of(&app(&name, &label("v1"), &cwd));
    assert_applies(&file, &name, &["unchanged"]);
    file.file(&app(&name, &label("v1"), &format!("{cwd}\nuser = \"65534\"")));
    assert_applies(&file, &name, &["unchanged"]);
    running.stop();
}

#[test]
fn workers_policy_and_patience_change_without_a_new_process() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 2");
    let before = app_.status();
    let more = "workers = 3\npolicy = \"sticky\"\ndrain_timeout = \"5s\"\nwhen_empty = \"refuse\"\nhealth = \"tcp\"";
    file.file(&app(&name, &label("v1"), more));
    let output = file.apply(&["--dry-run"]).expect_code(0);
    let changes = [
        "  when-empty park → refuse",
        "  drain-timeout 30s → 5s",
        "  health none → tcp",
        "  policy least-loaded → sticky",
        "  workers 2 → 3",
    ];
    let is_ours = |line: &&str| line.starts_with("  ") || line.starts_with(&name);
    let mut told: Vec<&str> = output.stdout.lines().filter(is_ours).collect();
    assert_eq!(told.remove(0), format!("{name}: would change:"));
    told.sort_unstable();
    let mut expected = changes;
    expected.sort_unstable();
    assert_eq!(told, expected, "one line each");
    assert_eq!(
        (app_.status().pids(), app_.status().policy),
        (before.pids(), before.policy.clone())
    );
    let output = file.apply(&[]).expect_code(0);
    assert!(
        output.stdout.starts_with(&format!("{name}: changed:\n"))
            && changes.iter().all(|change| output.stdout.contains(change)),
        "{}",
        output.stdout
    );
    let after = app_.status();
    assert!(ready(&after, 3) && after.policy == "sticky", "{after:#?}");
    assert_eq!(after.pids()[..2], before.pids()[..], "nobody was restarted");
    assert_applies(&file, &name, &["unchanged"]);
    // Who scales by hand is set right by the next apply.
    app_.ctl(&["scale", "1"]).expect_code(0);
    assert_applies(&file, &name, &["scaled 1 → 3"]);
    app_.stop();
}

#[test]
fn a_new_command_is_rolled_out_under_load_and_loses_nothing() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 4");
    let before = app_.status();
    let load = Load::start_with_pause(SERVER, 16, Mode::NewConnections, LIMIT, PAUSE);
    load.wait_for(200, SOON);
    file.file(&app(&name, &label("v2"), "workers = 4"));
    assert_applies(&file, &name, &["command changed: reloaded 4 workers"]);
    load.wait_for(200, SOON);
    load.stop().assert_nothing_failed();
    assert!(answers_as("v2"));
    let after = app_.status();
    assert!(after.pids().iter().zip(before.pids()).all(|(new, old)| *new != old));
    // A crash starts the new one again, and so does a scale.
    app_.ctl(&["restart", "0"]).expect_code(0);
    app_.ctl(&["scale", "5"]).expect_code(0);
    assert!((0..20).all(|_| answers_as("v2")));
    app_.stop();
}

#[test]
fn a_broken_version_fails_and_the_old_one_goes_on() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 2");
    let before = app_.status();
    let load = Load::start_with_pause(SERVER, 8, Mode::NewConnections, LIMIT, PAUSE);
    load.wait_for(100, SOON);
    file.file(&app(
        &name,
        &commands::rust(&["--exit-code", "7"]),
        "workers = 3\ndrain_timeout = \"5s\"",
    ));
    let output = file.apply(&[]).expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "no worker was changed: all run the old version",
            "  → the old instance",
            "boom: this version",
        ],
    );
    load.wait_for(100, SOON);
    load.stop().assert_nothing_failed();
    let after = app_.status();
    assert_eq!(after.pids(), before.pids(), "and nothing else of the file was done");
    assert!(answers_as("v1"));
    let answer = file.apply(&["--json"]).expect_code(1).stdout;
    let answer: Value = serde_json::from_str(&answer).expect("one line of JSON");
    assert_eq!(
        (&answer["ok"], &answer["apps"][0]["became"]),
        (&Value::Bool(false), &"not_changed".into())
    );
    // The old file is what runs.
    file.file(&app(&name, &label("v1"), "workers = 2"));
    assert_applies(&file, &name, &["unchanged"]);
    app_.stop();
}

/// The first worker takes the new version, the second does not: the first goes back.
#[test]
fn half_a_rollout_is_taken_back() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 2");
    let script = file.write_executable(
        "server",
        &format!(
            "#!/bin/sh\n[ \"$REUSE_WORKER_ID\" = 0 ] || exit 3\nexec {} --listen {SERVER} --label v2\n",
            binaries::test_server()
        ),
    );
    let load = Load::start_with_pause(SERVER, 8, Mode::NewConnections, LIMIT, PAUSE);
    load.wait_for(100, SOON);
    file.file(&app(&name, &[script.display().to_string()], "workers = 2"));
    file.apply(&[])
        .expect_code(1)
        .expect_complaint(&["worker 1", "worker 0 had it and was brought back"]);
    load.wait_for(100, SOON);
    load.stop().assert_nothing_failed();
    assert!((0..20).all(|_| answers_as("v1")));
    assert!(ready(&app_.status(), 2));
    app_.stop();
}

#[test]
fn a_new_folder_is_a_new_version() {
    let _namespace = Namespace::enter();
    let name = name();
    let other = Scratch::new();
    let file = Site::of(&app(&name, &label("v1"), ""));
    file.apply(&[]).expect_code(0);
    let app_ = App::detached(&name);
    file.file(&app(&name, &label("v1"), &format!("cwd = {:?}", other.path())));
    assert_applies(&file, &name, &["cwd changed: reloaded 1 worker"]);
    let pid = app_.status().pid_of(0);
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("a process of ours");
    assert_eq!(cwd, other.path());
    app_.stop();
}

#[test]
fn a_changed_variable_is_rolled_out_and_never_shown() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "env = { TOKEN = \"one\" }");
    file.file(&app(&name, &label("v1"), "env = { TOKEN = \"hunter2\" }"));
    let output = file.apply(&["--json"]).expect_code(0).stdout;
    assert!(
        output.contains("environment") && !output.contains("hunter2"),
        "{output}"
    );
    let (code, spec) = control::request(&app_.socket(), "GET", "/v1/spec", "").expect("an answer");
    assert!(code == 200 && spec.contains("hunter2"), "for root: {spec}");
    assert!(environment(&app_, 0).contains("TOKEN=hunter2"));
    app_.stop();
}

/// What the worker was given.
fn environment(app: &App, worker: u16) -> String {
    let environment =
        std::fs::read(format!("/proc/{}/environ", app.status().pid_of(worker))).expect("a process of ours");
    String::from_utf8_lossy(&environment).into_owned()
}

#[test]
fn an_edited_env_file_is_a_new_version() {
    let _namespace = Namespace::enter();
    let name = name();
    let file = Site::of(&app(&name, &label("v1"), "env_file = \"app.env\""));
    file.write("app.env", "COLOUR=red\n");
    file.apply(&[]).expect_code(0);
    let app_ = App::detached(&name);
    assert!(environment(&app_, 0).contains("COLOUR=red"));
    file.write("app.env", "COLOUR=blue\n");
    assert_applies(&file, &name, &["env-file changed: reloaded 1 worker"]);
    assert!(environment(&app_, 0).contains("COLOUR=blue"));
    assert_applies(&file, &name, &["unchanged"]);
    // A reload has read it, too.
    file.write("app.env", "COLOUR=green\n");
    app_.ctl(&["reload"]).expect_code(0);
    assert_applies(&file, &name, &["unchanged"]);
    // One that can't be read changes nothing.
    let before = app_.status().pids();
    file.write("app.env", "nonsense\n");
    file.apply(&[]).expect_code(2);
    assert_eq!(app_.status().pids(), before);
    app_.stop();
}

#[test]
fn recycling_begins_and_ends_without_a_new_process() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "");
    let before = app_.status().pids();
    file.file(&app(&name, &label("v1"), "max_connections = 5"));
    assert_applies(&file, &name, &["max-connections none → 5"]);
    assert_eq!(app_.status().pids(), before);
    for _ in 0..10 {
        get(SERVER, None).expect("an answer");
    }
    app_.wait_status("it was recycled", LIMIT, |status| {
        status.pids() != before && status.all_active(1)
    });
    file.file(&app(&name, &label("v1"), "watch = \"nowhere\""));
    let before = app_.status().pids();
    let output = file.apply(&[]);
    assert!(output.code != Some(0), "there is nothing to watch: {output:?}");
    assert_eq!(app_.status().pids(), before);
    app_.stop();
}

#[test]
fn what_belongs_to_the_start_is_refused_before_anything_is_changed() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 2");
    let before = app_.status();
    for (key, option) in [
        ("listen = \"127.0.0.1:8081\"", "listen none → 127.0.0.1:8081"),
        ("user = \"nobody\"", "user none → nobody"),
        ("control_group = \"root\"", "control-group none → root"),
        ("sticky_capacity = 10", "sticky-capacity 65536 → 10"),
        ("sticky_prefix4 = 24", "sticky-prefix4 32 → 24"),
    ] {
        file.file(&app(&name, &label("v2"), &format!("workers = 3\n{key}")));
        let stop = format!("reuse-ctl stop --app {name}");
        file.apply(&[])
            .expect_code(1)
            .expect_complaint(&[option, "can't change while the app runs", &stop]);
        assert_eq!(app_.status().pids(), before.pids(), "{key}");
    }
    app_.stop();
}

#[test]
fn not_while_there_is_a_canary() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 2");
    app_.canary("5%", &label("v2")).expect_code(0);
    // The canary is nobody's worker.
    assert_applies(&file, &name, &["unchanged"]);
    file.file(&app(&name, &label("v3"), "workers = 3"));
    file.apply(&[])
        .expect_code(1)
        .expect_complaint(&["worker 2 is a canary", "promote", "abort"]);
    app_.ctl(&["promote"]).expect_code(0);
    // What was promoted is what runs: the file that says so changes nothing.
    file.file(&app(
        &name,
        &label("v2"),
        &format!("workers = 2\ncwd = {:?}", std::env::current_dir().expect("ours")),
    ));
    let output = file.apply(&["--dry-run"]).expect_code(0);
    assert_eq!(lines(&output, &name), ["unchanged"], "{output:?}");
    app_.stop();
}

/// What needs no worker touched is for the version that it came with.
#[test]
fn no_option_of_a_version_that_fails_was_ever_in_force() {
    let _namespace = Namespace::enter();
    let name = name();
    let file = Site::new();
    let sick = file.path().join("sick");
    let v1 = commands::node_faults(&[&format!("health={}", sick.display())]);
    file.file(&app(&name, &v1, "workers = 2"));
    file.apply(&[]).expect_code(0);
    let app_ = App::detached(&name);
    let pids = app_.status().pids();
    file.write("sick", &app_.status().pid_of(1).to_string());
    let events = Events::of(&app_);
    let never_ready = file.write_executable("never", "#!/bin/sh\nsleep 3\nexit 3\n");
    let checks = "workers = 2\nhealth = \"/health\"\nhealth_interval = \"50ms\"\nhealth_fails = 2";
    file.file(&app(&name, &[never_ready.display().to_string()], checks));
    let output = file.apply(&["--json"]).expect_code(1);
    let answer: Value = serde_json::from_str(&output.stdout).expect("one line of JSON");
    let changes = answer["apps"][0]["changes"].as_array().expect("a list");
    assert!(
        changes.len() >= 2 && changes.iter().all(|change| change["done"] == false),
        "{answer}"
    );
    assert_eq!(app_.status().pids(), pids);
    assert!(events.named("unhealthy").is_empty(), "{:?}", events.named("unhealthy"));
    // Without the rollout it is called sick.
    file.file(&app(&name, &v1, checks));
    file.apply(&[]).expect_code(0);
    events.wait_for("unhealthy", 1, SOON);
    app_.stop();
}

/// How long a version may take is a matter of its own, not of the one before.
#[test]
fn a_version_that_takes_longer_brings_the_patience_for_it() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "ready_timeout = \"2s\"");
    let slow = commands::rust(&["--label", "v2", "--boot-delay-ms", "4000"]);
    file.file(&app(&name, &slow, "ready_timeout = \"2s\""));
    let output = file.apply(&[]).expect_code(1);
    assert!(
        output
            .stderr
            .contains("was not ready within 2 s; no worker was changed"),
        "{output:?}"
    );
    file.file(&app(&name, &slow, "ready_timeout = \"40s\""));
    assert_applies(
        &file,
        &name,
        &["command changed: reloaded 1 worker; ready-timeout 2s → 40s"],
    );
    app_.stop();
}

/// `GET /v1/spec` is what runs, whoever has said so.
#[test]
fn what_runs_can_be_asked_for_and_is_no_change() {
    let _namespace = Namespace::enter();
    let (name, _file, app_) = applied(&label("v1"), "workers = 2\nenv = { TOKEN = \"one\" }");
    let folder = Scratch::new();
    let mut canary = controller_command();
    canary
        .args(["canary", "--app", &name, "--weight", "5%", "--"])
        .args(label("v2"))
        .current_dir(folder.path());
    run::to_end(&mut canary, LIMIT).expect_code(0);
    let spec = || -> Value {
        let (code, spec) = control::request(&app_.socket(), "GET", "/v1/spec", "").expect("an answer");
        assert_eq!(code, 200, "{spec}");
        serde_json::from_str::<Value>(&spec).expect("JSON")["spec"].take()
    };
    assert!(
        spec().to_string().contains("\"v1\""),
        "a canary is not the app: {}",
        spec()
    );
    for verb in [&["promote"][..], &["scale", "3"], &["policy", "hash"]] {
        app_.ctl(verb).expect_code(0);
    }
    let told = spec().to_string();
    assert_says(&told, &["\"v2\"", "--workers=3", "--policy=hash", "TOKEN"]);
    assert!(
        told.contains(folder.path().to_str().expect("plain")) && !told.contains("\"v1\""),
        "{told}"
    );
    let again = json!({ "spec": spec() }).to_string();
    let (code, answer) = control::request(&app_.socket(), "PUT", "/v1/spec", &again).expect("an answer");
    assert!(code == 200 && answer.contains("unchanged"), "{answer}");
    app_.stop();
}

#[test]
fn of_two_apps_one_is_changed_one_started_and_a_third_is_left_alone() {
    let _namespace = Namespace::enter();
    let (web, api) = (name(), name());
    let stranger = App::run(
        &[],
        &commands::rust(&[])
            .iter()
            .map(|word| word.replace("8080", "8090"))
            .collect::<Vec<_>>(),
    );
    let on = |port: u16, label: &str| {
        let command = commands::rust(&["--label", label]);
        command
            .iter()
            .map(|word| word.replace("8080", &port.to_string()))
            .collect::<Vec<_>>()
    };
    let both = |web_label: &str, api_port: u16| {
        format!(
            "[[app]]\n{}\n[[app]]\n{}",
            app(&web, &on(8080, web_label), ""),
            app(&api, &on(api_port, "api"), "")
        )
    };
    let file = Site::of(&format!("[[app]]\n{}", app(&web, &on(8080, "v1"), "")));
    file.apply(&[]).expect_code(0);
    let web_app = App::detached(&web);
    file.file(&both("v2", 8081));
    let output = file.apply(&[]).expect_code(0);
    assert_eq!(lines(&output, &web), ["command changed: reloaded 1 worker"]);
    assert!(
        lines(&output, &api)[0].starts_with("started 1 worker on "),
        "{output:?}"
    );
    assert!(
        lines(&output, stranger.name())[0].starts_with("left alone"),
        "{output:?}"
    );
    let api_app = App::detached(&api);
    let before = (web_app.status().pids(), api_app.status().pids());
    // One that can't be changed keeps the other from being changed.
    file.file(&both("v3", 8081).replace(
        &format!("name = {api:?}"),
        &format!("name = {api:?}\nlisten = \"127.0.0.1:8081\""),
    ));
    file.apply(&[]).expect_code(1).expect_complaint(&[&api, "listen"]);
    assert_eq!((web_app.status().pids(), api_app.status().pids()), before);
    // Only one of them.
    file.file(&both("v4", 8081));
    let output = file.apply(&["--app", &api]).expect_code(0);
    assert_eq!(lines(&output, &api), ["unchanged"]);
    assert_eq!(web_app.status().pids(), before.0);
    stranger.stop();
    web_app.stop();
    api_app.stop();
}

#[test]
fn a_wrong_file_changes_nothing() {
    let _namespace = Namespace::enter();
    let name = name();
    let file = Site::of(&app(&name, &label("v1"), "workerz = 2"));
    file.apply(&[]).expect_code(2);
    file.file(&app(&name, &["/no/such/server".into()], ""));
    let missing = file.apply(&[]).expect_code(2).stderr;
    assert!(
        missing.contains("reuse.toml:2:12: no command \"/no/such/server\""),
        "{missing}"
    );
    let missing = run::to_end(controller_command().args(["apply", "-f", "/no/such.toml"]), SOON);
    missing.expect_code(2);
    assert!(!App::detached(&name).socket().exists());
}

#[test]
fn two_at_a_time_are_not_mixed() {
    let _namespace = Namespace::enter();
    let (name, file, app_) = applied(&label("v1"), "workers = 2");
    let body = |spec: &str| {
        format!("{{\"spec\":{{\"arguments\":[\"--name\",{name:?},\"--workers\",\"2\",{spec}],\"variables\":[]}}}}")
    };
    let slow = commands::rust(&["--boot-delay-ms", "1500"]);
    let words: Vec<String> = slow.iter().map(|word| format!("{word:?}")).collect();
    let request = body(&format!("\"--\",{}", words.join(",")));
    let socket = app_.socket();
    let first = std::thread::spawn(move || control::request(&socket, "PUT", "/v1/spec", &request));
    app_.wait_status("the rollout is under way", SOON, |status| {
        status.workers.iter().any(|worker| worker.instances.len() > 1)
    });
    let second = file.apply(&[]);
    second.expect_code(1).expect_complaint(&["under way"]);
    let (code, answer) = first.join().expect("no panic").expect("an answer");
    assert_eq!(code, 200, "{answer}");
    let pids = app_.status().pids();
    wait::until("the old ones are gone", SOON, || app_.status().all_active(2));
    assert!(
        pids.iter()
            .flatten()
            .all(|pid| kernel::is_alive(i32::try_from(*pid).expect("a pid")))
    );
    app_.stop();
}
