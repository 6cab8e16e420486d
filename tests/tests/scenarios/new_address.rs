//! An app moves to another address: both are served until the end, nobody's request is lost, and by mistake it does not happen.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::events::Events;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::{Failure, get};
use reuse_tests::launcher::Launcher;
use reuse_tests::leftovers::{assert_nothing_left, assert_port_free};
use reuse_tests::load::{Load, Mode};
use reuse_tests::run::assert_says;
use reuse_tests::site::Site;
use reuse_tests::status::Status;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, binaries, commands, kernel, wait};

const NEW_PORT: u16 = 8081;
const NEW: SocketAddr = SocketAddr::new(SERVER.ip(), NEW_PORT);
const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// Leaves the servers time to start.
const PAUSE: Duration = Duration::from_millis(5);

fn load_on(address: SocketAddr) -> Load {
    let load = Load::start_with_pause(address, 16, Mode::NewConnections, LIMIT, PAUSE);
    load.wait_for(200, SOON);
    load
}

/// All workers on the new address, each its own answers; the old one is gone, and its port free.
#[track_caller]
fn assert_moved(app: &App, workers: usize) {
    let status = app.wait_status("only the new address is left", SOON, |status| {
        is_at(status, &[NEW]) && status.all_active(workers)
    });
    let refused = TcpStream::connect(SERVER).expect_err("nobody listens there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_port_free(PORT);
    let load = load_on(NEW);
    load.wait_for(200, SOON);
    let report = load.stop();
    report.assert_nothing_failed();
    assert_eq!(report.by_slot.len(), workers, "{:?}", report.by_slot);
    assert_eq!((status.fallbacks, status.unsteered), (0, 0));
}

fn is_at(status: &Status, addresses: &[SocketAddr]) -> bool {
    let shown: Vec<String> = status.groups.iter().map(|group| group.addr.clone()).collect();
    shown == addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
}

/// Does `change` under load on the old address: of that nothing is lost before it returns.
#[track_caller]
fn without_loss<T>(change: impl FnOnce() -> T) -> T {
    let load = load_on(SERVER);
    let done = change();
    let report = load.stop();
    report.assert_nothing_failed();
    done
}

fn node(port: u16) -> Vec<String> {
    let mut command = commands::node_graceful();
    for word in &mut command {
        if *word == PORT.to_string() {
            *word = port.to_string();
        }
    }
    command
}

fn file(name: &str, workers: u16, command: &[String], more: &str) -> String {
    let command: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    format!(
        "name = {name:?}\nworkers = {workers}\ncommand = [{}]\n{more}\n",
        command.join(", ")
    )
}

fn fresh_name() -> String {
    Launch::new(&[]).app_name().to_owned()
}

#[test]
fn apply_with_another_port_in_the_command() {
    apply_moves(3, |name, port| file(name, 3, &node(port), ""));
}

#[test]
fn apply_with_another_port_of_the_only_worker() {
    apply_moves(1, |name, port| file(name, 1, &node(port), ""));
}

#[test]
fn apply_with_another_variable() {
    let command = commands::node_environment(&[]);
    apply_moves(2, |name, port| {
        file(name, 2, &command, &format!("[env]\nPORT = \"{port}\""))
    });
}

#[test]
fn apply_with_another_service_port() {
    apply_moves(2, |name, port| file(name, 2, &node(port), &format!("port = {port}")));
}

#[track_caller]
fn apply_moves(workers: usize, text: impl Fn(&str, u16) -> String) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let name = fresh_name();
    let site = Site::of(&text(&name, PORT));
    site.apply(&[]).expect_code(0);
    let app = App::detached(&name);
    let events = Events::of(&app);
    site.file(&text(&name, NEW_PORT));
    let output = without_loss(|| site.apply(&[]).expect_code(0));
    let told = format!("{SERVER} → {NEW}");
    assert!(output.stdout.contains(&told), "{output:?}");
    assert_moved(&app, workers);
    assert_eq!(events.named("moved").len(), 1);
    let again = site.apply(&[]).expect_code(0);
    assert!(again.stdout.ends_with("nothing to do\n"), "{again:?}");
    // And back.
    site.file(&text(&name, PORT));
    site.apply(&[]).expect_code(0);
    app.wait_status("it is back", SOON, |status| {
        is_at(status, &[SERVER]) && status.all_active(workers)
    });
    app.stop();
    assert_port_free(NEW_PORT);
}

