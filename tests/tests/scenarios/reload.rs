//! Twenty reloads in a row under load lose nothing, and a bad deploy costs nothing.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use reuse_tests::heavy::Heavy;
use reuse_tests::launcher::Launcher;
use reuse_tests::load::{Load, Mode, Report};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::run::assert_says;
use reuse_tests::websocket::{Goodbye, WebSocket};
use reuse_tests::{App, Launch, Namespace, SERVER, commands};

const CLIENTS: u16 = 64;

/// Of the keep-alive clients, which would else keep both sides busy without end.
const PAUSE: Duration = Duration::from_millis(10);

/// Long enough that a reload which waits for the end of it is told apart from one that ends with the server.
const GRACE: [&str; 4] = ["--drain-timeout", "60s", "--stop-timeout", "60s"];

/// Far below [`GRACE`], far above what four starts of a runtime take on a busy machine.
const PROMPT: Duration = Duration::from_secs(20);

/// Without a settle time: twenty reloads of four workers would wait for most of a minute and a half.
fn four(command: &[String]) -> App {
    App::run(&[&["--workers", "4", "--settle", "0s"][..], &GRACE].concat(), command)
}

/// With the usual settle time: what most people run, for a few reloads.
fn four_that_settle(command: &[String]) -> App {
    App::run(&[&["--workers", "4"][..], &GRACE].concat(), command)
}

/// Reloads so often while the clients make so many requests, and checks the sums.
#[derive(Debug, Clone, Copy)]
struct Rounds {
    reloads: u64,
    requests: u64,
}

const MANY: Rounds = Rounds {
    reloads: 20,
    requests: 100_000,
};

const FEW: Rounds = Rounds {
    reloads: 3,
    requests: 15_000,
};

#[track_caller]
fn reload_under_load(app: &App, mode: Mode, pause: Duration, Rounds { reloads, requests }: Rounds) -> Report {
    let load = Load::start_with_pause(SERVER, CLIENTS, mode, Duration::from_secs(240), pause);
    for reload in 1..=reloads {
        let before = app.status().pids();
        let output = app.ctl(&["reload"]).expect_code(0);
        assert!(
            output.took < PROMPT,
            "reload {reload} took {:?}: it waited for the end of the grace",
            output.took
        );
        let status = app.status();
        assert!(status.all_active(4), "{status:#?}");
        assert!(
            status.pids().iter().zip(&before).all(|(new, old)| new != old),
            "every process is a new one: {before:?}, then {:?}",
            status.pids()
        );
        let goal = requests * reload / reloads;
        load.wait_for(goal.saturating_sub(load.finished()), Duration::from_secs(120));
    }
    let report = load.stop();
    report.assert_nothing_failed();
    assert!(report.answered >= requests);
    assert!(
        report.by_pid.len() as u64 >= 4 * reloads,
        "only {} processes answered",
        report.by_pid.len()
    );
    reconcile(app, report.connections);
    assert_all_ended(app);
    report
}

#[test]
fn twenty_reloads_with_a_new_connection_for_each_request() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four(&commands::bun_reuse_port(&[]));
    reload_under_load(&app, Mode::NewConnections, Duration::ZERO, MANY);
    app.stop();
}

#[test]
fn twenty_reloads_with_keep_alive_clients_of_bun() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four(&commands::bun_reuse_port(&[]));
    reload_under_load(&app, Mode::KeepAlive, PAUSE, MANY);
    app.stop();
}

#[test]
fn twenty_reloads_with_keep_alive_clients_of_node() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four(&commands::node_graceful());
    reload_under_load(&app, Mode::KeepAlive, PAUSE, MANY);
    app.stop();
}

#[test]
fn reloads_with_the_usual_settle_time_and_a_new_connection_for_each_request() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four_that_settle(&commands::bun_reuse_port(&[]));
    reload_under_load(&app, Mode::NewConnections, Duration::ZERO, FEW);
    app.stop();
}

#[test]
fn reloads_with_the_usual_settle_time_and_keep_alive_clients_of_node() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four_that_settle(&commands::node_graceful());
    reload_under_load(&app, Mode::KeepAlive, PAUSE, FEW);
    app.stop();
}

#[test]
fn idle_keep_alive_clients_do_not_hold_a_reload_up() {
    let _namespace = Namespace::enter();
    for command in [
        commands::node_graceful(),
        commands::bun_reuse_port(&[]),
        commands::python_asyncio(&[]),
        commands::rust(&[]),
    ] {
        let app = four(&command);
        let mut idle: Vec<_> = (0..16)
            .map(|_| {
                let mut connection = reuse_tests::http::Connection::open(SERVER, None).expect("connect");
                connection.get(false).expect("an answer");
                connection
            })
            .collect();
        let output = app.ctl(&["reload"]).expect_code(0);
        assert!(output.took < PROMPT, "{command:?}: {:?}", output.took);
        assert!(
            idle.iter_mut()
                .all(|connection| connection.wait_closed(Duration::from_secs(1))),
            "the servers closed them"
        );
        app.stop();
    }
}

