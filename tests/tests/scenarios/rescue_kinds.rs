//! Every kind of server survives a rescue that comes while it looks at its listener, when nothing of it runs in that moment.
//!
//! Without the product: only what the kernel does. `docs/rescue.md` has what happens when the server does run, from
//! `cargo test -p reuse-tests --test scenarios rescue_kinds -- --ignored --nocapture`.

use reuse_tests::binaries::{
    bun, go_program, gunicorn, nginx, node, node24, python, script, test_server, tokio_server,
};
use reuse_tests::heavy::Heavy;
use reuse_tests::rescue_trial::{How, Kind, run};
use reuse_tests::scratch::Scratch;
use reuse_tests::{Namespace, PORT, SERVER};

/// Of each kind, in a test.
const RESCUES: u32 = 1_500;

/// Of each kind, for the table.
const MANY: u32 = 6_000;

#[track_caller]
fn is_unaware(kind: &Kind) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let outcome = run(kind, How::Frozen, RESCUES);
    assert!(outcome.is_unaware(), "{}: {outcome:#?}", kind.name);
}

#[test]
fn node_20() {
    is_unaware(&old_node());
}

#[test]
fn node_24() {
    is_unaware(&new_node());
}

#[test]
fn bun_serve() {
    is_unaware(&bun_kind());
}

#[test]
fn python_asyncio() {
    is_unaware(&asyncio());
}

#[test]
fn python_http_server() {
    is_unaware(&http_server());
}

#[test]
fn a_thread_that_is_blocked_in_accept() {
    is_unaware(&blocking());
}

#[test]
fn nginx_with_one_worker() {
    let folder = nginx_folder();
    is_unaware(&nginx_kind(&folder));
}

#[test]
fn gunicorn_with_one_worker() {
    is_unaware(&gunicorn_kind("gunicorn sync", "sync"));
}

#[test]
fn rust_poll() {
    is_unaware(&poll_kind());
}

#[test]
fn rust_tokio() {
    is_unaware(&tokio_kind());
}

/// Prints the table of `docs/rescue.md`. RESCUE_KIND chooses the kinds whose names hold it.
#[test]
#[ignore = "a measurement of several minutes"]
fn table() {
    let _turn = Heavy::turn();
    let folder = nginx_folder();
    let kinds = vec![
        old_node(),
        new_node(),
        bun_kind(),
        asyncio(),
        http_server(),
        blocking(),
        nginx_kind(&folder),
        gunicorn_kind("gunicorn sync", "sync"),
        gunicorn_kind("gunicorn gthread", "gthread"),
        poll_kind(),
        tokio_kind(),
        kind("Go net/http", &[&go_program("go_server.go"), &PORT.to_string()]),
    ];
    let wanted = std::env::var("RESCUE_KIND").unwrap_or_default();
    println!(
        "| kind | during the rescue | rescues | the server | failed requests | it wrote | shutdown took | listen took | freezing took |\n|---|---|---|---|---|---|---|---|---|"
    );
    for kind in kinds.iter().filter(|kind| kind.name.contains(&wanted)) {
        for (how, rescues) in [(How::Seen, MANY / 10), (How::Running, MANY), (How::Frozen, MANY)] {
            let _namespace = Namespace::enter();
            println!("| {} | {how:?} | {} |", kind.name, run(kind, how, rescues));
        }
    }
}

fn old_node() -> Kind {
    Kind {
        inherits: true,
        ..kind(
            "Node 20",
            &[&node(), &script("node-faults.js"), &PORT.to_string(), "fd"],
        )
    }
}

fn new_node() -> Kind {
    kind(
        "Node 24",
        &[&node24(), &script("node-faults.js"), &PORT.to_string(), "reuse-port"],
    )
}

fn bun_kind() -> Kind {
    kind(
        "Bun.serve",
        &[&bun(), &script("bun-faults.js"), &PORT.to_string(), "reuse-port"],
    )
}

fn asyncio() -> Kind {
    kind(
        "Python asyncio",
        &[&python(), &script("asyncio_server.py"), &PORT.to_string(), "reuse-port"],
    )
}

fn http_server() -> Kind {
    kind(
        "Python http.server",
        &[&python(), &script("http_server.py"), &PORT.to_string(), "reuse-port"],
    )
}

fn blocking() -> Kind {
    kind(
        "a thread in accept()",
        &[&python(), &script("blocking_server.py"), &PORT.to_string()],
    )
}

fn nginx_folder() -> Scratch {
    Scratch::new()
}

fn nginx_kind(folder: &Scratch) -> Kind {
    let folder = folder.path().to_str().expect("a plain path");
    kind("nginx", &[&nginx(), "-p", folder, "-c", &script("nginx.conf")])
}

fn gunicorn_kind(name: &'static str, workers: &str) -> Kind {
    let app = script("gunicorn_app.py");
    let folder = app.trim_end_matches("gunicorn_app.py");
    let address = SERVER.to_string();
    kind(
        name,
        &[
            &gunicorn(),
            "--chdir",
            folder,
            "--reuse-port",
            "--bind",
            &address,
            "--workers",
            "1",
            "--worker-class",
            workers,
            "gunicorn_app:app",
        ],
    )
}

fn poll_kind() -> Kind {
    kind(
        "Rust, poll()",
        &[&test_server(), "--reuse-port", "--listen", &SERVER.to_string()],
    )
}

fn tokio_kind() -> Kind {
    kind("Rust, tokio", &[&tokio_server(), &SERVER.to_string()])
}

fn kind(name: &'static str, command: &[&str]) -> Kind {
    Kind {
        name,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        inherits: false,
    }
}
