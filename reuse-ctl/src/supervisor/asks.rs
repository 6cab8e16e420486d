//! Requests of the API's clients. Nothing here takes long; work that does runs beside the task.

use super::worker_http::RequestError;
use std::{net::SocketAddr, time::Duration};
use tokio::sync::oneshot;

use crate::{
    base::{ErrorKind, Failure, SlotId, Text, Verb},
    process::variables::VariablesError,
    wire::{Got, Reply},
};

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

    /// Answers that there is no answer of the worker, and why.
    pub(crate) fn refuse(self, why: &str) {
        let error = format!("worker {}: {why}", self.slot);
        let hint = Verb::Status.run() + " shows how the worker is";
        drop(self.reply.send(Err(*refusal(ErrorKind::Failed, error, hint))));
    }
}

pub(crate) fn unreadable(error: &VariablesError) -> Box<Reply> {
    refusal(ErrorKind::Usage, error.to_string(), error.hint())
}

/// The refusal if the app's version has changed since the look-up began.
pub(crate) fn another_version() -> Box<Reply> {
    let error = "another version was rolled out meanwhile".into();
    refusal(ErrorKind::Failed, error, "nothing was changed: try again")
}

/// A reply that says no.
pub(crate) fn refusal(kind: ErrorKind, error: String, hint: impl Into<Text>) -> Box<Reply> {
    Box::new(Failure::new(kind, error, hint).into())
}
