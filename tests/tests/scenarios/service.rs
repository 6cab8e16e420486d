//! What a service manager hears of the controller, and what it can say to it by signals. The manager is a datagram socket of the test's.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reuse_tests::app::controller_command;
use reuse_tests::events::Events;
use reuse_tests::launcher::Launcher;
use reuse_tests::load::{Load, Mode};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, SERVER, binaries, commands, interrupted, kernel, run, wait};

const SOON: Duration = Duration::from_secs(10);

/// Pauses of the clients whose requests a reload must not lose.
const PAUSE: Duration = Duration::from_millis(5);

/// The manager's end.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: Scratch,
}

impl Manager {
    fn new() -> Self {
        let folder = Scratch::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind a datagram socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        Self {
            socket,
            path,
            _folder: folder,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }

    /// The next message's lines, if one comes soon.
    fn next(&self) -> Option<Vec<String>> {
        let mut buffer = [0; 4096];
        let length = interrupted::retry(|| self.socket.recv(&mut buffer)).ok()?;
        let text = String::from_utf8(buffer[..length].to_vec()).expect("text");
        Some(text.lines().map(str::to_owned).collect())
    }

    /// All lines until one is as `wanted` says, that one included.
    #[track_caller]
    fn until(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let deadline = Instant::now() + limit;
        let mut all: Vec<String> = Vec::new();
        while Instant::now() < deadline {
            let lines = self.next().unwrap_or_default();
            let found = lines.iter().any(|line| wanted(line));
            all.extend(lines);
            if found {
                return all;
            }
        }
        panic!("waited {limit:?} in vain until the manager heard {what}; it heard {all:#?}");
    }

    #[track_caller]
    fn until_line(&self, line: &str, limit: Duration) -> Vec<String> {
        self.until(line, limit, |heard| heard == line)
    }
}

/// With the manager's socket, and no controlling terminal, as a service.
fn service(manager: &Manager, options: &[&str], command: &[String]) -> App {
    let mut app = start(manager, options, command);
    app.wait_all_active(2);
    app
}

fn start(manager: &Manager, options: &[&str], command: &[String]) -> App {
    Launch::new(&[&["--workers", "2"][..], options].concat())
        .env("NOTIFY_SOCKET", manager.path())
        .own_session()
        .start(command)
}

#[test]
fn ready_is_when_all_are_active() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    let slow = format!("{} --listen {SERVER} --boot-delay-ms 1500", binaries::test_server());
    let script = Launcher::new(&format!(
        "sh -c '[ $REUSE_WORKER_ID = 0 ] && exec {} --listen {SERVER}; exec {slow}'",
        binaries::test_server()
    ));
    let mut app = start(&manager, &["--policy", "sticky"], &[script.command()]);
    let heard = manager.until("half", SOON, |line| line == "STATUS=1/2 active, sticky");
    assert!(!heard.contains(&"READY=1".to_owned()), "{heard:?}");
    let heard = manager.until_line("READY=1", SOON);
    assert!(
        heard.contains(&"STATUS=2/2 active, sticky".to_owned())
            || manager
                .until("all", SOON, |line| line == "STATUS=2/2 active, sticky")
                .len()
                == 1
    );
    app.wait_all_active(2);
    for slot in 0..2 {
        let environment =
            std::fs::read(format!("/proc/{}/environ", app.status().pid_of(slot))).expect("a process of ours");
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_"));
    }
    app.ctl(&["policy", "hash"]).expect_code(0);
    manager.until_line("STATUS=2/2 active, hash", SOON);
    app.ctl(&["drain", "1"]).expect_code(0);
    manager.until_line("STATUS=1/2 active, hash", SOON);
    app.signal(Signal::SIGTERM);
    manager.until_line("STOPPING=1", SOON);
    assert_eq!(app.wait_exit(SOON).code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_while_the_task_lives() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    let launch = Launch::new(&["--workers", "2"])
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "400000");
    let app = launch.run(&commands::rust(&[]));
    manager.until_line("WATCHDOG=1", SOON);
    let began = Instant::now();
    for _ in 0..5 {
        manager.until_line("WATCHDOG=1", SOON);
    }
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(600) && took < Duration::from_secs(2),
        "every 200 ms: {took:?}"
    );
    // A controller that is stopped says nothing, which is the point of it.
    app.signal(Signal::SIGSTOP);
    wait::until("the controller is stopped", SOON, || kernel::is_stopped(app.pid()));
    while manager.next().is_some() {}
    assert!((0..10).all(|_| manager.next().is_none()), "nothing for half a second");
    app.signal(Signal::SIGCONT);
    manager.until_line("WATCHDOG=1", SOON);
    app.stop();
}

