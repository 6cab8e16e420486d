//! An app in the background whose workers have all failed stays: it says why, keeps its clients for a while, and is started anew by whoever
//! comes to see.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::app::controller_command;
use reuse_tests::events::Events;
use reuse_tests::http::get;
use reuse_tests::launcher::Launcher;
use reuse_tests::leftovers::{assert_nothing_left, assert_port_free};
use reuse_tests::run::assert_says;
use reuse_tests::scratch::Scratch;
use reuse_tests::site::Site;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, binaries, commands, control, interrupted, kernel, run, wait};

/// Five failed starts with their pauses, on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

fn good() -> String {
    commands::node_graceful().join(" ")
}

/// In the background, two workers of a script that may be changed.
struct Detached {
    app: App,
    script: Launcher,
}

impl Detached {
    fn start(options: &[&str]) -> Self {
        let script = Launcher::new(&good());
        let launch = Launch::new(&[&["--workers", "2", "--detach"][..], options].concat());
        launch.to_end(&[script.command()], LONG).expect_code(0);
        let app = App::detached(launch.app_name());
        Self { app, script }
    }

    /// A version that exits at once replaces both workers' processes.
    fn fail(&self) {
        self.script.deploy("/bin/sh -c 'echo the disk is full >&2; exit 7'");
        for pid in self.app.status().pids().into_iter().flatten() {
            kill_process(pid);
        }
        self.app.wait_status("every worker has failed", LONG, |status| {
            status.workers.iter().all(|worker| worker.state == "failed")
        });
    }

    fn repair(&self) {
        self.script.deploy(&good());
    }
}

fn kill_process(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    kill(pid, Signal::SIGKILL).expect("a process of ours");
}

fn log_folder(app: &str) -> PathBuf {
    Path::new("/var/log/reuse-ctl").join(app)
}

#[test]
fn it_says_why_and_is_started_anew_by_reload() {
    let _namespace = Namespace::enter();
    let detached = Detached::start(&[]);
    let app = &detached.app;
    let controller = app.pid();
    let events = Events::of(app);
    detached.fail();

    let (code, body) = control::request(&app.socket(), "GET", "/v1/status", "").expect("it answers");
    assert_eq!(code, 200);
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let problem = status["problem"].as_str().expect("a problem");
    assert!(
        problem.starts_with("every worker has failed: exited with code 7"),
        "{problem}"
    );
    for worker in status["workers"].as_array().expect("workers") {
        assert!(
            worker["reason"].as_str().expect("a reason").contains("code 7"),
            "{worker}"
        );
    }
    let shown = app.ctl(&["status"]).expect_code(0).stdout;
    assert!(
        shown.contains("every worker has failed") && shown.contains("`reuse-ctl reload --app"),
        "{shown}"
    );
    let list = run::to_end(controller_command().arg("ls"), SOON).expect_code(0).stdout;
    assert!(list.contains("every worker has failed"), "{list}");
    let log = std::fs::read_to_string(log_folder(app.name()).join("controller.log")).expect("its log");
    assert_eq!(log.matches("nobody serves; `reuse-ctl reload").count(), 1, "{log}");
    assert_eq!(events.named("all_failed").len(), 1);

    // What makes no sense now is refused with a way out.
    app.ctl(&["drain", "0"]).expect_code(1).expect_complaint(&["restart 0"]);
    app.ctl(&["scale", "+1"])
        .expect_code(1)
        .expect_complaint(&["every worker has failed", "reload"]);
    // A reload of what still fails says what is left.
    let failed = app.ctl(&["reload"]).expect_code(1).stderr;
    assert_says(
        &failed,
        &[
            "exited with code 7",
            "nothing serves in its place",
            "workers 0, 1 do not serve now",
            "worker 0 is started again in",
            "the disk is full",
        ],
    );

    detached.repair();
    // Whether or not its own retries of worker 0 are over.
    app.ctl(&["reload"]).expect_code(0);
    assert!(app.status().all_active(2));
    get(SERVER, None).expect("an answer");
    assert_eq!(app.pid(), controller, "the same controller");
    let (_, body) = control::request(&app.socket(), "GET", "/v1/status", "").expect("it answers");
    assert!(!body.contains("\"problem\""), "{body}");
    detached.app.stop();
    assert_port_free(PORT);
}

