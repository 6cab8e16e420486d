//! When a worker is ready, what it finds in its environment, and what it may use.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use reuse_tests::heavy::Heavy;
use reuse_tests::http::get;
use reuse_tests::launcher::Launcher;
use reuse_tests::leftovers::{assert_nothing_left, assert_port_free, cgroup_root, run_folder};
use reuse_tests::load::{Load, Mode};
use reuse_tests::run::assert_says;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, commands};

const LIMIT: Duration = Duration::from_secs(30);

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[track_caller]
fn refused(options: &[&str], code: i32, words: &[&str]) {
    let launch = Launch::new(options);
    let output = launch.to_end(&commands::rust(&[]), LIMIT).expect_code(code);
    output.expect_complaint(words);
    assert_nothing_left(launch.app_name());
    assert_port_free(PORT);
}

/// `GET /env` of one worker.
#[track_caller]
fn environment(app: &App, worker: &str) -> serde_json::Value {
    let output = app.ctl(&["get", worker, "/env"]).expect_code(0);
    serde_json::from_str(&output.stdout).expect("JSON")
}

#[test]
fn a_worker_that_listens_is_not_ready_before_it_says_so() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let go = folder.path().join("go");
    let mut command = commands::python_notify(&go, &["status=warming the cache"]);
    // One that every user may run.
    command[0] = "/usr/bin/python3".to_owned();
    let app = Launch::new(&["--workers", "2", "--ready", "notify", "--user", "nobody"]).start(&command);
    let status = app.wait_status("both listen", LIMIT, |status| {
        !status.groups.is_empty() && status.states() == ["starting", "starting"]
    });
    assert!(status.published().is_empty());
    // A stranger's word counts for nothing, not even root's.
    let sockets: Vec<_> = fs::read_dir(run_folder(app.name()))
        .expect("the app's folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("notify-"))
        })
        .collect();
    assert_eq!(sockets.len(), 2);
    for socket in &sockets {
        let stranger = UnixDatagram::unbound().expect("a socket");
        stranger.send_to(b"READY=1\nSTATUS=mine", socket).expect("sent");
    }
    // Time enough for it to be heard.
    app.ctl(&["restart", "7"]).expect_code(3);
    assert_eq!(app.status().states(), ["starting", "starting"]);

    folder.write("go", "");
    let status = app.wait_status("both are active", LIMIT, |status| {
        status.all_active(2) && status.workers.iter().all(|worker| worker.status_text.is_some())
    });
    assert_eq!(status.worker(0).status_text.as_deref(), Some("warming the cache"));
    let shown = app.ctl(&["status"]).expect_code(0).stdout;
    assert!(shown.contains("worker 1 says: warming the cache"), "{shown}");
    get(SERVER, None).expect("an answer");
    app.ctl(&["reload"]).expect_code(0);
    app.stop();
}

#[test]
fn a_worker_that_never_says_so_has_failed() {
    let _namespace = Namespace::enter();
    let never = Path::new("/nonexistent/never");
    let launch = Launch::new(&["--ready", "notify", "--ready-timeout", "1s"]);
    let output = launch
        .to_end(&commands::python_notify(never, &[]), Duration::from_secs(120))
        .expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "was not ready within 1 s",
            "it listens, but has not said READY=1 to its NOTIFY_SOCKET",
        ],
    );
    assert_nothing_left(launch.app_name());
}

/// The old version serves on, and nobody notices.
#[test]
fn a_version_that_never_says_so_costs_nothing() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let go = folder.write("go", "");
    let launcher = Launcher::new(&commands::python_notify(&go, &[]).join(" "));
    let app = App::run(
        &["--workers", "2", "--ready", "notify", "--ready-timeout", "2s"],
        &[launcher.command()],
    );
    let before = app.status().pids();
    let load = Load::start_with_pause(SERVER, 8, Mode::NewConnections, LIMIT, Duration::from_millis(5));
    launcher.deploy(&commands::python_notify(Path::new("/nonexistent/never"), &[]).join(" "));
    let output = app.ctl(&["reload"]).expect_code(1);
    assert!(output.stderr.contains("has not said READY=1"), "{}", output.stderr);
    load.stop().assert_nothing_failed();
    assert_eq!(app.status().pids(), before);
    app.stop();
}

