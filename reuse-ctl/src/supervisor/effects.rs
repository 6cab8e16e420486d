//! Carries out what the machine says.

use std::sync::Arc;

use super::{
    interface::{Effect, Input, InstanceId, Note, NoteKind, Refusal, Seated, SlotId, VersionId},
    live::{self, Live, Process},
    task::{Finished, Task},
};
use crate::{
    api::types::{Event, Reply},
    group::{Choosable, GroupError},
    process::{
        launch::Output,
        logs::{self, Stream},
    },
};

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
            Effect::Terminate { instance } => {
                if let Some(live) = self.live.get(&instance) {
                    live.terminate(self.template.stop_signal);
                }
                self.look_now();
            }
            Effect::Kill { instance } => {
                self.diagnose(instance);
                if let Some(live) = self.live.get(&instance) {
                    live.kill();
                }
            }
            Effect::SetPolicy(policy) => {
                if let Err(error) = self.groups.set_policy(policy) {
                    self.console.warn(&format!("the policy can't be changed: {error}"));
                }
                self.set_watch(policy);
            }
            Effect::Reply { id, outcome } => {
                let reply = match outcome {
                    Ok(done) => Reply {
                        ok: true,
                        message: Some(done.message),
                        workers: numbers(&done.slots),
                        ..Reply::default()
                    },
                    Err(refusal) => self.refused(refusal),
                };
                self.reply(id, reply);
            }
            Effect::Note(note) => self.note(note),
            Effect::Rescue { instance } => self.rescue(instance),
            Effect::Nudge { instance } => self.nudge(instance),
            Effect::StopNudging { instance } => self.stop_nudging(instance),
            Effect::Finish { failed } => self.finished = Some(Finished { failed }),
        }
    }

    fn publish(&mut self, published: &[Seated]) {
        let choosable = published
            .iter()
            .filter_map(|seated| {
                Some(Choosable {
                    slot: seated.slot.0,
                    row: self.live.get(&seated.instance)?.row,
                    share: seated.share,
                })
            })
            .collect();
        if let Err(error) = self.groups.publish(choosable) {
            self.console
                .warn(&format!("what may be chosen can't be changed: {error}"));
        }
        // Who was withdrawn may be waited for.
        self.look_now();
    }

    fn spawn(&mut self, slot: SlotId, id: InstanceId, version: VersionId) -> Result<(), String> {
        let cgroup = self
            .template
            .cgroup
            .instance(slot, id)
            .map_err(|error| error.to_string())?;
        let row = self.groups.register(slot.0, &cgroup).map_err(|error: GroupError| {
            // Nothing was started in it.
            drop(cgroup.remove());
            error.to_string()
        })?;
        let spec = self.template.launch_spec(slot, version, &cgroup);
        let (log, err_log) = (
            self.template.paths.log_file(slot),
            self.template.paths.err_log_file(slot),
        );
        let (log_start, err_log_start) = (logs::len(&log), logs::len(&err_log));
        if let Output::Files { .. } = spec.output {
            self.logs.keep(slot, Stream::Out, log.clone(), log_start);
            self.logs.keep(slot, Stream::Err, err_log.clone(), err_log_start);
        }
        let live = Live {
            slot,
            row,
            cgroup: Arc::new(cgroup),
            process: Process::Launching,
            log_start,
            log,
            err_log_start,
            err_log,
            binds: Vec::new(),
            accepted: Vec::new(),
            problem: None,
            announced_ready: false,
            ready: false,
            was_ready: false,
        };
        self.live.insert(id, live);
        live::launch(id, spec, self.happenings.clone());
        Ok(())
    }

    fn refused(&mut self, refusal: Refusal) -> Reply {
        let (mut error, mut output) = (refusal.error, Vec::new());
        if let Some(culprit) = refusal.culprit {
            // The answer comes before the culprit is killed: what it listens on can still be seen.
            self.diagnose(culprit);
        }
        if let Some((problem, lines)) = refusal.culprit.and_then(|culprit| self.failure_of(culprit)) {
            if let Some(problem) = problem {
                error = format!("{error}: {problem}");
            }
            output = lines;
        }
        Reply {
            ok: false,
            error: Some(error),
            hint: Some(refusal.hint),
            kind: Some(refusal.kind),
            workers: numbers(&refusal.slots),
            output,
            ..Reply::default()
        }
    }

    fn note(&mut self, note: Note) {
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
            message = format!("{message} ({problem})");
        }
        match kind {
            NoteKind::Failed | NoteKind::Warning | NoteKind::BackingOff | NoteKind::Hung | NoteKind::Unhealthy => {
                self.console.warn(&message)
            }
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