#[test]
fn clients_that_wait_are_served_after_a_restart() {
    let _namespace = Namespace::enter();
    let detached = Detached::start(&[]);
    detached.fail();
    let clients: Vec<_> = (0..4).map(|_| std::thread::spawn(|| get(SERVER, None))).collect();
    detached
        .app
        .wait_status("they are parked", SOON, |status| status.groups[0].parked == 4);
    detached.repair();
    detached.app.ctl(&["restart", "1"]).expect_code(0);
    for client in clients {
        client.join().expect("no panic").expect("an answer");
    }
    detached.app.ctl(&["restart", "0"]).expect_code(0);
    assert!(detached.app.status().all_active(2));
    detached.app.stop();
}

#[test]
fn clients_do_not_wait_for_ever() {
    let _namespace = Namespace::enter();
    let detached = Detached::start(&[]);
    detached.fail();
    let mut waiting = TcpStream::connect(SERVER).expect("it is parked");
    waiting.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    detached
        .app
        .wait_status("it is parked", SOON, |status| status.groups[0].parked == 1);
    detached
        .app
        .wait_status("nobody is parked any more", Duration::from_secs(90), |status| {
            status.groups[0].parked == 0
        });
    let refused = TcpStream::connect(SERVER).expect_err("nobody will serve");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    waiting.set_read_timeout(Some(SOON)).expect("a timeout");
    let reset = interrupted::retry(|| std::io::Read::read(&mut waiting, &mut [0; 1])).expect_err("it was reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    detached.repair();
    detached.app.ctl(&["reload"]).expect_code(0);
    get(SERVER, None).expect("an answer");
    detached.app.stop();
}

#[test]
fn with_when_empty_refuse_clients_are_refused_at_once() {
    let _namespace = Namespace::enter();
    let detached = Detached::start(&["--when-empty", "refuse"]);
    detached.fail();
    let refused = TcpStream::connect(SERVER).expect_err("nobody serves");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    detached.app.stop();
}

#[test]
fn stop_ends_it_with_0_and_leaves_nothing() {
    let _namespace = Namespace::enter();
    let detached = Detached::start(&[]);
    detached.fail();
    let controller = detached.app.pid();
    let name = detached.app.name().to_owned();
    detached.app.stop();
    wait::until("the controller has ended", SOON, || !kernel::is_alive(controller));
    assert_nothing_left(&name);
    assert_port_free(PORT);
}

#[test]
fn apply_starts_it_anew_although_nothing_differs() {
    let _namespace = Namespace::enter();
    let script = Launcher::new(&good());
    let name = Launch::new(&[]).app_name().to_owned();
    let site = Site::of(&format!(
        "name = {name:?}\nworkers = 2\ncommand = [{:?}]\n",
        script.command()
    ));
    site.apply(&[]).expect_code(0);
    let detached = Detached {
        app: App::detached(&name),
        script,
    };
    detached.fail();
    let planned = site.apply(&["--dry-run"]).expect_code(0).stdout;
    assert!(planned.contains("would start 2 workers anew"), "{planned}");
    detached.repair();
    let done = site.apply(&[]).expect_code(0).stdout;
    assert!(done.contains("started 2 workers anew"), "{done}");
    assert!(detached.app.status().all_active(2));
    let again = site.apply(&[]).expect_code(0).stdout;
    assert!(again.ends_with("nothing to do\n"), "{again}");
    detached.app.stop();
}

/// An app in the background by its file, so that the file can change what has failed.
fn by_file(more: &str) -> (Site, Detached, impl Fn(&str) -> String) {
    let script = Launcher::new(&good());
    let name = Launch::new(&[]).app_name().to_owned();
    let command = script.command();
    let text = {
        let name = name.clone();
        move |more: &str| format!("name = {name:?}\ncommand = [{command:?}]\n{more}\n")
    };
    let site = Site::of(&text(more));
    site.apply(&[]).expect_code(0);
    let app = App::detached(&name);
    (site, Detached { app, script }, text)
}

#[test]
fn apply_starts_it_anew_with_more_workers() {
    let _namespace = Namespace::enter();
    let (site, detached, text) = by_file("workers = 2");
    detached.fail();
    detached.repair();
    site.file(&text("workers = 3"));
    let done = site.apply(&[]).expect_code(0).stdout;
    assert!(done.contains("started 2 workers anew; scaled 2 → 3"), "{done}");
    assert!(detached.app.status().all_active(3));
    // The same with what takes a new version.
    detached.fail();
    detached.repair();
    site.file(&text("workers = 4\nenv = { A = \"1\" }"));
    site.apply(&[]).expect_code(0);
    assert!(detached.app.status().all_active(4));
    detached.app.stop();
}

#[test]
fn apply_starts_it_anew_with_the_time_that_it_needs() {
    let _namespace = Namespace::enter();
    let (site, detached, text) = by_file("workers = 1\nready_timeout = \"1s\"");
    let slow = commands::rust(&["--boot-delay-ms", "3000"]).join(" ");
    detached.script.deploy(&slow);
    for pid in detached.app.status().pids().into_iter().flatten() {
        kill_process(pid);
    }
    detached.app.wait_status("it has failed", LONG, |status| {
        status.workers.iter().all(|worker| worker.state == "failed")
    });
    site.file(&text("workers = 1\nready_timeout = \"10s\""));
    let done = site.apply(&[]).expect_code(0).stdout;
    assert!(done.contains("started 1 worker anew"), "{done}");
    assert!(detached.app.status().all_active(1));
    let again = site.apply(&[]).expect_code(0).stdout;
    assert!(again.ends_with("nothing to do\n"), "{again}");
    detached.app.stop();
}

#[test]
fn in_the_background_of_a_service_manager_it_ends() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bind a datagram socket");
    manager.set_read_timeout(Some(SOON)).expect("a timeout");
    let script = Launcher::new(&good());
    // Without the manager it would stay.
    let launch =
        Launch::new(&["--workers", "2", "--detach"]).env("NOTIFY_SOCKET", path.to_str().expect("a plain path"));
    launch.to_end(&[script.command()], LONG).expect_code(0);
    let app = App::detached(launch.app_name());
    let controller = app.pid();
    script.deploy("/bin/false");
    for pid in app.status().pids().into_iter().flatten() {
        kill_process(pid);
    }
    wait::until("the controller has ended", LONG, || !kernel::is_alive(controller));
    assert_nothing_left(app.name());
    assert_port_free(PORT);
    manager.set_nonblocking(true).expect("a mode");
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = interrupted::retry(|| manager.recv(&mut buffer)) {
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        writeln!(heard, "{text}").expect("a string takes everything");
    }
    assert!(
        heard.contains("STATUS=0/2 active, least-loaded: every worker has failed"),
        "{heard}"
    );
}

