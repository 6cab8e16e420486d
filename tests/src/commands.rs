//! The command lines of the real servers. All of them listen on [`PORT`]: each test has its ports for itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::binaries::{bun, deno, deno_cache, nginx, node, node24, python, script, test_server, tokio_server};

/// Where the servers listen: below the range that outgoing connections take their ports from.
pub const PORT: u16 = 8080;

/// Where the clients connect to.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// The Rust server on [`SERVER`], with these options.
pub fn rust(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&test_server(), "--listen", &SERVER.to_string()]);
    command.extend(words(options));
    command
}

/// The Rust server on descriptor 3.
pub fn rust_inherited() -> Vec<String> {
    words(&[&test_server(), "--inherited"])
}

/// The tokio server.
pub fn tokio() -> Vec<String> {
    words(&[&tokio_server(), &SERVER.to_string()])
}

/// `Bun.serve` with `reusePort: true`, ended cleanly by SIGTERM.
pub fn bun_reuse_port(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&bun(), &script("bun-server.js"), &PORT.to_string(), "reuse-port"]);
    command.extend(words(options));
    command
}

/// `Bun.serve` without the option.
pub fn bun_plain() -> Vec<String> {
    words(&[&bun(), &script("bun-plain.js"), &PORT.to_string()])
}

/// A plain Node 20 `http` server without a signal handler.
pub fn node_plain() -> Vec<String> {
    words(&[&node(), &script("node-http.js"), &PORT.to_string()])
}

/// A Node server that first listens on 127.0.0.1 for a moment, as port finders do.
pub fn node_port_probe() -> Vec<String> {
    words(&[&node(), &script("port-probe.js"), &PORT.to_string()])
}

/// `node-http.js` on `::`, Node's default.
pub fn node_dual_stack() -> Vec<String> {
    words(&[&node(), &script("node-http.js"), &PORT.to_string(), "", "graceful"])
}

/// A Node 24 `http` server that closes on SIGTERM.
pub fn node_graceful() -> Vec<String> {
    words(&[
        &node24(),
        &script("node-http.js"),
        &PORT.to_string(),
        "127.0.0.1",
        "graceful",
    ])
}

/// A Node 24 server with package `ws`.
pub fn node_websocket() -> Vec<String> {
    words(&[&node24(), &script("node-websocket.js"), &PORT.to_string()])
}

/// `python3 -m http.server`, serving a folder.
pub fn python_http_server(folder: &Path) -> Vec<String> {
    words(&[
        &python(),
        "-m",
        "http.server",
        &PORT.to_string(),
        "--bind",
        "127.0.0.1",
        "--directory",
        folder.to_str().expect("a plain path"),
    ])
}

/// An asyncio server.
pub fn python_asyncio(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&python(), &script("asyncio_server.py"), &PORT.to_string()]);
    command.extend(words(options));
    command
}

/// A Python server with so many threads, each with a listener of its own.
pub fn many_listeners(count: u32) -> Vec<String> {
    let count = count.to_string();
    words(&[&python(), &script("many_listeners.py"), &PORT.to_string(), &count])
}

/// A Node 24 server that can be made to hang; the script says how.
pub fn node_faults(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&node24(), &script("node-faults.js"), &PORT.to_string(), "graceful"]);
    command.extend(words(options));
    command
}

/// A Bun server that can be made to hang.
pub fn bun_faults() -> Vec<String> {
    words(&[&bun(), &script("bun-faults.js"), &PORT.to_string(), "reuse-port"])
}

/// Python's `http.server`, answering "SLOT PID", one request at a time.
pub fn python_slow(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&python(), &script("http_server.py"), &PORT.to_string()]);
    command.extend(words(options));
    command
}

/// A Node 24 server that does what messages tell it; the script says what.
pub fn node_messages(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&node24(), &script("messages.js"), &PORT.to_string()]);
    command.extend(words(options));
    command
}

