//! Waits for a request that takes some time, and shows a progress line.
//!
//! On a terminal the line is redrawn about five times a second. Otherwise a new line is written when it has changed, at most once a second.
//! Both go to standard error, so that standard output contains only the result.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{
    apps::{self, App},
    terminal::stderr_columns,
};
use crate::{
    base::{Failure, count},
    cli::context::Context,
    wire::{Reply, Status},
};

const POLL: Duration = Duration::from_millis(200);
const PLAIN_PAUSE: Duration = Duration::from_secs(1);

/// A request to be made.
#[derive(Debug)]
pub(super) struct Request<B> {
    pub(super) method: hyper::Method,
    pub(super) path: String,
    pub(super) body: B,
}

impl<B: Serialize> Request<B> {
    pub(super) fn post(path: impl Into<String>, body: B) -> Self {
        Self {
            method: hyper::Method::POST,
            path: path.into(),
            body,
        }
    }

    pub(super) fn put(path: impl Into<String>, body: B) -> Self {
        Self {
            method: hyper::Method::PUT,
            path: path.into(),
            body,
        }
    }

    pub(super) async fn send(&self, app: &App) -> Result<Reply, Failure> {
        let reply = app.client.command(self.method.clone(), &self.path, &self.body).await;
        reply.map_err(|error| apps::explain(&app.entry, error))
    }
}

/// Waits for `work`. Meanwhile it shows the line that `line` makes from the app's status and the elapsed time (`None`: no line). Ctrl-C
/// ends the waiting, not the request; `interrupted` is the message for that.
pub(super) async fn watch<T>(
    context: &Context,
    app: &App,
    line: impl Fn(&Status, Duration) -> Option<String>,
    work: impl Future<Output = Result<T, Failure>>,
    interrupted: impl FnOnce() -> Failure,
) -> Result<T, Failure> {
    let mut shown = (!context.json).then(|| ProgressLine::new(context.terminal.stderr_is_tty));
    let show = async {
        let start = Instant::now();
        let Some(shown) = &mut shown else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(POLL).await;
            // If the app ends meanwhile, `work` reports it.
            if let Ok(status) = app.client.status().await {
                shown.show(line(&status, start.elapsed()).unwrap_or_default());
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = show => unreachable!("it shows for ever"),
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    };
    if let Some(shown) = &mut shown {
        shown.clear();
    }
    result
}

/// The line itself.
struct ProgressLine {
    is_tty: bool,
    text: String,
    written: Option<Instant>,
}

impl ProgressLine {
    fn new(is_tty: bool) -> Self {
        Self {
            is_tty,
            text: String::new(),
            written: None,
        }
    }

    fn show(&mut self, text: String) {
        if self.is_tty {
            let fitting: String = text.chars().take(stderr_columns().saturating_sub(1)).collect();
            write_stderr(&format!("\r{fitting}\x1b[K"));
            self.text = text;
            return;
        }
        let is_due = self.written.is_none_or(|written| written.elapsed() >= PLAIN_PAUSE);
        if is_due && !text.is_empty() && text != self.text {
            write_stderr(&format!("{text}\n"));
            self.text = text;
            self.written = Some(Instant::now());
        }
    }

    fn clear(&mut self) {
        if self.is_tty && !std::mem::take(&mut self.text).is_empty() {
            write_stderr("\r\x1b[K");
        }
    }
}

fn write_stderr(text: &str) {
    // Failing to print progress is no reason to give up.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// What is still unfinished while workers are replaced: `3 of 4 active; worker 2: starting, stopping (5 connections left)`.
pub(super) fn changing_line(status: &Status) -> Option<String> {
    use crate::base::WorkerState::Active;
    let changing: Vec<String> = status.workers.iter().filter_map(changing_worker).collect();
    let active = status.workers.iter().filter(|worker| worker.state == Active).count();
    (!changing.is_empty()).then(|| format!("{active} of {} active; {}", status.workers.len(), changing.join("; ")))
}

fn changing_worker(worker: &crate::wire::WorkerStatus) -> Option<String> {
    use crate::base::WorkerState::Active;
    let mut parts: Vec<String> = Vec::new();
    if worker.instances.is_empty() && worker.state != Active {
        parts.push(super::status::state_name(worker.state).into());
    }
    for instance in worker.instances.iter().filter(|instance| instance.state != Active) {
        let name = super::status::state_name(instance.state);
        parts.push(match instance.connections {
            0 => name.into(),
            left => format!("{name} ({} left)", count(left, "connection")),
        });
    }
    (!parts.is_empty()).then(|| format!("worker {}: {}", worker.id, parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::WorkerState, server::fake, wire::InstanceStatus};

    #[test]
    fn changes_are_named() {
        let mut status = fake::status();
        status.workers[0].instances.push(InstanceStatus {
            pid: 9,
            state: WorkerState::Stopping,
            connections: 5,
            queue: 0,
            left_out: Vec::new(),
        });
        status.workers[1] = fake::worker(1, WorkerState::Active, 0);
        assert_eq!(
            changing_line(&status).as_deref(),
            Some("2 of 3 active; worker 0: stopping (5 connections left); worker 2: backing off")
        );
        status.workers.truncate(2);
        status.workers[0].instances.truncate(1);
        assert_eq!(changing_line(&status), None);
    }
}
