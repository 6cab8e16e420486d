//! What clients of the API ask for. Nothing here takes long: what does goes on beside the task.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout_at};

use super::{
    connections::{Aim, Outcome},
    interface::{Command, Input, InstanceId, RequestId, SlotId},
    request::{self, RequestError},
    task::Task,
};
use crate::{
    api::{
        Ask,
        types::{ErrorKind, GetRequest, Got, Reply},
    },
    group::Opened,
    process::variables::VariablesError,
};

/// How long a request to one worker may take, if its client does not say.
const GET_PATIENCE_MS: u64 = 10_000;

/// How long it may take at most.
const MAX_GET_PATIENCE_MS: u64 = 10 * 60 * 1000;

/// So many requests to workers are under way at most: each holds a connection, and its answer in memory.
const MAX_GETS: usize = 16;

/// A client that waits for the answer of one worker.
#[derive(Debug)]
pub(super) struct Questioner {
    slot: SlotId,
    addr: SocketAddr,
    patience: Duration,
    reply: oneshot::Sender<Result<Got, Reply>>,
}

impl Task {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => self.status(reply),
            Ask::Command { command, reply } => match self.renew_variables_for(&command) {
                Ok(()) => self.request(command, reply),
                Err(refusal) => drop(reply.send(*refusal)),
            },
            Ask::Canary { share, request, reply } => {
                let renewed = self.renew_variables();
                match renewed.and_then(|()| self.template.add_canary(&request, self.core.version())) {
                    Ok(version) => self.request(Command::Canary { share, version }, reply),
                    Err(refusal) => drop(reply.send(*refusal)),
                }
            }
            Ask::Spec(reply) => drop(reply.send(self.options().spec.clone())),
            Ask::Apply {
                request,
                by_root,
                reply,
            } => self.apply(request, by_root, reply),
            Ask::Get { slot, request, reply } => self.get(slot, &request, reply),
            Ask::Send { slot, message, reply } => drop(reply.send(self.send(slot, &message))),
            Ask::Bus(reply) => drop(reply.send(self.messages.subscribe())),
        }
    }

    fn request(&mut self, command: Command, reply: oneshot::Sender<Reply>) {
        let id = self.next_request_id();
        self.replies.insert(id, reply);
        self.feed(Input::Request { id, command });
    }

    pub(super) fn next_request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Whoever asks for new processes wants what is in the env files now.
    pub(super) fn renew_variables_for(&mut self, command: &Command) -> Result<(), Box<Reply>> {
        match command {
            Command::Restart { .. } | Command::Reload { .. } => self.renew_variables(),
            Command::Adopt { .. }
            | Command::Drain { .. }
            | Command::Undrain { .. }
            | Command::Scale(_)
            | Command::SetPolicy(_)
            | Command::Weigh { .. }
            | Command::Canary { .. }
            | Command::Promote
            | Command::Abort
            | Command::Stop { .. } => Ok(()),
        }
    }

    /// Of all versions that some slot is started from.
    pub(super) fn reread_variables(&mut self) -> Result<(), VariablesError> {
        let view = self.core.view();
        let mut versions: Vec<_> = view.slots.iter().map(|slot| slot.version).collect();
        versions.push(view.version);
        self.template.renew_variables(&versions)
    }

    fn renew_variables(&mut self) -> Result<(), Box<Reply>> {
        self.reread_variables()
            .map_err(|error| refusal(ErrorKind::Usage, error.to_string(), error.hint()))
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        if self.applying.as_ref().is_some_and(|applying| applying.waits_for(id)) {
            self.on_step(reply);
        } else if let Some(signal) = self.signalled.remove(&id) {
            self.on_signal_answered(signal, &reply);
        } else if let Some(waiting) = self.replies.remove(&id) {
            // The client has gone away; so be it, here and elsewhere.
            drop(waiting.send(reply));
        }
    }

    fn get(&mut self, slot: SlotId, request: &GetRequest, reply: oneshot::Sender<Result<Got, Reply>>) {
        let (id, addr) = match self.target_of(slot, request) {
            Ok(target) => target,
            Err(refusal) => return drop(reply.send(Err(*refusal))),
        };
        if self.connections.count(Aim::is_get) >= MAX_GETS {
            let error = format!("{MAX_GETS} requests to workers are under way already");
            let hint = "try again when one of them has been answered; --timeout bounds how long they take";
            return drop(reply.send(Err(*refusal(ErrorKind::Failed, error, hint))));
        }
        let patience = patience(request.timeout_ms);
        let questioner = Questioner {
            slot,
            addr,
            patience,
            reply,
        };
        let deadline = Instant::now() + patience;
        let path = request.path.clone();
        let ask = move |opened| async move {
            let answer = timeout_at(deadline.into(), answer_of(opened, &path)).await;
            Outcome::Got(answer.unwrap_or(Err(RequestError::Late)))
        };
        match self.way_to(id, addr) {
            Ok(way) => self.direct(way, Aim::Get(questioner), Some(deadline), ask),
            Err(problem) => questioner.refuse(&problem),
        }
    }

    /// Whom a request is for, and where it listens.
    fn target_of(&self, slot: SlotId, request: &GetRequest) -> Result<(InstanceId, SocketAddr), Box<Reply>> {
        let view = self.core.view();
        let no_worker = |error| {
            refusal(
                ErrorKind::NotFound,
                error,
                "`reuse-ctl status` lists the workers and their states",
            )
        };
        let Some(found) = view.slots.iter().find(|known| known.id == slot) else {
            return Err(no_worker(format!("no worker {slot}")));
        };
        let running = found.current.and_then(|id| Some((id, self.live.get(&id)?)));
        let Some((id, live)) = running.filter(|(_, live)| live.pid().is_some()) else {
            return Err(no_worker(format!("worker {slot}: nothing runs there now")));
        };
        let served = self.groups.served_by(live.row);
        let addr = match request.addr {
            Some(addr) if served.contains(&addr) => addr,
            Some(addr) => {
                let served: Vec<String> = served.iter().map(ToString::to_string).collect();
                return Err(refusal(
                    ErrorKind::Usage,
                    format!("worker {slot} does not listen on {addr}"),
                    &format!("it listens on {}", served.join(", ")),
                ));
            }
            None => *served.first().ok_or_else(|| {
                refusal(
                    ErrorKind::Failed,
                    format!("worker {slot} does not listen yet"),
                    "`reuse-ctl status` shows how it is; a worker that listens nowhere takes messages only: `reuse-ctl send`",
                )
            })?,
        };
        Ok((id, addr))
    }
}

