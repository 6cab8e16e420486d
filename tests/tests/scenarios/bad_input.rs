//! Whatever is wrong: one clear line, what to do next, the documented exit code, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};
use reuse_tests::app::controller_command;
use reuse_tests::http::get;
use reuse_tests::leftovers::{self, assert_nothing_left, assert_port_free};
use reuse_tests::run::{self, Output, assert_says};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, binaries, commands, fault};

/// How long `run` may take to say that it does not work.
const LIMIT: Duration = Duration::from_secs(60);

/// `run` with these options must give up with this exit code, a complaint that has all of `words`, and no trace.
#[track_caller]
fn run_fails(options: &[&str], command: &[String], code: i32, words: &[&str]) -> Output {
    let launch = Launch::new(options);
    let output = launch.to_end(command, LIMIT).expect_code(code);
    assert_nothing_left(launch.app_name());
    assert_says(&output.stderr, words);
    output
}

/// As [`run_fails`], for what is wrong before anything is started: the complaint is all there is.
#[track_caller]
fn run_is_refused(options: &[&str], command: &[String], code: i32, words: &[&str]) {
    run_fails(options, command, code, words).expect_complaint(words);
    assert_port_free(PORT);
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_unknown_worker() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    for verb in [
        &["drain", "9"][..],
        &["undrain", "9"],
        &["restart", "9"],
        &["logs", "9"],
        &["weight", "9", "5%"],
        &["weight", "9", "auto"],
        &["get", "9", "/"],
    ] {
        app.ctl(verb).expect_code(3).expect_complaint(&["9"]);
    }
    app.ctl(&["drain", "two"]).expect_code(2);
    app.ctl(&["weight", "two", "5%"]).expect_code(2);
    app.ctl(&["get", "two", "/"]).expect_code(2);
    assert!(app.status().all_active(2), "nothing happened to the others");
    app.stop();
}

#[test]
fn an_unknown_app() {
    for verb in [
        &["status"][..],
        &["drain", "0"],
        &["undrain", "0"],
        &["restart", "0"],
        &["reload"],
        &["scale", "3"],
        &["policy"],
        &["weight", "0", "5%"],
        &["promote"],
        &["abort"],
        &["get", "0", "/"],
        &["stop"],
        &["logs"],
    ] {
        run::to_end(
            controller_command().args(verb).args(["--app", "t-nobody-knows-it"]),
            LIMIT,
        )
        .expect_code(3)
        .expect_complaint(&["t-nobody-knows-it"]);
    }
}

#[test]
fn an_unknown_policy() {
    let _namespace = Namespace::enter();
    let output = run_fails(
        &["--policy", "fair"],
        &commands::rust(&[]),
        2,
        &["fair", "least-loaded"],
    );
    assert!(output.stdout.is_empty());
    let app = App::run(&["--workers", "1"], &commands::rust(&[]));
    app.ctl(&["policy", "fair"]).expect_code(2);
    assert_eq!(app.status().policy, "least-loaded");
    app.stop();
}

#[test]
fn a_weight_that_is_none() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    for (weight, complaint) in [
        ("0%", &["0%", "drain"][..]),
        ("100%", &["100%", "drain"]),
        ("-5%", &["-5%", "10%"]),
        ("10", &["percent", "10%"]),
        ("abc", &["abc", "auto"]),
        ("0.001%", &["hundredth", "0.25%"]),
        ("", &["weight"]),
    ] {
        app.ctl(&["weight", "0", weight])
            .expect_code(2)
            .expect_complaint(complaint);
    }
    assert!(
        app.status().workers.iter().all(|worker| worker.weight.is_none()),
        "nothing happened"
    );
    app.stop();
}

