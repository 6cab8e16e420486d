//! Requests that a person makes of one worker: whom they are for, and how long they may take.

use super::{
    asks::refusal,
    live::Live,
    worker_http::{self, RequestError},
};
use crate::{
    base::{ErrorKind, InstanceId, SlotId, Verb},
    group::{Groups, Opened},
    wire::{GetRequest, Got, Reply},
};
use reuse_common::ids::Row;
use reuse_machine::View;
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// How long a request to one worker may take, if its client does not say.
const GET_PATIENCE_MS: u64 = 10_000;

/// How long it may take at most.
const MAX_GET_PATIENCE_MS: u64 = 10 * 60 * 1000;

/// So many requests to workers are under way at most: each holds a connection, and its answer in memory.
pub(crate) const MAX_GETS: usize = 16;

/// Whom a request is for, and where it listens.
///
/// # Errors
/// Nothing runs there, or it does not listen there.
pub(crate) fn target_of(
    slot: SlotId,
    request: &GetRequest,
    view: &View,
    live: &HashMap<InstanceId, Live>,
    groups: &Groups,
) -> Result<(InstanceId, Row, SocketAddr), Box<Reply>> {
    let no_worker = |error| {
        refusal(
            ErrorKind::NotFound,
            error,
            Verb::Status.run() + " lists the workers and their states",
        )
    };
    let Some(found) = view.slots.iter().find(|known| known.id == slot) else {
        return Err(no_worker(format!("no worker {slot}")));
    };
    let running = found.current.and_then(|id| Some((id, live.get(&id)?)));
    let Some((id, live)) = running.filter(|(_, live)| live.pid().is_some()) else {
        return Err(no_worker(format!("worker {slot}: nothing runs there now")));
    };
    let served = groups.served_by(live.row);
    let addr = match request.addr {
        Some(addr) if served.contains(&addr) => addr,
        Some(addr) => {
            let served: Vec<String> = served.iter().map(ToString::to_string).collect();
            return Err(refusal(
                ErrorKind::Usage,
                format!("worker {slot} does not listen on {addr}"),
                format!("it listens on {}", served.join(", ")),
            ));
        }
        None => *served.first().ok_or_else(|| {
            refusal(
                ErrorKind::Failed,
                format!("worker {slot} does not listen yet"),
                Verb::Status.run()
                    + " shows how it is; a worker that listens nowhere takes messages only: "
                    + Verb::Send.run(),
            )
        })?,
    };
    Ok((id, live.row, addr))
}

pub(crate) async fn answer_of(opened: std::io::Result<Opened>, path: &str) -> Result<Got, RequestError> {
    let opened = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => RequestError::Late,
        _ => RequestError::Connection(error),
    })?;
    let host = opened.target();
    worker_http::get(opened.into_stream(), host, path).await
}

pub(crate) fn patience(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(GET_PATIENCE_MS).min(MAX_GET_PATIENCE_MS))
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