impl Questioner {
    pub(super) fn answer(self, result: Result<Got, RequestError>) {
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
                "`reuse-ctl status` shows whether it hangs; give it more time with --timeout",
            ),
            RequestError::Path(_) => refusal(
                ErrorKind::Usage,
                format!("worker {slot}: {error}"),
                "say one like /debug?x=1",
            ),
            RequestError::NotHttp(_) => refusal(
                ErrorKind::Failed,
                format!("worker {slot} on {addr}: {error}"),
                "only plain HTTP can be asked for: TLS and other protocols can't",
            ),
            RequestError::TooLong => refusal(
                ErrorKind::Failed,
                format!("worker {slot} on {addr}: {error}"),
                "ask for less",
            ),
            RequestError::Connection(_) | RequestError::Closed => refusal(
                ErrorKind::Failed,
                format!("worker {slot} on {addr}: {error}"),
                "`reuse-ctl status` shows how the worker is, `reuse-ctl logs` what it wrote",
            ),
        });
        drop(self.reply.send(result.map_err(|refusal| *refusal)));
    }

    /// There will be no answer, for this reason.
    pub(super) fn refuse(self, why: &str) {
        let error = format!("worker {}: {why}", self.slot);
        let hint = "`reuse-ctl status` shows how the worker is";
        drop(self.reply.send(Err(*refusal(ErrorKind::Failed, error, hint))));
    }
}

async fn answer_of(opened: std::io::Result<Opened>, path: &str) -> Result<Got, RequestError> {
    let opened = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => RequestError::Late,
        _ => RequestError::Connection(error),
    })?;
    let host = opened.target();
    request::get(opened.into_stream(), host, path).await
}

fn patience(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(GET_PATIENCE_MS).min(MAX_GET_PATIENCE_MS))
}

/// A reply that says no.
pub(super) fn refusal(kind: ErrorKind, error: String, hint: &str) -> Box<Reply> {
    Box::new(Reply {
        ok: false,
        error: Some(error),
        hint: Some(hint.into()),
        kind: Some(kind),
        ..Reply::default()
    })
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
