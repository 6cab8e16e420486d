//! Carries out the effects that the machine decides on.

use reuse_common::{Policy, cuts::Cuts};

use crate::supervisor::{
    directed::Purpose,
    faults::{self, RescueError},
    live::{self, Live},
    new_instance::NewInstance,
    placement::Placement,
    quiesce,
    task::{Finished, Task},
};
use crate::{
    app::options::RunOptions,
    base::{Failure, InstanceId, SlotId, Text, VersionId},
    group::Choosable,
    process::{launch::Output, logs::Stream},
    wire::{Event, Reply},
};
use reuse_machine::interface::{Audience, Effect, Input, Note, NoteKind, Published, Refusal};

impl Task {
    pub(super) fn carry_out(&mut self, effect: Effect) {
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
                    self.announcer
                        .console
                        .warn(&format!("the policy can't be changed: {error}"));
                }
                self.set_queue_watch(policy);
            }
            Effect::Applied { id, step, done } => self.on_applied(id, step, &done),
            Effect::Reply { id, outcome } if self.is_applying(id) => self.on_apply_answered(outcome),
            Effect::Reply { id, outcome } if self.recycle.has_asked(id) => {
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

    fn publish(&mut self, published: &[Published]) {
        let choosable = published
            .iter()
            .filter_map(|entry| {
                Some(Choosable {
                    slot: entry.slot,
                    row: self.live.get(&entry.instance)?.row,
                    share: entry.share,
                })
            })
            .collect();
        self.moves
            .notice(published, &mut self.live, &mut self.groups, &self.template);
        let lingering = self.may_linger();
        self.groups.set_lingering(lingering);
        if let Err(error) = self.groups.publish(choosable) {
            self.announcer
                .console
                .warn(&format!("what may be chosen can't be changed: {error}"));
        }
        for (id, note) in self.moves.begin_lingering(&self.live, &self.groups) {
            self.inputs.push_back(Input::Lingers { instance: id });
            self.note(note);
        }
        self.moves.remember_served(&self.live, &self.groups);
        // Who was withdrawn may be waited for.
        self.look_now();
    }

    fn terminate_if_idle(&mut self, id: InstanceId) {
        let (freezer, console) = (&self.freezer, &self.announcer.console);
        let (live, template) = (&self.live, &self.template);
        let is_told = self
            .quiesce
            .terminate_if_idle(id, live, template, &mut self.groups, freezer, console);
        if is_told {
            self.look_now();
            self.inputs.push_front(Input::Terminated { instance: id });
        }
    }

    fn tell_to_end(&mut self, id: InstanceId, audience: Audience) {
        match audience {
            Audience::Servers => {
                let (groups, console) = (&mut self.groups, &self.announcer.console);
                let (live, template) = (&self.live, &self.template);
                drop(
                    self.quiesce
                        .tell_servers(id, Cuts::IN_FLIGHT, live, template, groups, console),
                );
                self.look_now();
            }
            Audience::Everyone => {
                if let Some(live) = self.live.get(&id) {
                    quiesce::tell_rest(live, &self.groups);
                }
            }
        }
    }

    /// Moves what is queued on the instance to others.
    fn rescue(&mut self, id: InstanceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let row = live.row;
        let own = self.connections.own_in_queue(&mut self.diag, id, |_| true, |_| true);
        // They would be moved as well, and what others do with them says nothing of this one.
        self.connections.recall(
            id,
            |purpose| !purpose.is_proof(),
            "it does not accept; what was queued on it was moved to others",
            &mut self.groups,
            &mut self.diag,
        );
        match faults::move_queue(live, &mut self.groups, &self.freezer) {
            Ok(moved) => {
                // Where they are now, they say nothing of this one.
                let groups = &self.groups;
                self.connections
                    .forget_abandoned(id, |addr| groups.is_served_without(addr, row));
                faults::tell_rescued(live, moved.saturating_sub(own.into()), &self.announcer);
            }
            Err(error) => {
                let (view, console) = (self.machine.view(), &self.announcer.console);
                self.wake_probes.on_failed_rescue(id, live, &error, &view, console);
                if let RescueError::Freeze(_) = error {
                    return;
                }
            }
        }
        self.renew_wake_probes();
        self.queue_watch.hurry();
    }

    fn wake_probe(&mut self, id: InstanceId) {
        self.wake_probes.want(id);
        self.set_queue_watch(self.machine.view().policy);
        self.renew_wake_probes();
        self.queue_watch.hurry();
    }

    fn stop_wake_probe(&mut self, id: InstanceId) {
        self.wake_probes.forget(id);
        self.connections
            .recall(id, Purpose::is_wake_probe, "", &mut self.groups, &mut self.diag);
        self.set_queue_watch(self.machine.view().policy);
    }

    pub(super) fn renew_wake_probes(&mut self) {
        let problems = self
            .wake_probes
            .renew(&self.live, &mut self.groups, &mut self.connections);
        for (id, problem) in problems {
            self.on_no_wake_probe(id, &problem);
        }
    }

    pub(super) fn on_no_wake_probe(&mut self, id: InstanceId, problem: &str) {
        if let Some(live) = self.live.get(&id) {
            let (view, console) = (self.machine.view(), &self.announcer.console);
            self.wake_probes.on_none(id, live, problem, &view, console);
        }
    }

    pub(super) fn set_queue_watch(&mut self, policy: Policy) {
        self.queue_watch
            .set(policy, self.wake_probes.any(), &self.live, &mut self.groups);
    }

    fn may_linger(&mut self) -> Vec<Choosable> {
        self.moves.may_linger(self.machine.view().stopping, &self.live)
    }

    /// It gets no new connections any more: they are refused where nobody else is.
    pub(super) fn stop_lingering(&mut self, id: InstanceId) {
        if !self.moves.end_lingering(id) {
            return;
        }
        let rest = self.may_linger();
        if let Err(error) = self.groups.linger(rest) {
            self.announcer.console.warn(&error.to_string());
        }
        self.look_now();
    }

    fn spawn(&mut self, slot: SlotId, id: InstanceId, version: VersionId) -> Result<(), String> {
        let (channel, theirs) = self
            .messages
            .open(slot, id, self.background_events.clone())
            .map_err(|error| format!("socketpair for its messages: {error}"))?;
        let new = NewInstance {
            slot,
            id,
            version,
            may_move: self.moves.are_asked_for(),
        };
        let (template, events) = (&self.template, &self.background_events);
        let (live, spec) = new.prepare(channel, template, &mut self.groups, events)?;
        if let Output::Files { .. } = spec.output {
            self.logs.keep(slot, Stream::Out, live.log.clone(), live.log_start);
            self.logs
                .keep(slot, Stream::Err, live.err_log.clone(), live.err_log_start);
            self.messages.add_output(slot, "log:out", &live.log);
            self.messages.add_output(slot, "log:err", &live.err_log);
        }
        self.live.insert(id, live);
        live::launch(id, spec, theirs, self.background_events.clone());
        Ok(())
    }

    /// The failure that a refusal of the machine is to its users.
    pub(super) fn refused(&mut self, refusal: Refusal) -> Failure {
        if let Some(culprit) = refusal.culprit {
            // The answer comes before the culprit is killed: what it listens on can still be seen.
            self.diagnose(culprit);
        }
        self.diagnoses.explain(refusal)
    }

    /// For [`Diagnoses::diagnose`](crate::supervisor::diagnosis::Diagnoses::diagnose).
    pub(super) fn diagnose(&mut self, id: InstanceId) {
        if let Some(live) = self.live.get_mut(&id).filter(|live| !live.was_ready) {
            live.problem = live.problem.take().or_else(|| self.left_out.explain(id));
        }
        let placement = Placement {
            live: &self.live,
            groups: &self.groups,
            template: &self.template,
            moves: &self.moves,
        };
        self.diagnoses.diagnose(id, &placement, &mut self.diag);
    }

    pub(super) fn note(&mut self, note: Note) {
        let pid = note.instance.and_then(|id| self.live.get(&id)).and_then(Live::pid);
        self.messages.tell_bus(&note, pid, &self.machine.view());
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
        if is_bad_news && let Some(problem) = instance.and_then(|id| self.diagnoses.problem_of(id)) {
            message = message + " (" + problem + ")";
        }
        // Whether other apps run is not known here.
        let message = message.for_app(&self.template.app);
        let event = Event {
            at_ms: 0,
            worker: slot.map(|slot| slot.0),
            pid,
            event: kind.as_str().into(),
            message,
        };
        match kind {
            NoteKind::Failed
            | NoteKind::Cut
            | NoteKind::AllFailed
            | NoteKind::Warning
            | NoteKind::BackingOff
            | NoteKind::Hung
            | NoteKind::Unhealthy => self.announcer.warn(event),
            NoteKind::Spawned if self.template.quiet() => self.announcer.tell(event),
            _ => self.announcer.say(event),
        }
    }

    /// An event, and a line for people.
    pub(super) fn warn(&mut self, slot: Option<SlotId>, message: impl Into<Text>) {
        self.note(Note {
            slot,
            instance: None,
            kind: NoteKind::Warning,
            message: message.into(),
        });
    }

    /// For [`Guards::open`](crate::supervisor::ports::Guards::open).
    pub(super) fn open_ports(&mut self, old: &RunOptions, new: &RunOptions) -> Result<(), Failure> {
        self.guards
            .open(old, new, &self.template, &mut self.groups, &mut self.diag)
    }

    pub(super) fn settle_ports(&mut self, options: &RunOptions) {
        self.guards.keep_only(options, &mut self.groups);
    }
}

fn numbers(slots: &[SlotId]) -> Vec<u16> {
    slots.iter().map(|slot| slot.0).collect()
}
