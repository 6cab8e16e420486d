//! Who is measured: every way to run four workers on one port that people use today, with the same server code where the runtime
//! allows (`tests/servers/bench-server.js`; gunicorn has its own in Python).

mod configuration;
mod pm2;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reuse_tests::binaries::{bun, node24, script};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, http, kernel, wait};

use crate::process::Server;
use pm2::Pm2;

pub(crate) const WORKERS: usize = 4;

/// Each peer has so many ports: its own, and one for each server behind a proxy.
const PORTS_EACH: u16 = 10;
const FIRST_PORT: u16 = 8100;

/// How long a peer may take until all of its workers answer: some twenty runtimes start at the same time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A way to run [`WORKERS`] workers on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Node processes that share the port by `SO_REUSEPORT`.
    Plain,
    /// The same under `reuse-ctl run`.
    Steered(&'static str),
    /// Bun under `reuse-ctl run`, least-loaded.
    SteeredBun,
    /// Node's own `cluster` module: the primary accepts and hands over in turn.
    NodeCluster,
    /// PM2's cluster mode, which is built on it.
    Pm2Cluster,
    /// PM2's fork mode with Bun's `reusePort: true`.
    Pm2Bun,
    /// nginx, `least_conn`, in front of four Node servers.
    Nginx,
    /// HAProxy, `leastconn`, in front of four Node servers.
    Haproxy,
    /// The same, one connection per server at a time; the others wait in the proxy.
    HaproxyOne,
    /// Sync workers that all accept from one listener.
    Gunicorn,
}

impl Kind {
    /// As it stands in the reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain SO_REUSEPORT",
            Self::Steered("hash") => "reuse-ctl hash",
            Self::Steered("round-robin") => "reuse-ctl round-robin",
            Self::Steered("sticky") => "reuse-ctl sticky",
            Self::Steered(_) => "reuse-ctl least-loaded",
            Self::SteeredBun => "reuse-ctl least-loaded, Bun",
            Self::NodeCluster => "Node cluster",
            Self::Pm2Cluster => "PM2 cluster",
            Self::Pm2Bun => "PM2 fork, Bun reusePort",
            Self::Nginx => "nginx least_conn",
            Self::Haproxy => "HAProxy leastconn",
            Self::HaproxyOne => "HAProxy leastconn, maxconn 1",
            Self::Gunicorn => "gunicorn",
        }
    }

    /// Starts it and waits until all of its workers have answered. `place` keeps the ports of several apart.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(self, place: u16) -> anyhow::Result<Peer> {
        let port = FIRST_PORT + place * PORTS_EACH;
        eprintln!("    starting {} on port {port}", self.name());
        let scratch = Scratch::new();
        let running = self
            .run(port, &scratch)
            .with_context(|| format!("start {}", self.name()))?;
        let mut peer = Peer {
            kind: self,
            address: loopback(port),
            workers: Vec::new(),
            running,
            scratch,
        };
        peer.workers = peer
            .find_workers()
            .with_context(|| format!("{}: {}", self.name(), peer.output()))?;
        Ok(peer)
    }

    fn run(self, port: u16, scratch: &Scratch) -> anyhow::Result<Running> {
        let log = scratch.path().join("output");
        let steered = |policy: &str, runtime: String| {
            let workers = WORKERS.to_string();
            let options = ["--workers", &workers, "--policy", policy, "--port", &port.to_string()];
            Running::App(Box::new(App::run(&options, &server(runtime, port))))
        };
        Ok(match self {
            Self::Plain => Running::Servers(servers(std::iter::repeat_n(port, WORKERS), &log)?),
            Self::Steered(policy) => steered(policy, node24()),
            Self::SteeredBun => steered("least-loaded", bun()),
            Self::NodeCluster => {
                let command = [
                    node24(),
                    script("bench-cluster.js"),
                    WORKERS.to_string(),
                    port.to_string(),
                ];
                Running::Servers(vec![Server::start(&command, &log)?])
            }
            Self::Pm2Cluster => Running::Pm2(Pm2::cluster(port, scratch)?),
            Self::Pm2Bun => Running::Pm2(Pm2::fork_with_bun(port, scratch)?),
            Self::Nginx => proxy(
                port,
                scratch,
                &["nginx", "-c"],
                &configuration::nginx(port, scratch.path()),
            )?,
            Self::Haproxy => proxy(
                port,
                scratch,
                &["haproxy", "-W", "-f"],
                &configuration::haproxy(port, ""),
            )?,
            Self::HaproxyOne => {
                let text = configuration::haproxy(port, " maxconn 1");
                proxy(port, scratch, &["haproxy", "-W", "-f"], &text)?
            }
            Self::Gunicorn => Running::Servers(vec![Server::start(&gunicorn(port), &log)?]),
        })
    }
}

