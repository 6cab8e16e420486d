//! Carries out the effects that the machine decides on.

use std::sync::Arc;

use reuse_common::{cuts::Cuts, ids::Row};

use crate::supervisor::{
    diagnosis::LastOutput,
    live::{self, Live, Process},
    ready_notify::NotifySocket,
    stop_signal::Signalled,
    task::{Finished, Task},
};
use crate::{
    app::options::ReadyKind,
    base::{Failure, InstanceId, SlotId, VersionId},
    group::{Choosable, GroupError},
    process::{
        cgroup::InstanceCgroup,
        launch::{LaunchSpec, Output},
        logs::{self, Stream},
    },
    wire::{Event, Reply},
};
use reuse_machine::interface::{Effect, Input, Note, NoteKind, Refusal, Seated};

impl Task {
    pub(crate) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn {
                slot,
                instance,
                version,
            } => {
                if let Err(reason) = self.spawn(slot, instance, version) {
                    self.inputs.push_back(Input::SpawnFailed { instance, reason });
                }
            }
            Effect::Publish(published) => self.publish(&published),
            Effect::Terminate { instance, audience } => {
                self.stop_lingering(instance);
                self.tell_to_end(instance, audience);
            }
            Effect::TerminateIfIdle { instance } => self.terminate_if_idle(instance),
            Effect::Kill { instance } => {
                self.stop_lingering(instance);
                self.diagnose(instance);
                if let Some(live) = self.live.get(&instance) {
                    self.groups.count_cuts(live.row, Cuts::EVERYTHING);
                    live.kill();
                }
            }
            Effect::SetPolicy(policy) => {
                if let Err(error) = self.groups.set_policy(policy) {
                    self.console.warn(&format!("the policy can't be changed: {error}"));
                }
                self.set_queue_watch(policy);
            }
            Effect::Reply { id, outcome } if self.is_recycling(id) => {
                self.moves.forget(id);
                self.on_recycled(outcome);
            }
            Effect::Reply { id, outcome } => {
                let reply = match outcome {
                    Ok(done) => Reply {
                        ok: true,
                        message: Some(self.moves.add_to(id, &done)),
                        workers: numbers(&done.slots),
                        ..Reply::default()
                    },
                    Err(refusal) => {
                        self.moves.forget(id);
                        self.refused(refusal).into()
                    }
                };
                self.reply(id, reply);
            }
            Effect::Note(note) => self.note(note),
            Effect::Rescue { instance } => self.rescue(instance),
            Effect::WakeProbe { instance } => self.wake_probe(instance),
            Effect::StopWakeProbe { instance } => self.stop_wake_probe(instance),
            Effect::Finish { failed } => self.finished = Some(Finished { failed }),
        }
    }

    fn publish(&mut self, published: &[Seated]) {
        let choosable = published
            .iter()
            .filter_map(|seated| {
                Some(Choosable {
                    slot: seated.slot,
                    row: self.live.get(&seated.instance)?.row,
                    share: seated.share,
                })
            })
            .collect();
        self.notice_moves(published);
        let lingering = self.may_linger();
        self.groups.set_lingering(lingering);
        if let Err(error) = self.groups.publish(choosable) {
            self.console
                .warn(&format!("what may be chosen can't be changed: {error}"));
        }
        self.begin_lingering();
        self.remember_places();
        // Who was withdrawn may be waited for.
        self.look_now();
    }

    fn spawn(&mut self, slot: SlotId, id: InstanceId, version: VersionId) -> Result<(), String> {
        let (channel, theirs) = self
            .messages
            .open(slot, id, self.background_events.clone())
            .map_err(|error| format!("socketpair for its messages: {error}"))?;
        let cgroup = self
            .template
            .cgroup
            .instance(slot, id)
            .map_err(|error| error.to_string())?;
        let cgroup = Arc::new(cgroup);
        let prepared = self.prepare_spawn(slot, id, version, &cgroup);
        let (row, spec, notify) = prepared.inspect_err(|_| {
            // Nothing was started in it.
            drop(cgroup.remove());
        })?;
        let (log, err_log) = (
            self.template.paths.log_file(slot),
            self.template.paths.err_log_file(slot),
        );
        let (log_start, err_log_start) = (logs::len(&log), logs::len(&err_log));
        if let Output::Files { .. } = spec.output {
            self.logs.keep(slot, Stream::Out, log.clone(), log_start);
            self.logs.keep(slot, Stream::Err, err_log.clone(), err_log_start);
            self.messages.add_output(slot, "log:out", &log);
            self.messages.add_output(slot, "log:err", &err_log);
        }
        let live = Live {
            slot,
            version,
            row,
            cgroup,
            process: Process::Launching,
            signalled: Signalled::default(),
            channel,
            log_start,
            log,
            err_log_start,
            err_log,
            binds: Vec::new(),
            accepted: Vec::new(),
            told: self.told(&spec, version),
            may_move: self.moves.are_asked_for(),
            problem: None,
            told_to_end: Arc::default(),
            announced_ready: false,
            listens: false,
            status_text: None,
            _notify: notify,
            ready: false,
            was_ready: false,
            was_published: false,
            unsettled_move: None,
        };
        self.live.insert(id, live);
        live::launch(id, spec, theirs, self.background_events.clone());
        Ok(())
    }

    /// What is needed of it beside its cgroup; the row comes last, because it would have to be given back.
    fn prepare_spawn(
        &mut self,
        slot: SlotId,
        id: InstanceId,
        version: VersionId,
        cgroup: &Arc<InstanceCgroup>,
    ) -> Result<(Row, LaunchSpec, Option<NotifySocket>), String> {
        cgroup
            .limit(&self.template.options(version).limits)
            .map_err(|error| error.to_string())?;
        let spec = self.template.launch_spec(slot, version, cgroup);
        let mut spec = spec.map_err(|error| error.to_string())?;
        let notify = match self.template.options(version).ready.kind {
            ReadyKind::Notify => Some(self.open_notify(slot, id, cgroup)?),
            ReadyKind::Listener | ReadyKind::Ipc | ReadyKind::Started | ReadyKind::Http(_) => None,
        };
        if let Some(notify) = &notify {
            spec.variables.push(("NOTIFY_SOCKET".into(), notify.path().into()));
        }
        let row = self.groups.register(slot, cgroup);
        let row = row.map_err(|error: GroupError| error.to_string())?;
        Ok((row, spec, notify))
    }

    fn open_notify(&self, slot: SlotId, id: InstanceId, cgroup: &Arc<InstanceCgroup>) -> Result<NotifySocket, String> {
        let path = self.template.paths.notify_socket(slot, id);
        let owner = (self.template.identity.uid, self.template.identity.gid);
        NotifySocket::open(&path, owner, id, Arc::clone(cgroup), self.background_events.clone())
            .map_err(|error| format!("its notify socket {}: {error}", path.display()))
    }

    /// The failure that the machine's refusal is to people: with what is known of the instance that failed.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Failure {
        let (mut error, mut output) = (refusal.error, LastOutput::default());
        if let Some(culprit) = refusal.culprit {
            // The answer comes before the culprit is killed: what it listens on can still be seen.
            self.diagnose(culprit);
        }
        if let Some((problem, last)) = refusal.culprit.and_then(|culprit| self.failure_of(culprit)) {
            if let Some(problem) = problem {
                error = format!("{error}: {problem}");
            }
            output = last;
        }
        let advice = refusal.culprit.and_then(|culprit| self.advice_on(culprit));
        let hint = match advice {
            Some(advice) => advice + "; " + refusal.hint,
            None => refusal.hint,
        };
        Failure {
            workers: numbers(&refusal.slots).into(),
            output: output.lines,
            output_of: output.of,
            ..Failure::new(refusal.kind, error, hint)
        }
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.tell_bus(&note);
        let Note {
            slot,
            instance,
            kind,
            mut message,
        } = note;
        let is_bad_news = matches!(
            kind,
            NoteKind::Exited
                | NoteKind::Failed
                | NoteKind::BackingOff
                | NoteKind::Hung
                | NoteKind::Unhealthy
                | NoteKind::Warning
        );
        if let Some(id) = instance.filter(|_| is_bad_news) {
            self.diagnose(id);
        }
        if is_bad_news && let Some((Some(problem), _)) = instance.and_then(|id| self.failure_of(id)) {
            message = message + " (" + problem + ")";
        }
        // Whether other apps run is not known here.
        let message = message.for_app(&self.template.app);
        match kind {
            NoteKind::Failed
            | NoteKind::Cut
            | NoteKind::AllFailed
            | NoteKind::Warning
            | NoteKind::BackingOff
            | NoteKind::Hung
            | NoteKind::Unhealthy => self.console.warn(&message),
            NoteKind::Spawned if self.template.quiet() => {}
            _ => self.console.say(&message),
        }
        let pid = instance.and_then(|id| self.live.get(&id)).and_then(Live::pid);
        let event = Event {
            at_ms: 0,
            worker: slot.map(|slot| slot.0),
            pid,
            event: kind.as_str().into(),
            message,
        };
        self.tell(event);
    }
}

fn numbers(slots: &[SlotId]) -> Vec<u16> {
    slots.iter().map(|slot| slot.0).collect()
}
