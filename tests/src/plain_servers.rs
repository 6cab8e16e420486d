//! The servers of `tests/servers/endings`, as most people write and start them: without shutdown code. All serve on [`SERVER`].

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binaries::{
    bun, deno, deno_cache, go_program, gunicorn, java_classes, nginx, node, on_path, python, python_server, script,
};
use crate::commands::SERVER;
use crate::scratch::Scratch;
use crate::{http, wait};

/// How long a server may take to boot, or to end, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the proxies find what they stand in front of.
const UPSTREAM: &str = "127.0.0.1:9090";

/// One server.
#[derive(Debug)]
pub struct PlainServer {
    /// A name for reports and threads.
    pub name: &'static str,
    /// How it is started.
    pub command: Vec<String>,
    /// How many requests one instance works on at a time.
    pub capacity: Capacity,
    /// What must serve behind it.
    upstream: Option<Vec<String>>,
    /// Where it may write.
    _scratch: Option<Scratch>,
}

/// How many requests one instance works on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// More than any test has.
    Many,
    /// One; further connections wait in its queue.
    One,
}

/// How long a server takes by itself.
#[derive(Debug, Clone, Copy)]
pub struct OwnTimes {
    /// From its start until it has answered a request.
    pub boot: Duration,
    /// From SIGTERM to its end.
    pub end: Duration,
}

/// Node without and with frameworks, Bun, Deno.
pub fn javascript() -> Vec<PlainServer> {
    let node = |name, file: &str| PlainServer::new(name, &[&node(), &endings(file)]);
    let cache = format!("DENO_DIR={}", deno_cache());
    let deno = ["/usr/bin/env", "DENO_NO_UPDATE_CHECK=1", &cache, &deno(), "run", "-A"];
    vec![
        node("node", "plain.js"),
        node("express", "express.js"),
        node("ws", "ws.js"),
        node("node-exit", "exit.js"),
        PlainServer::new("bun", &[&bun(), &endings("fetch.mjs")]),
        PlainServer::new("deno", &[&deno[..], &[&endings("fetch.mjs")]].concat()),
    ]
}

/// Daphne, Hypercorn with two processes, uvicorn, gunicorn, and Python's own.
pub fn pythons() -> Vec<PlainServer> {
    let folder = endings("");
    let path = format!("PYTHONPATH={folder}");
    let with = |name, command: &[&str]| {
        let environment = ["/usr/bin/env", &path, "PYTHONDONTWRITEBYTECODE=1"];
        PlainServer::new(name, &[&environment, command].concat())
    };
    let address = SERVER.to_string();
    let (host, port) = (SERVER.ip().to_string(), SERVER.port().to_string());
    let [daphne, hypercorn, uvicorn] = ["daphne", "hypercorn", "uvicorn"].map(python_server);
    vec![
        with("daphne", &[&daphne, "-b", &host, "-p", &port, "asgi:app"]),
        with("hypercorn-w2", &[&hypercorn, "-w", "2", "-b", &address, "asgi:app"]),
        with("uvicorn", &[&uvicorn, "--host", &host, "--port", &port, "asgi:app"]),
        with(
            "gunicorn",
            &[&gunicorn(), "--threads", "16", "-b", &address, "wsgi:app"],
        ),
        with("python-threads", &[&python(), &endings("threads.py")]),
    ]
}

/// Go, the JVM, and nginx as a proxy.
pub fn compiled() -> Vec<PlainServer> {
    let scratch = Scratch::new();
    let line = format!(
        "prefix={}/$REUSE_WORKER_ID-$$; mkdir -p $prefix && exec {} -p $prefix -c {}",
        scratch.path().display(),
        nginx(),
        endings("nginx.conf")
    );
    let nginx = PlainServer {
        upstream: Some(vec![node(), endings("upstream.js")]),
        _scratch: Some(scratch),
        ..PlainServer::new("nginx", &["/bin/sh", "-c", &line])
    };
    vec![
        PlainServer::new("go", &[&go_program("endings/plain.go")]),
        PlainServer::new(
            "jvm",
            &[&on_path("java"), "-cp", &java_classes("endings/Plain.java"), "Plain"],
        ),
        nginx,
    ]
}

/// unicorn and `php -S`.
pub fn ruby_and_php() -> Vec<PlainServer> {
    let address = SERVER.to_string();
    let unicorn = [&on_path("unicorn"), "-c", &endings("unicorn.rb"), &endings("config.ru")];
    vec![
        PlainServer::new("unicorn", &unicorn),
        PlainServer {
            capacity: Capacity::One,
            ..PlainServer::new("php", &[&on_path("php"), "-S", &address, &endings("router.php")])
        },
    ]
}

impl PlainServer {
    fn new(name: &'static str, command: &[&str]) -> Self {
        Self {
            name,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            capacity: Capacity::Many,
            upstream: None,
            _scratch: None,
        }
    }

    /// Starts what must serve behind it, if anything must; outside of the app, until this is dropped.
    ///
    /// # Panics
    /// When it does not serve in time.
    pub fn start_upstream(&self) -> Option<Beside> {
        self.upstream.as_ref().map(|command| {
            let upstream = Beside::start(command);
            let to = UPSTREAM.parse().expect("an address");
            wait::until("the upstream serves", LIMIT, || http::get(to, None).is_ok());
            upstream
        })
    }

    /// Runs it once without the product, idle, on the port of the app that is not there yet.
    ///
    /// # Panics
    /// When it does not serve, or does not end, in time.
    pub fn own_times(&self) -> OwnTimes {
        let begun = Instant::now();
        let mut server = Beside::start(&self.command);
        wait::until(&format!("{} serves", self.name), LIMIT, || {
            http::get(SERVER, None).is_ok()
        });
        let boot = begun.elapsed();
        let told = Instant::now();
        server.tell(Signal::SIGTERM);
        wait::until(&format!("{} ends", self.name), LIMIT, || server.has_ended());
        let end = told.elapsed();
        wait::until("the port is free", LIMIT, || TcpListener::bind(SERVER).is_ok());
        OwnTimes { boot, end }
    }
}

/// A process beside the product, in a group of its own; the group is killed with its owner.
#[derive(Debug)]
pub struct Beside {
    process: Child,
}

impl Beside {
    fn start(command: &[String]) -> Self {
        let mut start = Command::new(&command[0]);
        start
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        // SAFETY: prctl is a bare system call; nothing of the parent's state is touched between fork and exec.
        unsafe {
            start.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
        }
        let process = start.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { process }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).expect("a process id")
    }

    fn tell(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal a child that was not waited for");
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("wait for a child of ours").is_some()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // The group may be gone already.
        kill(Pid::from_raw(-self.pid()), Signal::SIGKILL).ok();
        drop(self.process.wait());
    }
}

fn endings(file: &str) -> String {
    script(&Path::new("endings").join(file).to_string_lossy())
}