/// A port that the new version has no more is refused, and does not hold its clients.
#[test]
fn apply_with_one_service_port_less() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let name = fresh_name();
    let both = commands::rust(&["--listen", "127.0.0.1:8081"]);
    let site = Site::of(&file(&name, 2, &both, &format!("port = [{PORT}, {NEW_PORT}]")));
    site.apply(&[]).expect_code(0);
    let app = App::detached(&name);
    get(NEW, None).expect("an answer on the second port");
    site.file(&file(&name, 2, &commands::rust(&[]), &format!("port = {PORT}")));
    without_loss(|| site.apply(&[]).expect_code(0));
    app.wait_status("only the first address is left", SOON, |status| {
        is_at(status, &[SERVER]) && status.all_active(2)
    });
    let refused = TcpStream::connect(NEW).expect_err("nobody listens there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    app.stop();
}

#[test]
fn reload_with_another_port_in_the_env_file() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let site = Site::new();
    let env_file = site.write("env", &format!("PORT={PORT}\n"));
    let options = ["--workers", "2", "--env-file", env_file.to_str().expect("a plain path")];
    let app = App::run(&options, &commands::node_environment(&[]));
    site.write("env", &format!("PORT={NEW_PORT}\n"));
    without_loss(|| app.ctl(&["reload"]).expect_code(0));
    assert_moved(&app, 2);
    app.stop();
}

/// A script whose port nobody but itself knows.
fn script() -> (Launcher, String) {
    let elsewhere = format!("{} --listen {NEW}", binaries::test_server());
    (Launcher::new(&commands::rust(&[]).join(" ")), elsewhere)
}

/// After the last worker has moved, the old address is served for the 5 s that are promised, and refused then.
#[track_caller]
fn assert_old_address_lingers(events: &Events) {
    let moved = events.wait_for("moved", 1, SOON);
    let moved_at = moved.iter().map(|event| event.at_ms).max().expect("one at least");
    wait::until("the old address is refused", SOON, || match get(SERVER, None) {
        Ok(_) => false,
        Err(failure) => {
            assert_eq!(failure, Failure::Connect(std::io::ErrorKind::ConnectionRefused));
            true
        }
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let lasted = u64::try_from(now.as_millis()).expect("a moment of our time") - moved_at;
    assert!((4_000..15_000).contains(&lasted), "it was served for {lasted} ms");
}

/// Moves an app whose answers take a while, and whose old address nobody but the last old processes serves in the end.
#[track_caller]
fn moves_with_slow_answers(workers: usize, options: &[&str]) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let server = |address: SocketAddr| format!("{} --listen {address} --slow-ms 200", binaries::test_server());
    let script = Launcher::new(&server(SERVER));
    let count = workers.to_string();
    let app = App::run(&[&["--workers", &count][..], options].concat(), &[script.command()]);
    script.deploy(&server(NEW));
    let events = Events::of(&app);
    let reloaded = without_loss(|| app.ctl(&["reload", "--new-address"]).expect_code(0));
    assert!(reloaded.stdout.contains(&format!("{SERVER} → {NEW}")), "{reloaded:?}");
    assert_old_address_lingers(&events);
    assert_moved(&app, workers);
    app.stop();
}

#[test]
fn workers_that_move_two_at_a_time_leave_the_old_address_served() {
    moves_with_slow_answers(8, &[]);
}

#[test]
fn a_long_settle_time_takes_nothing_from_the_old_address() {
    moves_with_slow_answers(2, &["--settle", "6s"]);
}

#[test]
fn a_port_that_only_the_code_names_is_changed_when_somebody_says_so() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let (script, elsewhere) = script();
    let app = App::run(&["--workers", "3", "--ready-timeout", "2s"], &[script.command()]);
    script.deploy(&elsewhere);
    let before = app.status().pids();
    let refused = without_loss(|| app.ctl(&["reload"]).expect_code(1).stderr);
    assert_says(
        &refused,
        &[&NEW.to_string(), &SERVER.to_string(), "reuse-ctl reload --new-address"],
    );
    assert_eq!(app.status().pids(), before);
    without_loss(|| app.ctl(&["reload", "--new-address"]).expect_code(0));
    assert_moved(&app, 3);
    app.stop();
}