#[test]
fn a_canary_that_is_none() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let canary = |arguments: &[&str]| {
        let mut command = controller_command();
        run::to_end(command.args(["canary", "--app", app.name()]).args(arguments), LIMIT)
    };
    for arguments in [
        &["--weight", "5%"][..],
        &["--weight", "5%", "--"],
        &["--", "/bin/sleep"],
        &["--weight", "auto", "--", "/bin/sleep"],
        &["--weight", "0%", "--", "/bin/sleep"],
        &["--weight", "100%", "--", "/bin/sleep"],
        &["--weight", "-5%", "--", "/bin/sleep"],
        &["--weight", "5", "--", "/bin/sleep"],
    ] {
        canary(arguments).expect_code(2).expect_complaint(&[]);
    }
    canary(&["--weight", "5%", "--", "no-such-server-anywhere"])
        .expect_code(1)
        .expect_complaint(&["no-such-server-anywhere"]);
    canary(&["--weight", "5%", "--cwd", "/no/such/folder", "--", "./server"])
        .expect_code(1)
        .expect_complaint(&["/no/such/folder"]);
    assert!(app.status().all_active(2), "nothing happened");
    app.stop();
}

#[test]
fn no_canary_to_promote_or_abort() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    let pids = app.status().pids();
    for verb in ["promote", "abort"] {
        app.ctl(&[verb]).expect_code(1).expect_complaint(&["canary"]);
    }
    assert_eq!(app.status().pids(), pids, "nothing happened");
    app.stop();
}

#[test]
fn a_path_that_is_none() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    for (path, complaint) in [
        ("debug", &["slash", "/debug"][..]),
        ("", &["slash"]),
        ("/a b", &["%20"]),
        ("/\r\nHost: x", &["%20"]),
    ] {
        app.ctl(&["get", "1", path]).expect_code(2).expect_complaint(complaint);
    }
    assert_eq!(app.status().verdicts().directed, 0, "nobody was asked");
    app.stop();
}

#[test]
fn rules_about_faults_that_are_none() {
    let _namespace = Namespace::enter();
    for (options, complaint) in [
        (["--health", "nonsense"], &["nonsense", "tcp", "/health"][..]),
        (["--health", ""], &["tcp"]),
        (["--max-hung", "101"], &["101"]),
        (["--hung-after", "50"], &["hung-after"]),
        (["--health-fails", "0"], &["health-fails"]),
        (["--health-passes", "many"], &["many"]),
    ] {
        run_is_refused(&options, &commands::rust(&[]), 2, complaint);
    }
    run_is_refused(
        &["--health", "tcp", "--health-interval", "1ms"],
        &commands::rust(&[]),
        2,
        &["10ms"],
    );
}

#[test]
fn no_worker_and_too_many() {
    let _namespace = Namespace::enter();
    run_fails(&["--workers", "0"], &commands::rust(&[]), 2, &["256"]);
    run_fails(&["--workers", "257"], &commands::rust(&[]), 2, &["256"]);
    let app = App::run(&["--workers", "1"], &commands::rust(&[]));
    app.ctl(&["scale", "0"]).expect_code(2);
    app.ctl(&["scale", "+256"]).expect_code(2);
    app.ctl(&["scale", "many"]).expect_code(2);
    assert!(app.status().all_active(1));
    app.stop();
}

#[test]
fn a_port_that_a_stranger_has() {
    let _namespace = Namespace::enter();
    let stranger = Command::new(binaries::python())
        .args(["-m", "http.server", &PORT.to_string(), "--bind", "127.0.0.1"])
        .spawn();
    let mut stranger = stranger.expect("start python");
    reuse_tests::wait::until("the stranger listens", Duration::from_secs(10), || {
        !reuse_tests::kernel::listeners(PORT).is_empty()
    });
    let pid = stranger.id().to_string();
    run_fails(
        &["--workers", "2", "--port", "8080"],
        &commands::rust(&[]),
        1,
        &["8080", &pid, "python"],
    );
    run_fails(&["--workers", "2"], &commands::rust(&[]), 1, &["8080", &pid, "python"]);
    run_fails(
        &["--workers", "2", "--listen", "127.0.0.1:8080"],
        &commands::rust_inherited(),
        1,
        &["8080", &pid, "python"],
    );
    stranger.kill().expect("kill a child of ours");
    stranger.wait().expect("wait for a child of ours");
}

