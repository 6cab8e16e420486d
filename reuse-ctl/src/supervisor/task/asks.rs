//! What the task does about [`asks`](crate::supervisor::asks).

use crate::supervisor::asks::*;
use crate::supervisor::{
    connections::{DirectedOutcome, Purpose},
    lookups::Asker,
    request::RequestError,
    task::Task,
    template::Version,
};
use crate::supervisor::{lookups::Finding, template::Renewed};
use crate::{
    base::{ErrorKind, InstanceId, RequestId, SlotId, Verb, VersionId},
    supervisor::handle::Ask,
    wire::{CanaryRequest, GetRequest, Got, Reply},
};
use reuse_common::Share;
use reuse_machine::interface::{Command, Input};
use std::{net::SocketAddr, time::Instant};
use tokio::{sync::oneshot, time::timeout_at};

impl Task {
    pub(crate) fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => self.status(reply),
            Ask::Command {
                command,
                new_address,
                reply,
            } => {
                let id = self.new_request(reply);
                if new_address {
                    self.moves.ask(id);
                }
                self.request(id, command);
            }
            Ask::Canary { share, request, reply } => self.canary(share, request, reply),
            Ask::Spec(reply) => drop(reply.send(self.spec())),
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

    /// Who asked for it is answered.
    pub(crate) fn new_request(&mut self, reply: oneshot::Sender<Reply>) -> RequestId {
        let id = self.next_request_id();
        self.replies.insert(id, reply);
        id
    }

    pub(crate) fn next_request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Carries it out. Whoever asks for new processes wants what is in the env files now.
    pub(crate) fn request(&mut self, id: RequestId, command: Command) {
        let renewal = match command {
            Command::Restart { .. } | Command::Reload { .. } => self.template.renewal(self.machine.versions()),
            Command::Adopt { .. }
            | Command::Drain { .. }
            | Command::Undrain { .. }
            | Command::Scale(_)
            | Command::SetPolicy(_)
            | Command::Weigh { .. }
            | Command::Canary { .. }
            | Command::Promote
            | Command::Abort
            | Command::Stop { .. } => return self.feed(Input::Request { id, command }),
        };
        if renewal.is_empty() || !self.machine.would_take(&command) {
            return self.begin_request(id, command);
        }
        self.look_up(Asker { id, applies: false }, move || {
            let renewed = renewal.read().map_err(|error| unreadable(&error))?;
            Ok(Finding::EnvFiles { command, renewed })
        });
    }

    pub(crate) fn begin_request(&mut self, id: RequestId, command: Command) {
        if self.is_recycling(id) {
            self.feed_recycling(id, command);
        } else if !self.put_off(id, &command) {
            self.feed(Input::Request { id, command });
        }
    }

    /// The command is looked up, then it is a request like any other.
    fn canary(&mut self, share: Share, request: CanaryRequest, reply: oneshot::Sender<Reply>) {
        let id = self.new_request(reply);
        let own = self.machine.version();
        if let Err(refusal) = self.machine.check(&Command::Canary { share, version: own }) {
            let refused = self.refused(refusal);
            return self.reply(id, refused.into());
        }
        let renewal = self.template.renewal(self.machine.versions());
        let version = self.template.version(own).clone();
        self.look_up(Asker { id, applies: false }, move || {
            let renewed = renewal.read().map_err(|error| unreadable(&error))?;
            Ok(Finding::Canary {
                share,
                beside: own,
                canary: Box::new(version.canary(own, &request, &renewed)?),
                renewed,
            })
        });
    }

    /// The command was looked up, unless the app runs another version by now.
    pub(crate) fn begin_canary(
        &mut self,
        id: RequestId,
        share: Share,
        beside: VersionId,
        canary: Version,
        renewed: Renewed,
    ) {
        if self.machine.version() != beside {
            return self.reply(id, *another_version());
        }
        self.template.renew(renewed);
        let command = self.new_version(canary, |version| Command::Canary { share, version });
        self.feed(Input::Request { id, command });
    }

    /// Gives a version a number for this request, unless the machine would refuse that whatever the number.
    pub(crate) fn new_version(&mut self, version: Version, command: impl Fn(VersionId) -> Command) -> Command {
        let refused = command(self.machine.version());
        if !self.machine.would_take(&refused) {
            return refused;
        }
        let live = self.live.values().map(|live| live.version);
        let in_use = self.machine.versions().into_iter().chain(live).collect();
        command(self.template.versions.push(version, &in_use))
    }

    pub(crate) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.moves.answered(id);
        if self.applying.as_ref().is_some_and(|applying| applying.waits_for(id)) {
            self.on_step(reply);
        } else if self.is_recycling(id) {
            self.on_not_begun(reply);
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
        if self.connections.count(Purpose::is_get) >= MAX_GETS {
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
            DirectedOutcome::Got(answer.unwrap_or(Err(RequestError::Late)))
        };
        match self.prepare_connection(id, addr) {
            Ok(prepared) => self.direct(prepared, Purpose::Get(questioner), Some(deadline), ask),
            Err(problem) => questioner.refuse(&problem),
        }
    }

    /// Whom a request is for, and where it listens.
    fn target_of(&self, slot: SlotId, request: &GetRequest) -> Result<(InstanceId, SocketAddr), Box<Reply>> {
        let view = self.machine.view();
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
        Ok((id, addr))
    }
}