#[test]
fn websockets_of_bun_get_the_servers_own_close() {
    reload_with_websockets(&commands::bun_reuse_port(&[]));
}

#[test]
fn websockets_of_node_get_the_servers_own_close() {
    reload_with_websockets(&commands::node_websocket());
}

#[track_caller]
fn reload_with_websockets(command: &[String]) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = four(command);
    for reload in 0..MANY.reloads {
        let sockets: Vec<_> = (0..32)
            .map(|_| {
                let mut socket =
                    WebSocket::open(SERVER, None).unwrap_or_else(|error| panic!("reload {reload}: {error}"));
                socket
                    .echo("hello")
                    .unwrap_or_else(|error| panic!("reload {reload}: {error}"));
                thread::spawn(move || socket.goodbye(Duration::from_secs(60)))
            })
            .collect();
        let output = app.ctl(&["reload"]).expect_code(0);
        assert!(output.took < PROMPT, "reload {reload} took {:?}", output.took);
        let goodbyes: BTreeSet<_> = sockets
            .into_iter()
            .map(|socket| format!("{:?}", socket.join().expect("a client thread")))
            .collect();
        assert_eq!(
            goodbyes,
            BTreeSet::from([format!("{:?}", Goodbye::Close(1001))]),
            "reload {reload}"
        );
    }
    reconcile(&app, 32 * MANY.reloads);
    app.stop();
}

/// Deploys `bad` under load: the reload must fail with all of `words`, and nobody may notice.
#[track_caller]
fn bad_deploy(options: &[&str], good: &[String], bad: &str, words: &[&str]) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&good.join(" "));
    let app = App::run(
        &[&["--workers", "3", "--ready-timeout", "2s"][..], options].concat(),
        &[launcher.command()],
    );
    let before = app.status();
    let load = Load::start(SERVER, 16, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(200, Duration::from_secs(20));
    launcher.deploy(bad);
    let output = app.ctl(&["reload"]).expect_code(1);
    assert_says(&output.stderr, words);
    load.wait_for(200, Duration::from_secs(20));
    let report = load.stop();
    report.assert_nothing_failed();
    let after = app.status();
    assert_eq!(after.pids(), before.pids(), "the old instances are untouched");
    assert!(after.all_active(3), "{after:#?}");
    reconcile(&app, report.connections);
    assert_all_ended(&app);

    launcher.deploy(&good.join(" "));
    app.ctl(&["reload"]).expect_code(0);
    assert!(
        app.status()
            .pids()
            .iter()
            .zip(before.pids())
            .all(|(new, old)| *new != old),
        "a good version is deployed as ever"
    );
    app.stop();
}

#[test]
fn a_version_that_exits_at_once() {
    bad_deploy(
        &[],
        &commands::rust(&[]),
        &commands::rust(&["--exit-code", "3"]).join(" "),
        &["exited with code 3", "boom: this version does not work"],
    );
}

#[test]
fn a_version_that_never_listens() {
    bad_deploy(
        &[],
        &commands::rust(&[]),
        &commands::rust(&["--never-listen"]).join(" "),
        &["listen"],
    );
}

#[test]
fn a_version_that_listens_on_another_port() {
    let elsewhere = format!("{} --listen 127.0.0.1:8099", commands::rust(&[])[0]);
    bad_deploy(&[], &commands::rust(&[]), &elsewhere, &["8099"]);
}

#[test]
fn an_inherited_listener_that_the_new_version_does_not_use() {
    let elsewhere = format!("{} --listen 127.0.0.1:8099", commands::rust(&[])[0]);
    bad_deploy(
        &["--listen", &SERVER.to_string()],
        &commands::rust_inherited(),
        &elsewhere,
        &["8099"],
    );
}

#[test]
fn what_a_bad_version_complained_of_is_seen_behind_a_chatting_old_one() {
    let _namespace = Namespace::enter();
    let good = commands::rust(&[]).join(" ");
    let launcher = Launcher::new(&format!(
        "/bin/sh -c '(while :; do echo old-words; sleep 0.01; done) & exec {good}'"
    ));
    let app = App::run(&["--workers", "1"], &[launcher.command()]);
    launcher.deploy("/bin/sh -c 'echo new-words >&2; sleep 1; exit 3'");
    let output = app.ctl(&["reload"]).expect_code(1).stderr;
    assert!(output.contains("| new-words"), "{output}");
    assert!(output.contains("both instances' lines"), "{output}");

    // It shares its file with nobody.
    let alone = Launcher::new("/bin/sh -c 'echo new-words >&2; exit 3'");
    let launch = Launch::new(&["--workers", "1", "--detach"]);
    let output = launch
        .to_end(&[alone.command()], Duration::from_secs(60))
        .expect_code(1);
    assert!(
        output
            .stderr
            .ends_with("  the worker's last output:\n    | new-words\n"),
        "{}",
        output.stderr
    );
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(
        matches!(lines[..], [error, hint, _, _] if error.starts_with("reuse-ctl: every worker has failed") && hint.starts_with("  → ")),
        "the error once, the hint once: {lines:?}"
    );
    reuse_tests::leftovers::assert_nothing_left(launch.app_name());
    app.stop();
}
