//! Requests: those of the API's clients, of signals, and of the recycling of workers. What takes long is looked up beside the task first.

use crate::supervisor::{
    all_failed,
    asks::{Questioner, another_version, refusal, unreadable},
    directed::{DirectedConnections, DirectedOutcome, Purpose},
    get,
    lookups::{Asker, Finding, Found, LookupError},
    recycle::workers_seen,
    recycle_rules::Replacement,
    recycle_words,
    signals::{self, SignalMeaning, SignalRequest},
    status,
    task::Task,
    template::{Renewed, Version},
    worker_http::RequestError,
};
use crate::{
    base::{ErrorKind, Failure, InstanceId, RequestId, SlotId, Text, VersionId},
    supervisor::handle::Ask,
    wire::{CanaryRequest, GetRequest, Got, Reply, Status},
};
use reuse_common::Share;
use reuse_machine::interface::{Command, Done, Input, Refusal};
use std::{collections::HashMap, time::Instant};
use tokio::{sync::oneshot, time::timeout_at};

impl Task {
    pub(super) fn on_ask(&mut self, ask: Ask) {
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
            Ask::Send { slot, message, reply } => {
                drop(reply.send(self.messages.send(slot, &message, &self.live, &self.announcer)))
            }
            Ask::Bus(reply) => drop(reply.send(self.messages.subscribe())),
        }
    }

    /// Who asked for it is answered.
    pub(super) fn new_request(&mut self, reply: oneshot::Sender<Reply>) -> RequestId {
        let id = self.next_request_id();
        self.replies.insert(id, reply);
        id
    }

    pub(super) fn next_request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Carries it out. Whoever asks for new processes wants what is in the env files now.
    pub(super) fn request(&mut self, id: RequestId, command: Command) {
        let renewal = match command {
            Command::Restart { .. } | Command::Reload { .. } => self.template.renewal(self.machine.versions()),
            Command::Apply(_)
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

    pub(super) fn begin_request(&mut self, id: RequestId, command: Command) {
        if self.recycle.has_asked(id) {
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
    pub(super) fn begin_canary(
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
    pub(super) fn new_version(&mut self, version: Version, command: impl Fn(VersionId) -> Command) -> Command {
        let refused = command(self.machine.version());
        if !self.machine.would_take(&refused) {
            return refused;
        }
        let live = self.live.values().map(|live| live.version);
        let in_use = self.machine.versions().into_iter().chain(live).collect();
        command(self.template.versions.push(version, &in_use))
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.moves.answered(id);
        if self.recycle.has_asked(id) {
            self.on_not_begun(reply);
        } else if let Some(signal) = self.signalled.end(id) {
            self.on_signal_answered(signal, &reply);
        } else if let Some(waiting) = self.replies.remove(&id) {
            // The client has gone away; so be it, here and elsewhere.
            drop(waiting.send(reply));
        }
    }

    pub(super) fn look_up(&mut self, asker: Asker, work: impl FnOnce() -> Found + Send + 'static) {
        let refused = self.lookups.add(asker, work);
        self.reply_to_all(refused);
    }

    /// It was looked up what a request needs, or that fails.
    pub(super) fn on_looked_up(&mut self, id: RequestId, found: Result<Found, LookupError>) {
        match found {
            Ok(Ok(Finding::Wanted(wanted))) => self.on_wanted(id, *wanted),
            Ok(Ok(Finding::EnvFiles { command, renewed })) => {
                self.template.renew(renewed);
                self.begin_request(id, command);
            }
            Ok(Ok(Finding::Canary {
                share,
                beside,
                canary,
                renewed,
            })) => self.begin_canary(id, share, beside, *canary, renewed),
            Ok(Err(refusal)) => self.reply(id, *refusal),
            Err(error) => self.reply(id, error.refusal()),
        }
    }

    pub(super) fn reply_to_all(&mut self, replies: Vec<(RequestId, Reply)>) {
        for (id, reply) in replies {
            self.reply(id, reply);
        }
    }

    pub(super) fn on_signal(&mut self, asked: SignalMeaning) {
        match asked {
            SignalMeaning::ToStop if self.machine.view().stopping => {}
            SignalMeaning::ToStop | SignalMeaning::ByHand => self.feed(Input::Interrupt),
            SignalMeaning::ToReload => {
                self.service.reloading();
                self.ask_by(SignalRequest::Reload);
            }
            SignalMeaning::ForMore => self.ask_by(SignalRequest::More),
            SignalMeaning::ForFewer => self.ask_by(SignalRequest::Fewer),
            SignalMeaning::ToRotateLogs => {
                self.logs.rotate_all();
                signals::tell("SIGUSR1", Ok("all logs are being rotated"), &self.announcer);
            }
        }
    }

    /// Has workers replaced that are well, where it is time.
    pub(super) fn judge_workers(&mut self, memory: &HashMap<InstanceId, u64>) {
        let now = self.now();
        let workers = workers_seen(&self.machine.view(), &self.live, &self.groups, memory, now);
        let can_replace_all = self.machine.would_take(&Command::Reload { stop_first: false });
        let decision = self.recycle.judge(now, &workers, can_replace_all);
        for (slot, words) in decision.warnings {
            self.warn(Some(slot), format!("worker {slot} {words}"));
        }
        let command = match decision.replacement {
            None => return,
            Some(Replacement::One { slot, .. }) => Command::Restart {
                slot,
                stop_first: false,
            },
            Some(Replacement::All(_)) => Command::Reload { stop_first: false },
        };
        if !self.machine.would_take(&command) {
            return self.recycle.not_now();
        }
        let id = self.next_request_id();
        self.recycle.begin(id);
        self.request(id, command);
    }

    /// The env files were read: what was decided begins.
    fn feed_recycling(&mut self, id: RequestId, command: Command) {
        if !self.machine.would_take(&command) {
            return self.recycle.not_now();
        }
        if let Some(note) = self.recycle.note() {
            self.note(note);
        }
        self.feed(Input::Request { id, command });
    }

    /// What has come of it.
    pub(super) fn on_recycled(&mut self, outcome: Result<Done, Refusal>) {
        match outcome {
            Ok(_) => self.recycle.done(),
            // Stopped, scaled away: there is nothing to try again.
            Err(refusal) if refusal.culprit.is_none() => self.recycle.not_now(),
            Err(refusal) => {
                let failure = self.refused(refusal);
                let why = recycle_words::with_last_line(failure.error, &failure.output);
                let failed = self.recycle.failed(self.now(), why.into());
                self.warn(None, failed);
            }
        }
    }

    /// The env files can't be used, or the app stops.
    fn on_not_begun(&mut self, reply: Reply) {
        if self.machine.view().stopping {
            return self.recycle.not_now();
        }
        let failure = Failure::from(reply);
        let why = Text::from(failure.error) + "; " + failure.hint;
        let failed = self.recycle.failed(self.now(), why);
        self.warn(None, failed);
    }

    /// At once, or when what is under way is done.
    fn ask_by(&mut self, signal: SignalRequest) {
        let command = signal.command();
        match self.busy_with(&command) {
            None => self.request_by(signal, command),
            Some(first) => self.wait_with(signal, &first),
        }
    }

    fn wait_with(&mut self, signal: SignalRequest, first: &str) {
        let waits = self.signalled.wait(signal, first);
        signals::tell(signal.name(), Ok(&waits), &self.announcer);
    }

    fn busy_with(&self, command: &Command) -> Option<String> {
        self.waits_for(command).or_else(|| self.signalled.busy_with())
    }

    fn waits_for(&self, command: &Command) -> Option<String> {
        let apply = (self.applying.is_some() || self.lookups.apply()).then(|| "an apply".to_owned());
        apply.or_else(|| self.machine.waits_for(command))
    }

    /// Whether a signal's request, for which files were looked at, has to wait after all: something else has begun meanwhile.
    fn put_off(&mut self, id: RequestId, command: &Command) -> bool {
        if self.signalled.is_one(id)
            && let Some(first) = self.waits_for(command)
            && let Some(signal) = self.signalled.end(id)
        {
            self.wait_with(signal, &first);
            return true;
        }
        false
    }

    /// Carries out what waits, if nothing is under way any more.
    pub(super) fn take_pending(&mut self) {
        if let Some((signal, command)) = self.signalled.next(self.workers())
            && self.busy_with(&command).is_none()
        {
            self.signalled.take(signal);
            self.request_by(signal, command);
        }
    }

    fn request_by(&mut self, signal: SignalRequest, command: Command) {
        let id = self.next_request_id();
        self.signalled.begin(id, signal);
        self.request(id, command);
    }

    /// What a signal asked for was done or refused.
    fn on_signal_answered(&mut self, signal: SignalRequest, reply: &Reply) {
        if signal == SignalRequest::Reload && !self.signalled.reload_waits() {
            self.service.reloaded();
        }
        signal.tell_answer(reply, &self.announcer);
    }

    fn status(&mut self, reply: oneshot::Sender<Status>) {
        let queues = self.groups.queues(&mut self.diag).unwrap_or_default();
        let view = self.machine.view();
        let sources = status::Sources {
            view: &view,
            now: self.now(),
            live: &self.live,
            groups: &self.groups,
            queues,
            sockets: &self.sockets,
            left_out: &self.left_out,
        };
        let problem = all_failed::problem(&view, self.diagnoses.last());
        sources.answer(&self.template.app, problem, self.options(), &self.meter, reply);
    }

    fn get(&mut self, slot: SlotId, request: &GetRequest, reply: oneshot::Sender<Result<Got, Reply>>) {
        let (id, row, addr) = match get::target_of(slot, request, &self.machine.view(), &self.live, &self.groups) {
            Ok(target) => target,
            Err(refusal) => return drop(reply.send(Err(*refusal))),
        };
        if self.connections.count(Purpose::is_get) >= get::MAX_GETS {
            let error = format!("{} requests to workers are under way already", get::MAX_GETS);
            let hint = "try again when one of them has been answered; --timeout bounds how long they take";
            return drop(reply.send(Err(*refusal(ErrorKind::Failed, error, hint))));
        }
        let patience = get::patience(request.timeout_ms);
        let questioner = Questioner {
            slot,
            addr,
            patience,
            reply,
        };
        let deadline = Instant::now() + patience;
        let path = request.path.clone();
        let ask = move |opened| async move {
            let answer = timeout_at(deadline.into(), get::answer_of(opened, &path)).await;
            DirectedOutcome::Got(answer.unwrap_or(Err(RequestError::Late)))
        };
        match DirectedConnections::prepare(&mut self.groups, id, row, addr) {
            Ok(prepared) => self
                .connections
                .direct(prepared, Purpose::Get(questioner), Some(deadline), ask),
            Err(problem) => questioner.refuse(&problem),
        }
    }
}
