//! The requests of the API's clients. Nothing here takes long: what does take long runs beside the task.

use super::request::{self, RequestError};
use std::{net::SocketAddr, time::Duration};
use tokio::sync::oneshot;

use crate::{
    base::{ErrorKind, Failure, SlotId, Text, Verb},
    group::Opened,
    process::variables::VariablesError,
    wire::{Got, Reply},
};

/// How long a request to one worker may take, if its client does not say.
const GET_PATIENCE_MS: u64 = 10_000;

/// How long it may take at most.
const MAX_GET_PATIENCE_MS: u64 = 10 * 60 * 1000;

/// So many requests to workers are under way at most: each holds a connection, and its answer in memory.
pub(crate) const MAX_GETS: usize = 16;

/// A client that waits for the answer of one worker.
#[derive(Debug)]
pub(crate) struct Questioner {
    pub(crate) slot: SlotId,
    pub(crate) addr: SocketAddr,
    pub(crate) patience: Duration,
    pub(crate) reply: oneshot::Sender<Result<Got, Reply>>,
}

impl Questioner {
    pub(crate) fn answer(self, result: Result<Got, RequestError>) {
        let Self {
            slot, addr, patience, ..
        } = self;
        let result = result.map_err(|error| match error {
            RequestError::Late => refusal(
                ErrorKind::Timeout,
                format!(
                    "worker {slot} did not answer within {}",
                    humantime::format_duration(patience)
                ),
                Verb::Status.run() + " shows whether it hangs; give it more time with --timeout",
            ),
            RequestError::Path(_) => refusal(
                ErrorKind::Usage,
                format!("worker {slot}: {error}"),
                "give one like /debug?x=1",
            ),
            RequestError::NotHttp(_) => refusal(
                ErrorKind::Failed,
                format!("worker {slot} on {addr}: {error}"),
                "only plain HTTP can be requested, not TLS or other protocols",
            ),
            RequestError::TooLong => refusal(
                ErrorKind::Failed,
                format!("worker {slot} on {addr}: {error}"),
                "request a smaller answer",
            ),
            RequestError::Connection(_) | RequestError::Closed => refusal(
                ErrorKind::Failed,
                format!("worker {slot} on {addr}: {error}"),
                Verb::Status.run() + " shows how the worker is, " + Verb::Logs.run() + " what it wrote",
            ),
        });
        drop(self.reply.send(result.map_err(|refusal| *refusal)));
    }

    /// There will be no answer, for this reason.
    pub(crate) fn refuse(self, why: &str) {
        let error = format!("worker {}: {why}", self.slot);
        let hint = Verb::Status.run() + " shows how the worker is";
        drop(self.reply.send(Err(*refusal(ErrorKind::Failed, error, hint))));
    }
}

pub(crate) async fn answer_of(opened: std::io::Result<Opened>, path: &str) -> Result<Got, RequestError> {
    let opened = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => RequestError::Late,
        _ => RequestError::Connection(error),
    })?;
    let host = opened.target();
    request::get(opened.into_stream(), host, path).await
}

pub(crate) fn patience(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(GET_PATIENCE_MS).min(MAX_GET_PATIENCE_MS))
}

pub(crate) fn unreadable(error: &VariablesError) -> Box<Reply> {
    refusal(ErrorKind::Usage, error.to_string(), error.hint())
}

/// What was looked up belongs to what ran before.
pub(crate) fn another_version() -> Box<Reply> {
    let error = "another version was rolled out meanwhile".into();
    refusal(ErrorKind::Failed, error, "nothing was changed: try again")
}

/// A reply that says no.
pub(crate) fn refusal(kind: ErrorKind, error: String, hint: impl Into<Text>) -> Box<Reply> {
    Box::new(Failure::new(kind, error, hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_makes_a_request_last_for_ever() {
        assert_eq!(patience(None), Duration::from_secs(10));
        assert_eq!(patience(Some(1)), Duration::from_millis(1));
        assert_eq!(patience(Some(u64::MAX)), Duration::from_secs(600));
    }
}
