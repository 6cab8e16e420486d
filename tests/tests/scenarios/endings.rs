//! A reload cuts no request, whatever the server does at its stop signal.
//!
//! Servers as most people write them: Node, Deno, Go and the JVM handle SIGTERM at once and drop what they have, as do nginx, unicorn and others.

use std::thread;
use std::time::Duration;

use reuse_tests::events::Events;
use reuse_tests::in_flight::{Again, InFlight, Kind, On};
use reuse_tests::plain_servers::{Capacity, PlainServer, compiled, javascript, pythons, ruby_and_php};
use reuse_tests::{App, Namespace, SERVER};

const RELOADS: u32 = 3;

/// Requests that a reload has to wait for.
const SHORT: Kind = Kind::Slow(Duration::from_secs(2));
const LONG: Kind = Kind::Slow(Duration::from_secs(10));
const HALVES: Kind = Kind::Halves(Duration::from_secs(2));

/// Below the drain timeout of 30 s, above what the longest request takes. Boots do not count.
const SOON: Duration = Duration::from_secs(20);

/// How many complaints of a server are shown.
const SHOWN: usize = 12;

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
        let boots = events.boots().saturating_sub(booted);
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