#[test]
fn a_worker_is_asked_until_it_answers() {
    let _namespace = Namespace::enter();
    for command in [commands::node_environment, commands::bun_environment] {
        let folder = Scratch::new();
        let go = folder.path().join("go");
        let command = command(&[&PORT.to_string(), &format!("ready={}", text(&go))]);
        let app = Launch::new(&["--workers", "2", "--ready", "http:/ready"]).start(&command);
        app.wait_status("both were asked in vain", LIMIT, |status| {
            status.states() == ["starting", "starting"] && status.verdicts().directed >= 6
        });
        folder.write("go", "");
        app.wait_status("both are active", LIMIT, |status| status.all_active(2));
        app.ctl(&["reload"]).expect_code(0);
        fs::remove_file(&go).expect("remove a file of ours");
        app.stop();
    }
}

#[test]
fn what_came_instead_of_an_answer_is_said() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--ready", "http:/ready", "--ready-timeout", "1s"]);
    let command = commands::node_environment(&[&PORT.to_string(), "ready=/nonexistent/never"]);
    let output = launch.to_end(&command, Duration::from_secs(120)).expect_code(1);
    let said = format!("it listens, but GET /ready on {SERVER}: status 503");
    assert!(output.stderr.contains(&said), "{}", output.stderr);
}

/// The command is executed as it is: a module with `await` at its top is nothing special.
#[test]
fn a_bun_app_with_top_level_await_stays_up() {
    let _namespace = Namespace::enter();
    let mut app = App::run(&["--workers", "2"], &commands::bun_environment(&[&PORT.to_string()]));
    let before = app.status().pids();
    for _ in 0..20 {
        get(SERVER, None).expect("an answer");
    }
    let status = app.wait_all_active(2);
    assert_eq!(status.pids(), before);
    assert!(status.workers.iter().all(|worker| worker.restarts == 0));
    app.stop();
}

#[test]
fn variables_come_from_the_environment_and_then_from_files_in_their_order() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let work = folder.path().join("work");
    fs::create_dir(&work).expect("a folder");
    // More than one variable of the launch would hold.
    let long = "x".repeat(100_000);
    let many: String = (0..8).map(|n| format!("LONG{n}={long}\n")).collect();
    let first = folder.write("first", &format!("A=file\nB=file\nNOTIFY_SOCKET=/x\n{many}"));
    let second = folder.write("second", "B='second # one'\nC=${A}-c\nLD_PRELOAD=\n");
    let launch = Launch::new(&[
        "--workers",
        "2",
        "--env-file",
        text(&first),
        "--env-file",
        text(&second),
        "--increment-var",
        "NUMBER=5",
        "--cwd",
        text(&work),
        "--pm2-compat",
    ]);
    let launch = launch
        .env("A", "inherited")
        .env("D", "inherited")
        .env("pm_id", "9")
        .env("PM2_HOME", "/x");
    let app = launch.run(&commands::node_environment(&[&PORT.to_string()]));
    let seen = environment(&app, "1");
    assert_eq!(seen["cwd"], text(&work));
    let variables = &seen["env"];
    for (name, expected) in [
        ("A", "file"),
        ("B", "second # one"),
        ("D", "inherited"),
        ("NUMBER", "6"),
        ("LONG7", &long),
        ("NODE_APP_INSTANCE", "1"),
        ("REUSE_WORKER_ID", "1"),
        ("pm_id", "1"),
        ("name", launch.app_name()),
        ("exec_mode", "cluster_mode"),
    ] {
        assert_eq!(variables[name], expected, "{name}");
    }
    for name in ["NOTIFY_SOCKET", "PM2_HOME", "REUSE_CTL_LAUNCH"] {
        assert!(variables[name].is_null(), "{name}: {}", variables[name]);
    }
    app.stop();
}

#[test]
fn a_reload_picks_a_changed_file_up_and_refuses_a_broken_one() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let file = folder.write("env", "VERSION=one\n");
    let app = App::run(
        &["--workers", "2", "--env-file", text(&file)],
        &commands::node_environment(&[&PORT.to_string()]),
    );
    assert_eq!(environment(&app, "0")["env"]["VERSION"], "one");
    folder.write("env", "VERSION=two\n");
    app.ctl(&["reload"]).expect_code(0);
    assert_eq!(environment(&app, "0")["env"]["VERSION"], "two");
    let before = app.status().pids();
    folder.write("env", "VERSION=three\n\nno variable here\n");
    let complaint = app.ctl(&["reload"]).expect_code(2).expect_complaint(&["env, line 3"]);
    assert!(
        !complaint.stderr.contains("no variable here"),
        "what is in the file is secret"
    );
    app.ctl(&["restart", "1"]).expect_code(2);
    assert_eq!(app.status().pids(), before, "nobody was touched");
    app.stop();
}