#[test]
fn what_was_up_for_a_moment_only_says_why() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let launch = Launch::new(&["--workers", "2", "--detach"]);
    // Worker 1 never gets up, and worker 0 once only: the launcher never sees both.
    let line = format!(
        "mkdir {}/$REUSE_WORKER_ID || {{ echo the disk is full >&2; exit 9; }}; test $REUSE_WORKER_ID = 0 || exit 8; \
         {} --listen {SERVER} & sleep 1; kill -9 $!; exit 9",
        folder.path().display(),
        binaries::test_server()
    );
    let output = launch.to_end(&["/bin/sh", "-c", &line], LONG).expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "every worker has failed",
            "the worker's last output",
            "the disk is full",
        ],
    );
    assert_nothing_left(launch.app_name());
    assert_port_free(PORT);
}

#[test]
fn in_the_foreground_it_ends_with_1() {
    let _namespace = Namespace::enter();
    let script = Launcher::new(&good());
    let mut app = Launch::new(&["--workers", "2"]).run(&[script.command()]);
    script.deploy("/bin/false");
    for pid in app.status().pids().into_iter().flatten() {
        kill_process(pid);
    }
    assert_eq!(app.wait_exit(LONG).code(), Some(1), "{}", app.output());
    assert!(app.output().contains("every worker has failed"), "{}", app.output());
    assert_nothing_left(app.name());
}

#[test]
fn what_falls_over_while_it_starts_leaves_nothing() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "2", "--detach"]);
    // It listens for long enough to be seen, and dies.
    let line = format!(
        "{} --listen {SERVER} & sleep 0.3; kill -9 $!; exit 9",
        binaries::test_server()
    );
    let output = launch.to_end(&["/bin/sh", "-c", &line], LONG);
    if output.code == Some(0) {
        // Both were up in the moment in which the launcher looked: then it stays.
        let app = App::detached(launch.app_name());
        app.wait_status("every worker has failed", LONG, |status| {
            status.workers.iter().all(|worker| worker.state == "failed")
        });
        app.stop();
    } else {
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("every worker has failed"), "{output:?}");
    }
    assert_nothing_left(launch.app_name());
    assert_port_free(PORT);
}
