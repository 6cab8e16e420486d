//! A reload cuts no request, whatever the server does at its stop signal.
//!
//! Servers as most people write them: Node, Deno, Go and the JVM handle SIGTERM at once and drop what they have, as do nginx, unicorn and others.

use std::thread;
use std::time::{Duration, Instant};

use reuse_tests::conversation::Conversation;
use reuse_tests::events::Events;
use reuse_tests::heavy::Heavy;
use reuse_tests::in_flight::{Again, InFlight, Kind, On};
use reuse_tests::load::{Load, Mode};
use reuse_tests::plain_servers::{Capacity, OwnTimes, PlainServer, compiled, javascript, pythons, ruby_and_php};
use reuse_tests::websocket::{Goodbye, WebSocket};
use reuse_tests::{App, Namespace, SERVER, commands};

const RELOADS: u32 = 3;

/// Requests that a reload has to wait for.
const SHORT: Kind = Kind::Slow(Duration::from_secs(2));
const LONG: Kind = Kind::Slow(Duration::from_secs(10));
const HALVES: Kind = Kind::Halves(Duration::from_secs(2));

/// Below the drain timeout of 30 s, above what the longest request takes. Boots do not count.
const SOON: Duration = Duration::from_secs(20);

/// How many complaints of a server are shown.
const SHOWN: usize = 12;

/// How long a new instance must live before the old one is ended, by default.
const SETTLE: Duration = Duration::from_secs(1);

/// What a reload may take for each idle worker, above the settle time and what the server itself takes to boot and to end.
const PER_WORKER: Duration = Duration::from_millis(500);

#[test]
fn no_request_of_javascript_is_cut() {
    together(javascript, reloads_cut_nothing);
}

#[test]
fn no_request_of_pythons_is_cut() {
    together(pythons, reloads_cut_nothing);
}

#[test]
fn no_request_of_go_jvm_and_nginx_is_cut() {
    together(compiled, reloads_cut_nothing);
}

#[test]
fn no_request_of_unicorn_and_php_is_cut() {
    together(ruby_and_php, reloads_cut_nothing);
}

#[test]
fn idle_javascript_is_reloaded_at_once() {
    one_by_one(javascript, idle_workers_are_reloaded_at_once);
}

#[test]
fn idle_pythons_are_reloaded_at_once() {
    one_by_one(pythons, idle_workers_are_reloaded_at_once);
}

#[test]
fn idle_go_jvm_and_nginx_are_reloaded_at_once() {
    one_by_one(compiled, idle_workers_are_reloaded_at_once);
}

#[test]
fn idle_unicorn_and_php_are_reloaded_at_once() {
    one_by_one(ruby_and_php, idle_workers_are_reloaded_at_once);
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
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4"], command);
    let turns: Vec<(Duration, Duration)> = (0..RELOADS)
        .map(|_| (reload(&app), reload_with_clients(&app)))
        .collect();
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

/// Checks all of these servers at once, each in a namespace of its own: they mostly wait.
#[track_caller]
fn together(servers: fn() -> Vec<PlainServer>, check: fn(&PlainServer) -> Vec<String>) {
    // What must be fetched or built is, while this thread is in the machine's own network.
    drop(Namespace::enter());
    let servers = servers();
    let complaints = thread::scope(|scope| {
        let checks = servers.iter().map(|server| {
            let thread = thread::Builder::new().name(server.name.to_owned());
            let check = thread.spawn_scoped(scope, move || {
                let _namespace = Namespace::enter();
                check(server)
            });
            (server, check.expect("start a thread"))
        });
        let checks: Vec<_> = checks.collect();
        let outcomes = checks.into_iter().map(|(server, check)| {
            let outcome = check
                .join()
                .unwrap_or_else(|_| vec!["its check panicked, as shown above".to_owned()]);
            (server, outcome)
        });
        report(outcomes)
    });
    assert!(complaints.is_empty(), "\n{complaints}");
}

/// Checks one after the other, and while no test that loads the machine runs: they are measured.
#[track_caller]
fn one_by_one(servers: fn() -> Vec<PlainServer>, check: fn(&PlainServer) -> Vec<String>) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let servers = servers();
    let complaints = report(servers.iter().map(|server| (server, check(server))));
    assert!(complaints.is_empty(), "\n{complaints}");
}

fn report<'a>(outcomes: impl Iterator<Item = (&'a PlainServer, Vec<String>)>) -> String {
    let lines = outcomes.flat_map(|(server, outcome)| {
        let more = outcome.len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("and {more} more"));
        let lines = outcome.into_iter().take(SHOWN).chain(more);
        lines.map(|line| format!("{}: {line}\n", server.name))
    });
    lines.collect()
}