#[test]
fn a_watchdog_for_somebody_else_is_left_alone() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    let launch = Launch::new(&["--workers", "2"])
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "100000")
        .env("WATCHDOG_PID", "1");
    let app = launch.run(&commands::rust(&[]));
    let heard = manager.until_line("READY=1", SOON);
    assert!(!heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");
    assert!((0..10).all(|_| !manager.next().unwrap_or_default().contains(&"WATCHDOG=1".to_owned())));
    app.stop();
}

#[test]
fn an_abstract_socket_and_a_detached_controller_do_as_well() {
    let _namespace = Namespace::enter();
    let name = format!("reuse-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).expect("a short name");
    let manager = Manager {
        socket: UnixDatagram::bind_addr(&address).expect("bind an abstract socket"),
        path: format!("@{name}").into(),
        _folder: Scratch::new(),
    };
    manager
        .socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    let launch = Launch::new(&["--workers", "2", "--detach"]).env("NOTIFY_SOCKET", manager.path());
    launch
        .to_end(&commands::rust(&[]), Duration::from_secs(40))
        .expect_code(0);
    let app = App::detached(launch.app_name());
    manager.until_line("READY=1", SOON);
    app.stop();
}

#[test]
fn a_manager_that_went_away_is_no_reason_to_fail() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    let app = service(&manager, &[], &commands::rust(&[]));
    drop(manager);
    app.ctl(&["policy", "hash"]).expect_code(0);
    app.stop();
}

#[test]
fn hangup_reloads_and_says_so() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    let launcher = Launcher::new(&commands::rust(&["--label", "v1"]).join(" "));
    let app = service(&manager, &[], &[launcher.command()]);
    manager.until_line("READY=1", SOON);
    let events = Events::of(&app);
    let before = app.status().pids();
    let load = Load::start_with_pause(SERVER, 8, Mode::NewConnections, Duration::from_secs(60), PAUSE);
    load.wait_for(100, SOON);
    app.signal(Signal::SIGHUP);
    let heard = manager.until("a reload", SOON, |line| line.starts_with("RELOADING=1"));
    let at = manager_time(&heard)
        .or_else(|| manager_time(&manager.until("when", SOON, |line| line.starts_with("MONOTONIC_USEC="))));
    assert!(at.is_some_and(|at| at > 0), "{heard:?}");
    manager.until_line("READY=1", SOON);
    load.wait_for(100, SOON);
    load.stop().assert_nothing_failed();
    assert!(app.status().pids().iter().zip(&before).all(|(new, old)| new != old));
    let said = events.wait_for("signal", 1, SOON);
    assert_eq!(said[0].message, "SIGHUP: reloaded 2 workers");
    // A version that does not work: the old one goes on, and so does the service.
    let before = app.status().pids();
    launcher.deploy(&commands::rust(&["--exit-code", "4"]).join(" "));
    app.signal(Signal::SIGHUP);
    manager.until("a reload", SOON, |line| line.starts_with("RELOADING=1"));
    manager.until_line("READY=1", SOON);
    assert_eq!(app.status().pids(), before);
    wait::until("the failure is told", SOON, || {
        events
            .named("warning")
            .iter()
            .any(|event| event.message.starts_with("SIGHUP: the new instance of worker 0"))
    });
    app.stop();
}

fn manager_time(lines: &[String]) -> Option<u64> {
    lines
        .iter()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse().ok())
}

#[test]
fn in_a_terminal_a_hangup_is_the_end() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "2"]);
    let run = launch.command(&commands::rust(&[]));
    // `script` gives it a terminal of its own.
    let line: Vec<String> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("plain")))
        .collect();
    // Where the tests were started by `nohup`, HUP is ignored, and would stay so.
    let mut script = Command::new("env");
    script.args(["--default-signal=HUP", "script"]);
    script.args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]);
    script
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    let mut child = script.spawn().expect("run script (package bsdutils)");
    let app = App::detached(launch.app_name());
    app.wait_status("both are active", Duration::from_secs(40), |status| {
        status.all_active(2)
    });
    app.signal(Signal::SIGHUP);
    wait::until("the controller has ended", SOON, || !app.socket().exists());
    wait::until("script has ended", SOON, || {
        child.try_wait().expect("a child of ours").is_some()
    });
}

#[test]
fn workers_come_and_go_by_signal() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    let app = service(&manager, &[], &commands::rust(&[]));
    let events = Events::of(&app);
    app.signal(Signal::SIGTTIN);
    app.wait_status("there are three", SOON, |status| status.all_active(3));
    for left in [2, 1] {
        app.signal(Signal::SIGTTOU);
        app.wait_status("one is gone", SOON, |status| status.all_active(left));
        events.wait_for("signal", 4 - left, SOON);
    }
    app.signal(Signal::SIGTTOU);
    wait::until("the last one stays", SOON, || {
        events
            .named("warning")
            .iter()
            .any(|event| event.message.starts_with("SIGTTOU: an app has 1 to 256 workers"))
    });
    assert!(app.status().all_active(1));
    assert!(
        app.output().contains("SIGTTIN: scaled from 2 to 3 workers"),
        "{}",
        app.output()
    );
    app.stop();
}

