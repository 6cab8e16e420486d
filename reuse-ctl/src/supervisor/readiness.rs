//! When an instance that listens as it should is ready: when it serves what it inherited, and has said or shown what `--ready` wants.

use super::{
    directed::{DirectedConnections, DirectedOutcome, Purpose},
    live::{BackgroundEvent, Live},
    template::Template,
    worker_http,
};
use crate::{
    app::options::{ReadyKind, STARTED_AFTER},
    base::InstanceId,
    group::{Groups, Opened},
};
use reuse_common::ids::Row;
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout_at},
};

/// How long one question may take that is to be answered when the worker is ready. The next is asked no earlier than [`ASK_EVERY`]
/// after it began. The start's deadline bounds all of them together.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// See [`ASK_PATIENCE`].
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long one proof that an inherited listener is served waits for the server to accept. The start's deadline bounds all of them together.
const PROOF_PATIENCE: Duration = Duration::from_secs(2);

/// Does what is next for an instance that listens as it should. Returns whether it is ready; else something else has to happen first.
pub(crate) fn go_on(
    id: InstanceId,
    live: &mut Live,
    template: &Template,
    groups: &mut Groups,
    connections: &mut DirectedConnections,
) -> bool {
    // An inherited listener listens before its server runs: only an accepted connection shows that somebody serves it.
    let unproved = template.listen.iter().find(|addr| !live.accepted.contains(addr));
    if let Some(&addr) = unproved {
        prove(id, live, addr, groups, connections);
        return false;
    }
    match &template.options(live.version).ready.kind {
        ReadyKind::Ipc | ReadyKind::Notify | ReadyKind::Started if !live.announced_ready => return false,
        ReadyKind::Http(path) if !live.announced_ready => {
            ask(id, live, path, groups, connections);
            return false;
        }
        ReadyKind::Listener | ReadyKind::Ipc | ReadyKind::Notify | ReadyKind::Started | ReadyKind::Http(_) => {}
    }
    (live.ready, live.was_ready) = (true, true);
    true
}

/// Its command runs. If no more is wanted of it than that this lasts, that will be known in a moment.
pub(crate) fn on_started(
    id: InstanceId,
    live: &Live,
    template: &Template,
    background_events: &mpsc::Sender<BackgroundEvent>,
) {
    if template.options(live.version).ready.kind == ReadyKind::Started {
        let background_events = background_events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STARTED_AFTER).await;
            // Nobody is there any more when the app has ended.
            drop(background_events.send(BackgroundEvent::RanForAWhile(id)).await);
        });
    }
}

/// It was asked whether it is ready.
pub(crate) fn on_answer(live: &mut Live, answered: Result<(), String>) {
    live.announced_ready = answered.is_ok();
    live.problem = answered.err();
}

/// It was tried whether somebody serves the inherited listener on `addr`. Returns whether somebody does.
pub(crate) fn on_proved(live: &mut Live, addr: SocketAddr, result: io::Result<()>) -> bool {
    match result {
        Ok(()) => {
            live.accepted.push(addr);
            live.problem = None;
            true
        }
        // Tried again at the next look, until the start's own deadline ends it.
        Err(error) => {
            tracing::debug!(%addr, %error, "not accepted yet");
            false
        }
    }
}

/// Asks the instance, unless a question is under way.
fn ask(id: InstanceId, live: &mut Live, path: &str, groups: &mut Groups, connections: &mut DirectedConnections) {
    if connections.has(id, Purpose::is_question) {
        return;
    }
    // Else it is asked again at the next look.
    if let Err(problem) = begin_question(id, live.row, path, groups, connections) {
        live.problem = Some(problem);
    }
}

fn begin_question(
    id: InstanceId,
    row: Row,
    path: &str,
    groups: &mut Groups,
    connections: &mut DirectedConnections,
) -> Result<(), String> {
    let addr = *groups.served_by(row).first().ok_or("it does not listen")?;
    let prepared = DirectedConnections::prepare(groups, id, row, addr)?;
    let began = Instant::now();
    let deadline = began + ASK_PATIENCE;
    let path = path.to_owned();
    connections.direct(prepared, Purpose::AskReady, Some(deadline), move |opened| async move {
        let asked = timeout_at(deadline.into(), answer_of(opened, &path)).await;
        let answered = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ASK_PATIENCE.as_secs())));
        if answered.is_err() {
            sleep_until((began + ASK_EVERY).into()).await;
        }
        DirectedOutcome::AnsweredReady(
            answered.map_err(|problem| format!("it listens, but GET {path} on {addr}: {problem}")),
        )
    });
    Ok(())
}

/// Has the server behind an inherited listener accept a connection, unless one is under way.
fn prove(
    id: InstanceId,
    live: &mut Live,
    addr: SocketAddr,
    groups: &mut Groups,
    connections: &mut DirectedConnections,
) {
    if connections.has(id, Purpose::is_proof) {
        return;
    }
    let problem = begin_proof(id, live.row, addr, groups, connections).err();
    live.problem =
        Some(problem.unwrap_or_else(|| format!("it does not accept from the listener on {addr} that it inherited")));
}

fn begin_proof(
    id: InstanceId,
    row: Row,
    addr: SocketAddr,
    groups: &mut Groups,
    connections: &mut DirectedConnections,
) -> Result<(), String> {
    let cookie = groups
        .directed_listener(row, addr)
        .ok_or("its inherited listener is gone")?;
    let prepared = DirectedConnections::prepare(groups, id, row, addr)?;
    let deadline = Instant::now() + PROOF_PATIENCE;
    connections.direct(
        prepared,
        Purpose::Prove(addr),
        Some(deadline),
        move |opened| async move {
            let accepted = async { opened?.accepted(cookie).await };
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody accepted the connection");
            let proved = timeout_at(deadline.into(), accepted).await.map_err(late).flatten();
            DirectedOutcome::Proved(proved)
        },
    );
    Ok(())
}

/// Else what came instead.
async fn answer_of(opened: io::Result<Opened>, path: &str) -> Result<(), String> {
    let opened = opened.map_err(|error| error.to_string())?;
    let host = opened.target();
    match worker_http::status(opened.into_stream(), host, path).await {
        Ok(200..=399) => Ok(()),
        Ok(status) => Err(format!("status {status}")),
        Err(error) => Err(error.to_string()),
    }
}
