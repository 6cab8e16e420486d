//! A reload that has to wait for no request is quick, whatever the server does at its stop signal.

use std::thread;
use std::time::Duration;

use reuse_tests::conversation::Conversation;
use reuse_tests::events::Events;
use reuse_tests::load::{Load, Mode};
use reuse_tests::plain_servers::{OwnTimes, PlainServer, compiled, javascript, pythons, ruby_and_php};
use reuse_tests::websocket::{Goodbye, WebSocket};
use reuse_tests::{App, Namespace, SERVER, commands, wait};

/// A busy machine may delay one: the best of so many counts.
const TURNS: u32 = 3;

/// How long a new instance must live before the old one is ended, by default.
const SETTLE: Duration = Duration::from_secs(1);

/// For what takes milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// What a reload may take for each idle worker, above what the server itself takes to boot, to live through the settle time, and to end.
const PER_WORKER: Duration = Duration::from_millis(500);

#[test]
fn idle_javascript_is_reloaded_at_once() {
    idle_workers_are_reloaded_at_once(javascript);
}

#[test]
fn idle_pythons_are_reloaded_at_once() {
    idle_workers_are_reloaded_at_once(pythons);
}

#[test]
fn idle_go_jvm_and_nginx_are_reloaded_at_once() {
    idle_workers_are_reloaded_at_once(compiled);
}

#[test]
fn idle_unicorn_and_php_are_reloaded_at_once() {
    idle_workers_are_reloaded_at_once(ruby_and_php);
}

/// 64 clients leave no instant without a request, and yet every worker is replaced soon.
#[test]
fn busy_keep_alive_clients_do_not_hold_a_reload_up() {
    hardly_slower_than_idle(&commands::node_graceful(), reload_with_busy_clients);
}

/// The server spoke last on each, and closes it when it is told to stop.
#[test]
fn open_websockets_do_not_hold_a_reload_up() {
    hardly_slower_than_idle(&commands::node_websocket(), reload_with_websockets);
}

/// A reload with clients may take [`PER_WORKER`] longer for each worker than one without, in the best of some turns: a busy machine may delay
/// one. Both replace the same workers of the same app, with the same boots and the same settle time.
#[track_caller]
fn hardly_slower_than_idle(command: &[String], reload_with_clients: fn(&App) -> Duration) {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4"], command);
    let turns: Vec<(Duration, Duration)> = (0..TURNS).map(|_| (reload(&app), reload_with_clients(&app))).collect();
    app.stop();
    println!("reloads without clients, and with them: {turns:?}");
    let idle = turns.iter().map(|(idle, _)| *idle).min().expect("some turns");
    let busy = turns.iter().map(|(_, busy)| *busy).min().expect("some turns");
    assert!(
        busy <= idle + PER_WORKER * 4,
        "without clients, and with them: {turns:?}"
    );
}

/// How long it took.
#[track_caller]
fn reload(app: &App) -> Duration {
    app.ctl(&["reload"]).expect_code(0).took
}

#[track_caller]
fn reload_with_busy_clients(app: &App) -> Duration {
    let pause = Duration::from_millis(10);
    let load = Load::start_with_pause(SERVER, 64, Mode::KeepAlive, Duration::from_secs(120), pause);
    load.wait_for(1000, Duration::from_secs(20));
    let took = reload(app);
    load.stop().assert_nothing_failed();
    took
}

/// Every WebSocket must get the server's own goodbye.
#[track_caller]
fn reload_with_websockets(app: &App) -> Duration {
    // Each answers the server's goodbye at once.
    let sockets: Vec<_> = (0..32)
        .map(|_| open_websocket())
        .map(|socket| thread::spawn(|| socket.goodbye(Duration::from_secs(60))))
        .collect();
    let took = reload(app);
    for socket in sockets {
        assert_eq!(socket.join().expect("a client thread"), Goodbye::Close(1001));
    }
    took
}

fn open_websocket() -> WebSocket {
    let mut socket = WebSocket::open(SERVER, None).expect("a WebSocket");
    socket.echo("hello").expect("an echo");
    socket
}

/// With nothing under way, though with 16 connections that each had an answer, where the server keeps them.
#[track_caller]
fn idle_workers_are_reloaded_at_once(servers: fn() -> Vec<PlainServer>) {
    let _namespace = Namespace::enter();
    let complaints: Vec<String> = servers().iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn complaint(server: &PlainServer) -> Option<String> {
    let _upstream = server.start_upstream();
    // The first start after a while is slower than those of a reload.
    server.own_times();
    let OwnTimes { boot, end } = server.own_times();
    let app = App::run(&["--workers", "2"], &server.command);
    let events = Events::of(&app);
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let _idle: Vec<_> = (0..16).map(|_| idle_connection()).collect();
        let booted = events.boots();
        let took = reload(&app);
        wait::until("all boots are told", SOON, || {
            events.named("active").len() == events.named("spawned").len()
        });
        let boots = events.boots() - booted;
        // What the product adds to the boots themselves counts as well.
        let late = boots.saturating_sub((boot + SETTLE) * 2) / 2;
        let above = took.saturating_sub(boots + end * 2) / 2;
        turns.push((above, late));
        if above <= PER_WORKER && late <= PER_WORKER {
            break;
        }
    }
    app.stop();
    let name = server.name;
    let found = format!(
        "{name}: boots in {boot:?}, ends in {end:?}; a reload takes so much above that for each worker, and boots in it: {turns:?}"
    );
    println!("{found}");
    let is_late = |(above, late): &(Duration, Duration)| *above > PER_WORKER || *late > PER_WORKER;
    turns.iter().all(is_late).then_some(found)
}

fn idle_connection() -> Conversation {
    let mut connection = Conversation::open(SERVER, u32::MAX).expect("connect");
    connection
        .ask("/")
        .and_then(|()| connection.answer(|| {}))
        .expect("an answer");
    connection
}