#[test]
fn a_command_that_does_not_exist_or_can_not_be_executed() {
    let _namespace = Namespace::enter();
    run_is_refused(
        &[],
        &words(&["no-such-server-anywhere"]),
        1,
        &["no-such-server-anywhere"],
    );
    run_is_refused(&[], &words(&["/no/such/server"]), 1, &["/no/such/server"]);
    let scratch = Scratch::new();
    let file = scratch.write("server", "#!/bin/sh\n");
    run_is_refused(
        &[],
        &words(&[file.to_str().expect("a plain path")]),
        1,
        &["server", "chmod +x"],
    );
    run_is_refused(
        &[],
        &words(&[scratch.path().to_str().expect("a plain path")]),
        1,
        &["directory"],
    );
    let output = run::to_end(controller_command().args(["run", "--workers", "2"]), LIMIT);
    output.expect_code(2);
}

#[test]
fn no_root() {
    let scratch = Scratch::new();
    // A copy where everybody may execute it.
    let copy = scratch.copy_program(&binaries::reuse_ctl(), "reuse-ctl");
    let output = run::to_end(
        Command::new(&copy)
            .uid(65534)
            .gid(65534)
            .args(["run", "--name", "t-no-root", "--", "/bin/sleep", "1"]),
        LIMIT,
    );
    output.expect_code(1).expect_complaint(&["root", "sudo"]);
    assert_nothing_left("t-no-root");
}

#[test]
fn no_cgroup_v2() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&[]);
    let inner = launch.command(&commands::rust(&[]));
    let mut unmounted = Command::new("unshare");
    unmounted.args([
        "--mount",
        "sh",
        "-c",
        "for at in $(awk '$3 == \"cgroup2\" {print $2}' /proc/self/mounts); do umount --lazy $at; done; exec \"$@\"",
        "sh",
    ]);
    unmounted.arg(inner.get_program()).args(inner.get_args());
    run::to_end(&mut unmounted, LIMIT)
        .expect_code(1)
        .expect_complaint(&["cgroup"]);
    assert_nothing_left(launch.app_name());
}

#[test]
fn a_kernel_that_is_too_old() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&[]);
    let output = run::to_end(fault::without_bpf(&mut launch.command(&commands::rust(&[]))), LIMIT);
    output.expect_code(1).expect_complaint(&["kernel", "doctor"]);
    assert_nothing_left(launch.app_name());
    assert_port_free(PORT);
}

#[test]
fn two_apps_of_one_name() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "1"], &commands::rust(&[]));
    let second = Launch::new(&[]).name(app.name());
    second
        .to_end(&commands::rust(&["--listen", "127.0.0.1:8081"]), LIMIT)
        .expect_code(1)
        .expect_complaint(&[app.name()]);
    get(SERVER, None).expect("the first one goes on");
    assert!(app.status().all_active(1));
    app.stop();
}

#[test]
fn a_name_that_is_a_path() {
    let _namespace = Namespace::enter();
    for name in ["../evil", "", "a/b", "."] {
        Launch::new(&[])
            .name(name)
            .to_end(&commands::rust(&[]), LIMIT)
            .expect_code(2);
    }
}

#[test]
fn several_apps_and_none_named() {
    let _namespace = Namespace::enter();
    let first = App::run(&["--workers", "1"], &commands::rust(&[]));
    let second_command = words(&[&binaries::test_server(), "--listen", "127.0.0.1:8081"]);
    let second = App::run(&["--workers", "1"], &second_command);
    run::to_end(controller_command().arg("status"), LIMIT)
        .expect_code(2)
        .expect_complaint(&[first.name(), second.name(), "--app"]);
    run::to_end(
        controller_command().arg("status").env("REUSE_APP", second.name()),
        LIMIT,
    )
    .expect_code(0);
    second.stop();
    first.stop();
}

#[test]
fn a_stale_socket_and_nothing_else() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "1"]);
    let folder = leftovers::run_folder(launch.app_name());
    fs::create_dir_all(&folder).expect("make the folder that a dead controller left");
    drop(UnixListener::bind(folder.join("control.sock")).expect("make a socket that nobody listens on"));
    run::to_end(controller_command().args(["status", "--app", launch.app_name()]), LIMIT).expect_code(3);
    launch.run(&commands::rust(&[])).stop();
}

#[test]
fn a_server_that_never_listens() {
    let _namespace = Namespace::enter();
    run_fails(
        &["--workers", "2", "--ready-timeout", "1s"],
        &commands::rust(&["--never-listen"]),
        1,
        &["listen"],
    );
    assert_port_free(PORT);
}

