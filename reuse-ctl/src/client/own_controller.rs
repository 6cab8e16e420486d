//! A controller that a verb needs for a while (`demo`, `try`): a child process that always ends with the verb.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::app::names::paths_of;
use crate::{
    base::Failure,
    client::Client,
    wire::{Status, StopRequest},
};

/// Time that the controller has to end after its workers' grace period, and again after each signal.
const END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Number of output lines of the controller and its workers that are kept.
const WORDS: usize = 40;

/// The controller and its client.
#[derive(Debug)]
pub(crate) struct OwnController {
    /// The owner, for the beginning of an error: "the demo's".
    whose: &'static str,
    child: Child,
    socket: PathBuf,
    words: Arc<Mutex<VecDeque<String>>>,
}

impl OwnController {
    /// Starts `reuse-ctl run --name NAME` with these arguments.
    ///
    /// # Errors
    /// Fails if the process could not be started.
    pub(crate) fn start(
        whose: &'static str,
        name: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let socket = paths_of(name)?.control_socket();
        let mut command = Command::new("/proc/self/exe");
        command.args(["run", "--name", name]).args(arguments);
        command
            .env_remove("REUSE_APP")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl-C is for the verb, which ends the controller itself.
        command.process_group(0);
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and touches no memory.
        unsafe { command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)) };
        let mut child = command
            .spawn()
            .map_err(|error| Failure::failed(format!("start {whose} controller: {error}"), "is /proc mounted?"))?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            tokio::spawn(listen_to(stdout, Arc::clone(&words)));
            tokio::spawn(listen_to(stderr, Arc::clone(&words)));
        }
        Ok(Self {
            whose,
            child,
            socket,
            words,
        })
    }

    /// Waits until this is true for its status.
    ///
    /// # Errors
    /// Fails if the controller has ended, or after `limit`.
    pub(crate) async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Status) -> bool,
    ) -> Result<(Client, Status), Failure> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Err(self.ended(&format!("{} controller ended before {what}", self.whose)));
            }
            if let Ok(client) = Client::connect(&self.socket).await
                && let Ok(status) = client.status().await
                && holds(&status)
            {
                return Ok((client, status));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.ended(&format!("not within {} s: {what}", limit.as_secs())))
    }

    /// The last output of the controller and its workers.
    pub(crate) fn words(&self) -> Vec<String> {
        let words = self.words.lock().expect("listening does not panic");
        words.iter().cloned().collect()
    }

    /// Ends the controller: first by a request, then by signals. Every step has a deadline; the workers have `grace` to end.
    ///
    /// # Errors
    /// Fails if the controller had to be killed.
    pub(crate) async fn end(mut self, grace: Duration) -> Result<(), Failure> {
        if let Ok(client) = Client::connect(&self.socket).await {
            let timeout_ms = u64::try_from(grace.as_millis()).ok();
            let request = StopRequest { timeout_ms };
            let stop = client.command(hyper::Method::POST, "/v1/stop", &request);
            // The following steps show whether the request worked.
            drop(tokio::time::timeout(grace + END, stop).await);
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
        Err(self.ended(&format!("{} controller had to be killed", self.whose)))
    }

    async fn wait(&mut self) -> bool {
        tokio::time::timeout(END, self.child.wait()).await.is_ok()
    }

    /// A failure that includes the controller's last output, if any.
    fn ended(&self, error: &str) -> Failure {
        let words = self.words();
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