/// Three reloads, each with all kinds of requests under way, on fresh and on kept connections.
fn reloads_cut_nothing(server: &PlainServer) -> Vec<String> {
    let _upstream = server.start_upstream();
    let (workers, kinds) = match server.capacity {
        Capacity::Many => ("2", [SHORT, LONG, HALVES, Kind::Chunks, Kind::Big].as_slice()),
        // As many requests as instances, or they would wait for each other.
        Capacity::One => ("4", [SHORT, LONG, Kind::Chunks, Kind::Big].as_slice()),
    };
    let connections: &[On] = match server.capacity {
        Capacity::Many => &[On::Fresh, On::Kept],
        Capacity::One => &[On::Fresh],
    };
    let app = App::run(&["--workers", workers], &server.command);
    // Those that are sent once may be over when their worker's turn comes.
    let again: &[Kind] = match server.capacity {
        Capacity::Many => &[SHORT, SHORT, SHORT, HALVES, Kind::Chunks, Kind::Chunks],
        Capacity::One => &[],
    };
    let again: Vec<_> = again.iter().map(|kind| Again::start(SERVER, *kind)).collect();
    let events = Events::of(&app);
    let (mut complaints, mut booted) = (Vec::new(), Duration::ZERO);
    for reload in 1..=RELOADS {
        let requests: Vec<_> = kinds
            .iter()
            .flat_map(|kind| connections.iter().map(|on| InFlight::start(SERVER, *kind, *on)))
            .collect();
        InFlight::wait_under_way(&requests);
        let output = app.ctl(&["reload"]).expect_code(0);
        let cut = InFlight::cut(requests).into_iter();
        complaints.extend(cut.map(|line| format!("reload {reload}: {line}")));
        let boots = boots(&events).saturating_sub(booted);
        booted += boots;
        println!(
            "{}: reload {reload} took {:?}, boots {boots:?} of it",
            server.name, output.took
        );
        if output.took > SOON + boots {
            complaints.push(format!("reload {reload} took {:?}, boots {boots:?} of it", output.took));
        }
        if output.text().contains(" cut") {
            complaints.push(format!("reload {reload} says: {}", output.text().trim()));
        }
    }
    for client in again {
        let (answered, failures) = client.stop();
        complaints.extend(failures);
        if answered < RELOADS {
            complaints.push(format!(
                "only {answered} requests of a client that asks again and again were answered"
            ));
        }
    }
    let cut: u64 = app
        .status()
        .workers
        .iter()
        .map(|worker| worker.cut_in_flight_total)
        .sum();
    if cut > 0 {
        complaints.push(format!(
            "the status counts {cut} connections that were cut with a request in flight"
        ));
    }
    app.stop();
    complaints
}

/// The time that all instances so far took from their start until they were active.
fn boots(events: &Events) -> Duration {
    let active = events.named("active");
    let boots = events.named("spawned").into_iter().filter_map(|spawned| {
        let active = active.iter().find(|active| active.pid == spawned.pid)?;
        Some(Duration::from_millis(active.at_ms.saturating_sub(spawned.at_ms)))
    });
    boots.sum()
}

/// With nothing under way, though with 16 connections that each had an answer, where the server keeps them.
fn idle_workers_are_reloaded_at_once(server: &PlainServer) -> Vec<String> {
    let _upstream = server.start_upstream();
    // The first start after a while is slower than those of a reload.
    server.own_times();
    let OwnTimes { boot, end } = server.own_times();
    let app = App::run(&["--workers", "2"], &server.command);
    let mut tries = Vec::new();
    // A busy machine may delay one.
    for _ in 0..RELOADS {
        let _idle: Vec<_> = (0..16).map(|_| idle_connection()).collect();
        let begun = Instant::now();
        app.ctl(&["reload"]).expect_code(0);
        let above = begun.elapsed().saturating_sub((SETTLE + boot + end) * 2) / 2;
        tries.push(above);
        if above <= PER_WORKER {
            break;
        }
    }
    println!(
        "{}: boots in {boot:?}, ends in {end:?}; a reload takes for each worker, above that and the settle time: {tries:?}",
        server.name
    );
    app.stop();
    match tries.iter().min() {
        Some(least) if *least > PER_WORKER => vec![format!(
            "reloads took {tries:?} for each worker, above the settle time and its own {boot:?} to boot and {end:?} to end"
        )],
        _ => Vec::new(),
    }
}

fn idle_connection() -> Conversation {
    let mut connection = Conversation::open(SERVER, u32::MAX).expect("connect");
    connection
        .ask("/")
        .and_then(|()| connection.answer(|| {}))
        .expect("an answer");
    connection
}