#[test]
fn a_server_that_exits_at_once() {
    let _namespace = Namespace::enter();
    run_fails(
        &["--workers", "2"],
        &commands::rust(&["--exit-code", "5"]),
        1,
        &["exited with code 5", "boom"],
    );
    assert_port_free(PORT);
}

#[test]
fn a_server_that_listens_on_a_unix_socket_only() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    // Every worker its own path: a second bind of one path would fail for another reason.
    let script = format!(
        "exec {} --unix-only {}/$REUSE_WORKER_ID.$$.sock",
        binaries::test_server(),
        scratch.path().display()
    );
    run_fails(
        &["--workers", "2", "--ready-timeout", "1s"],
        &words(&["/bin/sh", "-c", &script]),
        1,
        &["unix socket"],
    );
}

#[test]
fn a_server_that_binds_with_another_uid() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let nobody = User::from_uid(Uid::from_raw(65534))
        .expect("read /etc/passwd")
        .expect("the user nobody");
    let server = scratch.copy_program(binaries::test_server().as_ref(), "server");
    // The set-user-ID bit: the server becomes somebody else whoever starts it.
    chown(&server, Some(nobody.uid), None).expect("chown");
    fs::set_permissions(&server, fs::Permissions::from_mode(0o4755)).expect("chmod");
    let command = words(&[server.to_str().expect("a plain path"), "--listen", &SERVER.to_string()]);
    run_fails(&["--workers", "2", "--ready-timeout", "2s"], &command, 1, &["65534"]);
    assert_port_free(PORT);
}

#[test]
fn a_port_that_is_no_port() {
    let _namespace = Namespace::enter();
    run_fails(&["--port", "70000"], &commands::rust(&[]), 2, &["70000"]);
    run_fails(&["--listen", "nowhere"], &commands::rust_inherited(), 2, &["nowhere"]);
    let taken = TcpListener::bind("127.0.0.1:8085").expect("bind");
    run_fails(
        &["--listen", "127.0.0.1:8085"],
        &commands::rust_inherited(),
        1,
        &["8085"],
    );
    drop(taken);
}

/// The kernel lets them: both are of one user, and set SO_REUSEPORT. The program of the app that came last would take every connection.
#[test]
fn two_apps_on_one_port() {
    let _namespace = Namespace::enter();
    let declared = PORT.to_string();
    for options in [&["--workers", "2"][..], &["--workers", "2", "--port", &declared]] {
        let mut first = App::run(options, &commands::rust(&[]));
        let name = first.name().to_owned();
        let complaint = [&name, "is served by the app", "on another port"];
        let second = run_fails(options, &commands::rust(&[]), 1, &complaint);
        assert!(!second.stderr.contains("it gets no connection"), "{}", second.stderr);
        let before = first.status();
        for _ in 0..20 {
            let answer = get(SERVER, None).expect("the first app serves");
            assert!(before.pids().contains(&answer.pid), "{answer:?}");
        }
        // While the second app tried, the first one may have seen its listeners.
        let after = first.wait_status("no stranger is left", LIMIT, |status| {
            status.groups[0].strangers.is_empty()
        });
        assert_eq!(after.pids(), before.pids(), "nothing has happened to it");
        let of_workers: u64 = after.workers.iter().map(|worker| worker.established_total).sum();
        let of_workers_before: u64 = before.workers.iter().map(|worker| worker.established_total).sum();
        assert_eq!(of_workers - of_workers_before, 20, "they were steered");
        // It is the first app's also when nobody looks after that any more.
        first.signal(Signal::SIGKILL);
        first.wait_exit(LIMIT);
        run_fails(options, &commands::rust(&[]), 1, &complaint);
        run::to_end(controller_command().args(["stop", "--app", &name]), LIMIT).expect_code(0);
    }
    assert_port_free(PORT);
}

#[test]
fn an_inherited_listener_on_another_apps_port() {
    let _namespace = Namespace::enter();
    let address = SERVER.to_string();
    let first = App::run(&["--workers", "1"], &commands::rust(&[]));
    let complaint = [first.name(), "stop --app"];
    run_fails(&["--listen", &address], &commands::rust_inherited(), 1, &complaint).expect_complaint(&complaint);
    first.stop();
}