/// A peer that serves.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// The processes that answer.
    pub(crate) workers: Vec<u32>,
    pub(crate) running: Running,
    scratch: Scratch,
}

/// What keeps it running; ends when dropped, the last first.
#[derive(Debug)]
pub(crate) enum Running {
    App(Box<App>),
    Servers(Vec<Server>),
    Pm2(Pm2),
}

impl Peer {
    pub(crate) fn log(&self) -> PathBuf {
        self.scratch.path().join("output")
    }

    /// All workers, by asking until so many different ones have answered; that also warms them up.
    fn find_workers(&self) -> anyhow::Result<Vec<u32>> {
        let mut found = BTreeSet::new();
        let mut last = Ok(());
        let mut client: u8 = 0;
        wait::poll(START_LIMIT, || {
            // Four at once, so that who always gets a lone one gets more; from many addresses, for `sticky`.
            let asked: Vec<_> = (0..4)
                .map(|_| {
                    client = client % 250 + 1;
                    let from = Ipv4Addr::new(127, 0, 2, client);
                    http::Connection::open(self.address, Some(SocketAddr::from((from, 0))))
                })
                .collect();
            for connection in asked {
                match connection.and_then(|mut connection| connection.get(true)) {
                    Ok(answer) => found.extend(answer.pid),
                    Err(failure) => last = Err(failure),
                }
            }
            (found.len() >= WORKERS).then_some(())
        })
        .with_context(|| format!("only {found:?} answered; the last failure: {last:?}"))?;
        Ok(found.into_iter().collect())
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

/// The command line of one worker.
pub(crate) fn server(runtime: String, port: u16) -> [String; 4] {
    [
        runtime,
        script("bench-server.js"),
        port.to_string(),
        "reuse-port".to_owned(),
    ]
}

/// A Node server on each port; returns when all of them listen.
fn servers(ports: impl Iterator<Item = u16> + Clone, log: &std::path::Path) -> anyhow::Result<Vec<Server>> {
    let started = ports
        .clone()
        .map(|port| Server::start(&server(node24(), port), log))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut distinct: Vec<u16> = ports.collect();
    distinct.dedup();
    wait::poll(START_LIMIT, || {
        let listening: usize = distinct.iter().map(|port| kernel::listeners(*port).len()).sum();
        (listening >= started.len()).then_some(())
    })
    .context("the servers do not listen")?;
    Ok(started)
}

/// A proxy on `port`, with servers on the ports above; it ends before they do.
fn proxy(port: u16, scratch: &Scratch, command: &[&str], configuration: &str) -> anyhow::Result<Running> {
    let log = scratch.path().join("output");
    let mut started = servers(configuration::backends(port), &log)?;
    let file = scratch.write("configuration", configuration);
    let command = command.iter().map(|word| (*word).to_owned());
    let command: Vec<String> = command.chain([file.display().to_string()]).collect();
    started.insert(0, Server::start(&command, &log)?);
    Ok(Running::Servers(started))
}

/// Debian's, which brings its own Python.
fn gunicorn(port: u16) -> Vec<String> {
    let application = PathBuf::from(script("bench_wsgi.py"));
    let folder = application.parent().expect("a script is in a folder");
    [
        "/usr/bin/gunicorn",
        "--workers",
        &WORKERS.to_string(),
        "--bind",
        &loopback(port).to_string(),
        "--backlog",
        "1024",
        "--chdir",
        &folder.display().to_string(),
        "bench_wsgi:application",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