#[test]
fn a_restart_moves_one_worker_when_somebody_says_so() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let (script, elsewhere) = script();
    let app = App::run(&["--workers", "2", "--ready-timeout", "2s"], &[script.command()]);
    script.deploy(&elsewhere);
    without_loss(|| app.ctl(&["restart", "0", "--new-address"]).expect_code(0));
    let status = app.status();
    assert!(is_at(&status, &[SERVER, NEW]), "{status:#?}");
    assert_eq!(get(NEW, None).expect("an answer").slot, Some(0));
    assert_eq!(get(SERVER, None).expect("an answer").slot, Some(1));
    // Each comes back where it was, whatever the others do.
    let crashed = status.pid_of(0);
    kill(Pid::from_raw(crashed), Signal::SIGKILL).expect("a process of ours");
    app.wait_status("worker 0 is back", SOON, |status| {
        status.all_active(2) && status.pid_of(0) != crashed
    });
    assert!(is_at(&app.status(), &[SERVER, NEW]), "{status:#?}");
    assert_eq!(get(NEW, None).expect("an answer").slot, Some(0));
    without_loss(|| app.ctl(&["restart", "1", "--new-address"]).expect_code(0));
    assert_moved(&app, 2);
    app.stop();
}

#[test]
fn a_worker_that_crashes_right_after_the_move_comes_back_there() {
    let _namespace = Namespace::enter();
    let (script, elsewhere) = script();
    let app = App::run(&["--workers", "1", "--ready-timeout", "2s"], &[script.command()]);
    let old = app.status().pid_of(0);
    script.deploy(&elsewhere);
    app.ctl(&["reload", "--new-address"]).expect_code(0);
    let crashed = app.status().pid_of(0);
    kill(Pid::from_raw(crashed), Signal::SIGKILL).expect("a process of ours");
    app.wait_status("it is back", SOON, |status| {
        let worker = &status.workers[0];
        worker.state == "active" && worker.pid.is_some_and(|pid| i64::from(pid) != i64::from(crashed))
    });
    assert!(kernel::is_alive(old), "the old address is still served");
    assert_eq!(get(NEW, None).expect("an answer").slot, Some(0));
    assert!(!app.output().contains("not ready within"), "{}", app.output());
    assert_moved(&app, 1);
    app.stop();
}

#[test]
fn a_named_port_stays_whatever_somebody_says() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let (script, elsewhere) = script();
    let port = PORT.to_string();
    let app = App::run(
        &["--workers", "2", "--port", &port, "--ready-timeout", "2s"],
        &[script.command()],
    );
    script.deploy(&elsewhere);
    for arguments in [&["reload"][..], &["reload", "--new-address"]] {
        let failed = without_loss(|| app.ctl(arguments).expect_code(1).stderr);
        assert!(failed.contains(&format!("port {PORT}")), "{failed}");
        assert!(!failed.contains("--new-address"), "{failed}");
    }
    assert!(is_at(&app.status(), &[SERVER]));
    app.stop();
}

#[test]
fn an_apply_that_fails_half_way_moves_back() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let name = fresh_name();
    let script = Launcher::new("/bin/true");
    let server = binaries::test_server();
    // Worker 1 fails on the new port.
    script.deploy(&format!(
        "/bin/sh -c 'test $REUSE_WORKER_ID$1 = 1{NEW_PORT} && exit 3; exec {server} --listen 127.0.0.1:$1' - \"$@\""
    ));
    let text = |port: u16| {
        file(
            &name,
            2,
            &[script.command(), port.to_string()],
            "ready_timeout = \"5s\"",
        )
    };
    let site = Site::of(&text(PORT));
    site.apply(&[]).expect_code(0);
    let app = App::detached(&name);
    site.file(&text(NEW_PORT));
    let failed = without_loss(|| site.apply(&[]).expect_code(1).stderr);
    assert!(failed.contains("brought back"), "{failed}");
    app.wait_status("it is back", SOON, |status| {
        is_at(status, &[SERVER]) && status.all_active(2)
    });
    get(SERVER, None).expect("an answer");
    app.stop();
    assert_port_free(NEW_PORT);
}

#[test]
fn a_stop_in_the_middle_of_a_move_leaves_nothing() {
    let _namespace = Namespace::enter();
    let (script, elsewhere) = script();
    let app = App::run(&["--workers", "1"], &[script.command()]);
    let old = app.status().pid_of(0);
    script.deploy(&elsewhere);
    app.ctl(&["reload", "--new-address"]).expect_code(0);
    assert!(kernel::is_alive(old), "it still serves the old address");
    assert!(is_at(&app.status(), &[SERVER, NEW]));
    let name = app.name().to_owned();
    app.stop();
    assert!(!kernel::is_alive(old));
    assert_nothing_left(&name);
    assert_port_free(PORT);
    assert_port_free(NEW_PORT);
}