#[test]
fn signals_that_come_too_early_are_carried_out_later() {
    let _namespace = Namespace::enter();
    let manager = Manager::new();
    // Each start takes a while.
    let version = |label: &str| {
        format!(
            "/bin/sh -c 'sleep 1; exec {}'",
            commands::rust(&["--label", label]).join(" ")
        )
    };
    let launcher = Launcher::new(&version("v1"));
    // So that files are looked at before each reload.
    let scratch = Scratch::new();
    let variables = scratch.path().join("app.env");
    std::fs::write(&variables, "A=1\n").expect("a folder of ours");
    let options = ["--env-file", variables.to_str().expect("a plain path")];
    let app = service(&manager, &options, &[launcher.command()]);
    manager.until_line("READY=1", Duration::from_secs(20));
    let events = Events::of(&app);
    for signal in [Signal::SIGTTIN, Signal::SIGTTIN] {
        app.signal(signal);
        wait::until("it was seen", SOON, || app.status().workers.len() > 2);
    }
    app.wait_status("two more", SOON, |status| status.all_active(4));
    assert!(events.named("warning").is_empty(), "{:?}", events.named("warning"));

    app.signal(Signal::SIGHUP);
    app.wait_status("the reload is under way", SOON, |status| {
        status.workers.iter().any(|worker| worker.instances.len() > 1)
    });
    launcher.deploy(&version("v2"));
    for _ in 0..3 {
        let noted = events.named("signal").len();
        app.signal(Signal::SIGHUP);
        events.wait_for("signal", noted + 1, SOON);
    }
    wait::until("two reloads are done", Duration::from_secs(60), || {
        let said = events.named("signal");
        said.iter()
            .filter(|event| event.message == "SIGHUP: reloaded 4 workers")
            .count()
            == 2
    });
    for worker in 0..4 {
        let got = app.ctl(&["get", &worker.to_string(), "/"]).expect_code(0).stdout;
        assert!(got.contains("v2"), "worker {worker}: {got}");
    }
    app.stop();
}

#[test]
fn usr1_rotates_the_logs() {
    let _namespace = Namespace::enter();
    let app = App::run(&[], &commands::rust(&[]));
    let events = Events::of(&app);
    let pids = app.status().pids();
    app.signal(Signal::SIGUSR1);
    let said = events.wait_for("signal", 1, SOON);
    assert!(said[0].message.starts_with("SIGUSR1: "), "{said:?}");
    assert_eq!(app.status().pids(), pids);
    app.stop();
}

#[test]
fn a_unit_says_how_to_run_it() {
    let folder = Scratch::new();
    let server = folder.write_executable("server", "#!/bin/sh\n");
    let unit = |arguments: &[&str]| run::to_end(controller_command().arg("unit").args(arguments), SOON);
    let path = server.to_str().expect("plain");
    let text = unit(&["--", "--name", "web", "--workers", "4", "--", path, "100% $HOME"])
        .expect_code(0)
        .stdout;
    let start = text
        .lines()
        .find(|line| line.starts_with("ExecStart="))
        .expect("a start");
    assert!(
        start.starts_with("ExecStart=/") && start.ends_with(&format!("-- {path} \"100%% $$HOME\"")),
        "{start}"
    );
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "KillMode=mixed",
        "WantedBy=multi-user.target",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is missing in {text}");
    }
    let file = folder.write("reuse.toml", &format!("name = \"web\"\ncommand = [{path:?}]\n"));
    let file = file.to_str().expect("plain");
    let text = unit(&["-f", file]).expect_code(0).stdout;
    assert!(text.contains(&format!(" run --file {file}")), "{text}");
    unit(&["-f", file, "--name", "api"])
        .expect_code(2)
        .expect_complaint(&["api", "web"]);
    let json = unit(&["--json", "-f", file]).expect_code(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
    assert_eq!(
        (&json["ok"], json["unit"].as_str()),
        (&true.into(), Some(text.as_str()))
    );
    unit(&["--", "--workers", "0", "--", path]).expect_code(2);
    unit(&[]).expect_code(2);
    if let Ok(analyze) = Command::new("systemd-analyze").arg("--version").output()
        && analyze.status.success()
    {
        let written = folder.write("web.service", &text);
        let checked = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&written)
            .output()
            .expect("it runs");
        let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
        let ours: Vec<&str> = complaints.lines().filter(|line| line.contains("web.service")).collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
}