/// The same in Python, and more.
pub fn python_messages() -> Vec<String> {
    words(&[&python(), &script("messages.py"), &PORT.to_string()])
}

/// Worker 0 is Node 20, worker 1 Node 24, worker 2 Bun, and all others are Python.
pub fn all_messages(options: &[&str]) -> Vec<String> {
    let js = format!("{} {PORT} {}", script("messages.js"), options.join(" "));
    let line = format!(
        "case $REUSE_WORKER_ID in 0) exec {} {js};; 1) exec {} {js};; 2) exec {} {js};; *) exec {};; esac",
        node(),
        node24(),
        bun(),
        python_messages().join(" "),
    );
    words(&["/bin/sh", "-c", &line])
}

/// `Deno.serve`, ended cleanly by SIGTERM or by the message.
pub fn deno_server(options: &[&str]) -> Vec<String> {
    deno_command(&["run", "-A", &script("deno-server.mjs"), &PORT.to_string()], options)
}

/// The same with `reusePort: true`.
pub fn deno_reuse_port() -> Vec<String> {
    let command = [
        "run",
        "-A",
        "--unstable-net",
        &script("deno-server.mjs"),
        &PORT.to_string(),
    ];
    deno_command(&command, &["reuse-port"])
}

/// `Deno.serve` and nothing else.
pub fn deno_plain(options: &[&str]) -> Vec<String> {
    deno_command(&["run", "-A", &script("deno-plain.mjs"), &PORT.to_string()], options)
}

/// `deno serve`; `flags` are for it, `options` for the script.
pub fn deno_serve(flags: &[&str], options: &[&str]) -> Vec<String> {
    let port = PORT.to_string();
    let script = script("deno-serve.mjs");
    let command = [
        &["serve", "-A", "--host", "127.0.0.1", "--port", &port],
        flags,
        &[&script],
    ]
    .concat();
    deno_command(&command, options)
}

/// `messages.js`, written for Node, on Deno.
pub fn deno_messages(options: &[&str]) -> Vec<String> {
    let command = [
        "run",
        "-A",
        "--unstable-detect-cjs",
        &script("messages.js"),
        &PORT.to_string(),
    ];
    deno_command(&command, options)
}

/// Deno without a look for a newer one.
fn deno_command(arguments: &[&str], options: &[&str]) -> Vec<String> {
    let cache = format!("DENO_DIR={}", deno_cache());
    words(
        &[
            &["/usr/bin/env", "DENO_NO_UPDATE_CHECK=1", &cache, &deno()],
            arguments,
            options,
        ]
        .concat(),
    )
}

/// nginx with one worker process; each instance writes into a folder of its own within `folder`.
pub fn nginx_one(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("a plain path");
    let line = format!(
        "prefix={folder}/$REUSE_WORKER_ID-$$; mkdir -p $prefix && exec {} -p $prefix -c {}",
        nginx(),
        script("nginx.conf")
    );
    words(&["/bin/sh", "-c", &line])
}

/// The server that tells its environment, on Node 24; with a port, or with that of its environment.
pub fn node_environment(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&node24(), &script("environment.mjs")]);
    command.extend(words(options));
    command
}

/// The same on Bun.
pub fn bun_environment(options: &[&str]) -> Vec<String> {
    let mut command = words(&[&bun(), &script("environment.mjs")]);
    command.extend(words(options));
    command
}

/// A server that says READY=1 when `file` is there.
pub fn python_notify(file: &Path, options: &[&str]) -> Vec<String> {
    let file = file.to_str().expect("a plain path");
    let mut command = words(&[&python(), &script("notify_server.py"), &PORT.to_string(), file]);
    command.extend(words(options));
    command
}

/// Listens with MPTCP when it may.
pub fn mptcp_listener() -> Vec<String> {
    words(&[&python(), &script("mptcp_listener.py"), &PORT.to_string()])
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
