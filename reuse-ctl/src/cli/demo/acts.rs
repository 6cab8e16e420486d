//! The acts of the demo, played one after the other while the load goes on.

use std::io;
use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    accepted,
    load::{SharedTally, lock},
};
use crate::{
    base::{Failure, Verb, WorkerState, durations::tenths},
    client::{Client, ClientError},
    wire::{DrainRequest, PolicyRequest, ReloadRequest, Reply, Status},
};

/// The worker that is drained.
const DRAINED: u16 = 2;
/// The worker that is killed.
const KILLED: u16 = 1;
/// Time that connections have to end in a drain. The demo's kept connections live about a second.
const DRAIN: Duration = Duration::from_secs(15);
/// Time that a killed worker has to become active again.
const BACK: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Steady,
    Drain,
    Undrain,
    Kill,
    Reload,
    Sticky,
}

impl Act {
    pub(super) const ALL: [Self; 6] = [
        Self::Steady,
        Self::Drain,
        Self::Undrain,
        Self::Kill,
        Self::Reload,
        Self::Sticky,
    ];

    /// The act as the user would name or type it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Steady => "steady, least-loaded".into(),
            Self::Drain => format!("drain {DRAINED}"),
            Self::Undrain => format!("undrain {DRAINED}"),
            Self::Kill => format!("kill -9 worker {KILLED}"),
            Self::Reload => "reload".into(),
            Self::Sticky => "policy sticky".into(),
        }
    }

    /// The act's share of the whole time. An act that needs longer takes longer.
    pub(super) fn duration(self, whole: Duration) -> Duration {
        let twentieths = match self {
            Self::Undrain => 2,
            Self::Drain | Self::Kill => 3,
            Self::Steady | Self::Reload | Self::Sticky => 4,
        };
        whole * twentieths / 20
    }
}

/// The app on which the acts are played.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) port: u16,
    pub(super) tally: SharedTally,
}

impl Stage {
    /// Plays one act, and returns its result in one line.
    pub(super) async fn play(&self, act: Act) -> Result<String, Failure> {
        match act {
            Act::Steady => Ok("nothing happens".into()),
            Act::Drain => {
                let timeout_ms = u64::try_from(DRAIN.as_millis()).ok();
                let request = DrainRequest {
                    timeout_ms,
                    ..DrainRequest::default()
                };
                let took = self
                    .ask(Method::POST, &format!("/v1/workers/{DRAINED}/drain"), &request)
                    .await?;
                Ok(format!("nothing was left on worker {DRAINED} after {}", tenths(took)))
            }
            Act::Undrain => {
                self.ask(
                    Method::POST,
                    &format!("/v1/workers/{DRAINED}/undrain"),
                    &serde_json::json!({}),
                )
                .await?;
                Ok(format!("worker {DRAINED} takes connections again"))
            }
            Act::Kill => self.kill().await,
            Act::Reload => {
                let took = self.ask(Method::POST, "/v1/reload", &ReloadRequest::default()).await?;
                Ok(format!("every worker replaced in {}", tenths(took)))
            }
            Act::Sticky => {
                self.ask(
                    Method::PUT,
                    "/v1/policy",
                    &PolicyRequest {
                        policy: "sticky".into(),
                    },
                )
                .await?;
                lock(&self.tally).follow_clients();
                Ok("every client address keeps its worker".into())
            }
        }
    }

    async fn kill(&self) -> Result<String, Failure> {
        let before = worker_pid(&self.status().await?, KILLED)
            .ok_or_else(|| Failure::failed(format!("worker {KILLED} does not run"), "start the demo again"))?;
        let start = Instant::now();
        let accepted = self.kill_and_wait(before).await.map_err(|error| {
            Failure::failed(
                format!("kill worker {KILLED} (pid {before}): {error}"),
                "start the demo again",
            )
        })?;
        while start.elapsed() < BACK {
            let status = self.status().await?;
            let worker = status.workers.iter().find(|worker| worker.id == KILLED);
            if worker.is_some_and(|worker| worker.state == WorkerState::Active && worker.pid != Some(before)) {
                let took = tenths(start.elapsed());
                return Ok(format!(
                    "it had accepted {accepted} connections; a new one was active after {took}"
                ));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Failure::timeout(
            format!(
                "worker {KILLED} was not active again {} s after it was killed",
                BACK.as_secs()
            ),
            "run " + Verb::Status.run() + " in a second terminal",
        ))
    }

    /// Kills the process in another thread, so that the load goes on meanwhile. Returns how many connections it had accepted.
    async fn kill_and_wait(&self, pid: u32) -> io::Result<usize> {
        let (tally, port) = (SharedTally::clone(&self.tally), self.port);
        let killing = tokio::task::spawn_blocking(move || {
            let mut accepted = 0;
            accepted::kill_knowing(pid, port, |clients| {
                accepted = clients.len();
                let mut tally = lock(&tally);
                tally.condemn(clients);
                tally.dies(Instant::now());
            })?;
            lock(&tally).is_dead(Instant::now());
            Ok(accepted)
        });
        killing.await.expect("killing does not panic")
    }

    /// Sends a request, and returns the time it took.
    async fn ask(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Duration, Failure> {
        let start = Instant::now();
        let reply: Reply = self.client.command(method, path, body).await.map_err(gone)?;
        if reply.ok {
            Ok(start.elapsed())
        } else {
            Err(reply.into())
        }
    }

    pub(super) async fn status(&self) -> Result<Status, Failure> {
        self.client.status().await.map_err(gone)
    }
}

fn worker_pid(status: &Status, id: u16) -> Option<u32> {
    status.workers.iter().find(|worker| worker.id == id)?.pid
}

fn gone(error: ClientError) -> Failure {
    match error {
        ClientError::Refusal(reply) => Failure::from(*reply),
        error => Failure::failed(format!("the demo's controller: {error}"), "start the demo again"),
    }
}