#[test]
fn files_that_are_none_are_refused_before_anything_starts() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let cycle = folder.path().join("cycle");
    symlink(&cycle, &cycle).expect("a symbolic link");
    let (latin, large) = (folder.path().join("latin"), folder.path().join("large"));
    fs::write(&latin, b"A=1\nB=caf\xe9\n").expect("a file");
    fs::write(&large, vec![b'#'; 100 << 20]).expect("a file");
    let broken = folder.write("broken", "A=\"1\nB=2\n");
    for (path, words) in [
        (cycle.as_path(), &["cycle", "symbolic links"][..]),
        (&latin, &["latin, line 2", "UTF-8"]),
        (&large, &["large", "1 MiB"]),
        (&broken, &["broken, line 1", "quote"]),
        (Path::new("none/such"), &["none/such", "No such file"]),
        (folder.path(), &["not a regular file"]),
        (Path::new("/dev/zero"), &["/dev/zero", "not a regular file"]),
    ] {
        refused(&["--env-file", text(path)], 2, words);
    }
    refused(&["--cwd", "/nonexistent/folder"], 2, &["--cwd", "/nonexistent/folder"]);
    refused(&["--port-step", "1"], 2, &["--port-step 1", "PORT is not set"]);
    refused(&["--cron", "99 * * * *"], 2, &["--cron 99 * * * *"]);
    refused(&["--watch", "none/such"], 2, &["none/such", "No such file"]);
    refused(&["--watch", "/tmp", "--watch-ignore", "a["], 2, &["--watch-ignore a["]);
}

/// Each has its own port, and what is steered is each port by itself.
#[test]
fn workers_that_share_no_port_count_up_from_the_first() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "3", "--port-step", "10"]).env("PORT", "8100");
    let app = launch.run(&commands::bun_environment(&[]));
    let answer = |port: u16| get(([127, 0, 0, 1], port).into(), None).expect("an answer").slot;
    assert_eq!([answer(8100), answer(8110), answer(8120)], [Some(0), Some(1), Some(2)]);
    app.ctl(&["reload"]).expect_code(0);
    app.ctl(&["scale", "4"]).expect_code(0);
    assert_eq!([answer(8100), answer(8130)], [Some(0), Some(3)]);
    app.stop();
}

#[test]
fn limits_hold_or_are_refused() {
    let _namespace = Namespace::enter();
    let controllers = fs::read_to_string(cgroup_root().join("cgroup.controllers")).expect("readable");
    let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
    let options = ["--memory-limit", "512M", "--cpu-limit", "1.5"];
    if !has("memory") || !has("cpu") {
        let lacking = if has("memory") { "cpu" } else { "memory" };
        return refused(
            &options,
            1,
            &[&format!("--{lacking}-limit needs the cgroup v2 controller {lacking}")],
        );
    }
    let app = App::run(&options, &commands::rust(&[]));
    let path = fs::read_to_string(format!("/proc/{}/cgroup", app.status().pid_of(0))).expect("readable");
    let path = path
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("a cgroup");
    let folder = cgroup_root().join(path.trim_start_matches('/'));
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("readable");
    assert_eq!(read("memory.max").trim(), (512 << 20).to_string());
    assert_eq!(read("cpu.max").trim(), "150000 100000");
    app.stop();
}

/// A consumer of a queue, as PM2 runs them too.
#[test]
fn a_program_that_serves_no_port() {
    let _namespace = Namespace::enter();
    let consumer = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];
    let launch = Launch::new(&["--workers", "2", "--ready-timeout", "2s"]);
    let output = launch.to_end(&consumer, LIMIT).expect_code(1);
    assert!(output.stderr.contains("--ready started"), "{}", output.stderr);
    let app = App::run(&["--workers", "2", "--ready", "started"], &consumer);
    let before = app.status();
    assert!(before.all_active(2) && before.groups.is_empty(), "{before:#?}");
    app.ctl(&["reload"]).expect_code(0);
    let after = app.status();
    assert!(
        after.all_active(2) && after.workers.iter().all(|worker| worker.restarts == 1),
        "{after:#?}"
    );
    app.ctl(&["restart", "1"]).expect_code(0);
    app.ctl(&["scale", "1"]).expect_code(0);
    app.stop();
    // One that is broken has not started.
    let launch = Launch::new(&["--ready", "started"]);
    let broken = ["/bin/sh", "-c", "echo what is broken; sleep 0.3; exit 3"];
    let output = launch.to_end(&broken, LIMIT).expect_code(1);
    assert!(output.stderr.contains("exited with code 3"), "{}", output.stderr);
    assert_nothing_left(launch.app_name());
}
