//! The demo's app: a controller of its own, a child process that ends with the demo in every case.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::api::client::Client;
use crate::api::types::{Status, StopRequest, WorkerState};
use crate::cli::{DEMO_SERVER_VERB, Failure, apps};

/// How many workers the demo has.
pub(super) const WORKERS: u16 = 4;
/// How long they may take to get ready, on a slow machine.
const READY: Duration = Duration::from_secs(30);
/// The grace of the workers at the end.
const GRACE: Duration = Duration::from_secs(5);
/// How long the controller may take to end once its workers' grace is over, and again after each signal.
const END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// How much of what it says is kept.
const WORDS: usize = 40;
/// Outgoing connections take their ports from 32768 on, so that none can be in the way.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The controller and the way to it.
#[derive(Debug)]
pub(super) struct Controller {
    child: Child,
    socket: PathBuf,
    words: Arc<Mutex<VecDeque<String>>>,
}

impl Controller {
    /// Starts `reuse-ctl run` with the demo's server on `port`.
    pub(super) fn start(port: u16) -> Result<Self, Failure> {
        let name = format!("demo-{}", std::process::id());
        let socket = apps::paths_of(&name)?.control_socket();
        let (workers, port) = (WORKERS.to_string(), port.to_string());
        let mut command = Command::new("/proc/self/exe");
        command.args([
            "run",
            "--name",
            &name,
            "--workers",
            &workers,
            "--policy",
            "least-loaded",
            "--port",
            &port,
            "--",
        ]);
        command.args(["/proc/self/exe", DEMO_SERVER_VERB, &port]);
        command
            .env_remove("REUSE_APP")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl-C is for the demo, which ends the controller in its own time.
        command.process_group(0);
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and touches no memory.
        unsafe { command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)) };
        let mut child = command
            .spawn()
            .map_err(|error| Failure::failed(format!("start the demo's controller: {error}"), "is /proc mounted?"))?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            tokio::spawn(listen_to(stdout, Arc::clone(&words)));
            tokio::spawn(listen_to(stderr, Arc::clone(&words)));
        }
        Ok(Self { child, socket, words })
    }

    /// Waits until every worker is active.
    pub(super) async fn ready(&mut self) -> Result<Client, Failure> {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Err(self.ended("the demo's controller ended before its workers were active"));
            }
            if let Ok(client) = Client::connect(&self.socket).await
                && client.status().await.is_ok_and(|status| all_active(&status))
            {
                return Ok(client);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.ended(&format!(
            "the demo's workers were not active within {} s",
            READY.as_secs()
        )))
    }

    /// Ends it: asks, then signals, then kills. Every step is bounded.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        if let Ok(client) = Client::connect(&self.socket).await {
            let timeout_ms = u64::try_from(GRACE.as_millis()).ok();
            let request = StopRequest { timeout_ms };
            let stop = client.command(hyper::Method::POST, "/v1/stop", &request);
            // Whether it worked shows in what follows.
            drop(tokio::time::timeout(GRACE + END, stop).await);
            if self.wait().await {
                return Ok(());
            }
        }
        for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
            let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else {
                return Ok(());
            };
            let is_gone = kill(Pid::from_raw(pid), signal).is_err();
            if (is_gone || self.wait().await) && signal != Signal::SIGKILL {
                return Ok(());
            }
        }
        Err(self.ended("the demo's controller had to be killed"))
    }

    async fn wait(&mut self) -> bool {
        tokio::time::timeout(END, self.child.wait()).await.is_ok()
    }

    /// A failure with the controller's own words, if it left any.
    fn ended(&self, error: &str) -> Failure {
        let words: Vec<String> = self
            .words
            .lock()
            .expect("listening does not panic")
            .iter()
            .cloned()
            .collect();
        let own = words.iter().rposition(|line| line.starts_with("reuse-ctl: "));
        let own_error = own.map(|own| words[own].trim_start_matches("reuse-ctl: "));
        let own_hint = own.and_then(|own| words.get(own + 1)?.strip_prefix("  → "));
        let mut failure = Failure::failed(
            own_error.unwrap_or(error),
            own_hint.unwrap_or("`reuse-ctl doctor` shows what this kernel lacks"),
        );
        failure.output = words;
        failure
    }
}

/// A port that nobody has.
pub(super) fn free_port() -> Result<u16, Failure> {
    (0..100)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .ok_or_else(|| Failure::failed("no free port below 32768 was found", "see `ss -ltn`"))
}

fn all_active(status: &Status) -> bool {
    status.workers.len() == usize::from(WORKERS)
        && status.workers.iter().all(|worker| worker.state == WorkerState::Active)
}

async fn listen_to(stream: impl AsyncRead + Unpin, words: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut words = words.lock().expect("listening does not panic");
        words.push_back(line);
        while words.len() > WORDS {
            words.pop_front();
        }
    }
}
