//! What the task does about [`apply`](crate::supervisor::apply).

use crate::supervisor::apply::*;
use crate::supervisor::lookups::Finding;
use crate::supervisor::{
    apply_words::{applied, applied_in_part, changes, few, list, names, planned, scaled, started_anew},
    asks::{another_version, refusal},
    lookups::{Asker, stopped},
    queue_watch::QueueWatch,
    task::Task,
    wanted::{Search, Wanted, WatchedFiles},
};
use crate::{
    app::{
        AppSpec,
        difference::{Difference, TakesEffect, difference},
        options::{RunOptions, WhenEmpty},
    },
    base::{ErrorKind, Failure, RequestId, Verb},
    supervisor::health::Health,
    supervisor::preparing,
    wire::{Reply, SpecRequest},
};
use reuse_machine::interface::{ApplyPlan, ApplyStep, Command, Done, Input, PlannedRollout, Refusal};
use std::{ffi::OsStr, sync::Arc};
use tokio::sync::oneshot;

impl Task {
    /// What the app's workers are started from now, and all else that was said of it; how many there are and how they are chosen is for
    /// the machine to say.
    pub(crate) fn options(&self) -> &Arc<RunOptions> {
        self.template.options(self.machine.version())
    }

    /// What runs, whoever has said so last: `run`, `apply`, `promote`, `scale`, `policy`. To apply it changes nothing.
    pub(crate) fn spec(&self) -> AppSpec {
        let (options, policy) = (self.options(), self.machine.view().policy);
        let workers = self.workers().to_string();
        let mut changed: Vec<(&str, &OsStr)> = Vec::new();
        if self.workers() != options.workers {
            changed.push(("workers", OsStr::new(&workers)));
        }
        if policy != options.policy {
            changed.push(("policy", OsStr::new(policy.name())));
        }
        options.spec.with_values(&changed)
    }

    pub(crate) fn apply(&mut self, request: SpecRequest, by_root: bool, reply: oneshot::Sender<Reply>) {
        let id = self.new_request(reply);
        if self.applying.is_some() || self.lookups.apply() {
            let hint = "try again when it is done; " + Verb::Status.run() + " shows how far it is";
            return self.reply(id, *refusal(ErrorKind::Failed, "an apply is under way".into(), hint));
        }
        if self.machine.view().stopping {
            return self.reply(id, stopped());
        }
        if request.new_address {
            self.moves.ask(id);
        }
        let asker = Asker {
            id,
            applies: !request.dry_run,
        };
        let search = Search {
            request,
            by_root,
            version: self.machine.version(),
            old: Arc::clone(self.options()),
            workers: self.template.identity.clone(),
            paths: self.template.paths.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        self.look_up(asker, move || Ok(Finding::Wanted(Box::new(search.look()?))));
    }

    /// It was looked up: what it takes is judged by how things are now, and begun.
    pub(crate) fn on_wanted(&mut self, id: RequestId, wanted: Wanted) {
        let starts_anew = self.machine.view().all_failed;
        match self.plan(&wanted) {
            Ok(difference) if wanted.dry_run || (difference.changes.is_empty() && !starts_anew) => {
                let planned = planned(&difference, usize::from(self.workers()), starts_anew);
                self.reply(id, planned);
            }
            Ok(difference) => self.begin_apply(id, wanted, difference),
            Err(refusal) => self.reply(id, *refusal),
        }
    }

    /// What it would take, if it can be done at all.
    fn plan(&self, wanted: &Wanted) -> Result<Difference, Box<Reply>> {
        if self.machine.version() != wanted.old_version {
            return Err(another_version());
        }
        let (version, view) = (&wanted.version, self.machine.view());
        let old = RunOptions {
            workers: self.workers(),
            policy: view.policy,
            ..RunOptions::clone(&wanted.old)
        };
        let mut difference = difference(&old, &version.options);
        if !version
            .variables
            .reads_as(&self.template.version(wanted.old_version).variables)
        {
            difference.add_content_of_env_files();
        }
        if difference.has(TakesEffect::NewStart) {
            let error = format!(
                "{} can't change while the app runs",
                few(difference.by(TakesEffect::NewStart))
            );
            let hint = format!(
                "nothing was changed; `reuse-ctl stop --app {0}` and `reuse-ctl apply` start it anew",
                self.template.app
            );
            let mut refusal = refusal(ErrorKind::Failed, error, hint);
            refusal.changes = changes(&difference, |_| false);
            return Err(refusal);
        }
        if !difference.changes.is_empty()
            && let Some(canary) = view.slots.iter().find(|slot| slot.canary)
        {
            let error = format!("worker {} is a canary: promote or abort the canary first", canary.id);
            let hint = Verb::Promote.run() + " rolls it to all workers, " + Verb::Abort.run() + " removes it";
            return Err(refusal(ErrorKind::Failed, error, hint));
        }
        Ok(difference)
    }

    fn begin_apply(&mut self, client: RequestId, wanted: Wanted, difference: Difference) {
        let Wanted {
            version, watch, old, ..
        } = wanted;
        let new = Arc::clone(&version.options);
        let (own, starts_anew) = (self.machine.version(), self.machine.view().all_failed);
        let brings_version = difference.has(TakesEffect::Reload);
        let plan = |version| {
            let rollout = PlannedRollout {
                version: brings_version.then_some(version),
                // What they failed of may be the time that they had.
                rules: while_both_start(&old, &new),
            };
            ApplyPlan {
                rollout: (brings_version || starts_anew).then_some(rollout),
                rules: preparing::rules(&new),
                policy: difference.has(TakesEffect::Policy).then_some(new.policy),
                workers: difference.has(TakesEffect::Scale).then_some(new.workers),
            }
        };
        if let Err(refusal) = self.machine.check(&Command::Apply(plan(own))) {
            let mut refused = Reply::from(self.refused(refusal));
            refused.changes = changes(&difference, |_| false);
            return self.reply(client, refused);
        }
        let mut prepared = self.prepare(&old, &new);
        if brings_version {
            prepared = prepared.and_then(|()| self.open_ports(&old, &new));
        }
        if let Err(failure) = prepared {
            return self.reply(client, failure.into());
        }
        let todo = plan(own).steps().collect();
        let command = if brings_version {
            self.new_version(version, |version| Command::Apply(plan(version)))
        } else {
            Command::Apply(plan(own))
        };
        self.applying = Some(Applying {
            client,
            difference,
            old,
            new,
            watch: Some(watch),
            todo,
            done: Vec::new(),
        });
        self.feed(Input::Request { id: client, command });
    }

    /// How many a person would say there are: a canary is one more.
    pub(crate) fn workers(&self) -> u16 {
        let slots = self.machine.view().slots;
        let count = slots.iter().filter(|slot| !slot.canary && !slot.leaving).count();
        u16::try_from(count).expect("there are at most 256 slots")
    }

    pub(crate) fn is_applying(&self, id: RequestId) -> bool {
        self.applying.as_ref().is_some_and(|applying| applying.client == id)
    }

    /// The machine has carried out a step of an `apply`.
    pub(crate) fn on_applied(&mut self, id: RequestId, step: ApplyStep, done: &Done) {
        let Some(mut applying) = self.applying.take() else {
            return;
        };
        let by = |takes_effect| applying.difference.by(takes_effect);
        match step {
            ApplyStep::Rollout => {
                let message = self.moves.add_to(id, done);
                applying.done.push(if applying.difference.has(TakesEffect::Reload) {
                    self.settle_ports(&applying.new);
                    format!("{} changed: {message}", names(by(TakesEffect::Reload)))
                } else {
                    started_anew(done.slots.len())
                });
            }
            ApplyStep::Rules => self.take_over(&mut applying),
            ApplyStep::Policy => applying.done.push(list(by(TakesEffect::Policy))),
            ApplyStep::Scale => applying.done.push(scaled("scaled", &applying.difference)),
        }
        applying.todo.pop_front();
        self.applying = Some(applying);
    }

    /// The machine is done with an `apply`, or has stopped at the step that follows the last one that was carried out.
    pub(crate) fn on_apply_answered(&mut self, outcome: Result<Done, Refusal>) {
        let Some(applying) = self.applying.take() else {
            return;
        };
        self.moves.forget(applying.client);
        let reply = match (outcome, applying.todo.front()) {
            (Ok(_), _) => {
                self.keep(&applying.new);
                applied(&applying.difference, &applying.done)
            }
            (Err(refusal), None | Some(ApplyStep::Rollout | ApplyStep::Rules)) => {
                self.settle_ports(&applying.old);
                Reply {
                    changes: changes(&applying.difference, |_| false),
                    ..self.refused(refusal).into()
                }
            }
            (Err(refusal), Some(step @ (ApplyStep::Policy | ApplyStep::Scale))) => {
                self.keep(&applying.new);
                let step = takes_effect(*step);
                applied_in_part(&applying.difference, &applying.done, step, self.refused(refusal).into())
            }
        };
        self.reply(applying.client, reply);
    }

    /// What must be there before anything begins: cgroup controllers, and a way to the notify sockets. These are the kernel's own file
    /// systems, which answer.
    fn prepare(&self, old: &RunOptions, new: &RunOptions) -> Result<(), Failure> {
        if old.limits != new.limits {
            let allowed = self.template.cgroup.allow(&new.limits);
            allowed.map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
        }
        preparing::open_run_folder(&new.ready.kind, &self.template.paths)
    }

    /// What comes into force without touching a worker, and is not the machine's.
    fn take_over(&mut self, applying: &mut Applying) {
        let Some(watch) = applying.watch.take() else { return };
        let (old, new) = (&applying.old, &applying.new);
        self.recycle.change(&old.recycle, &new.recycle);
        if let WatchedFiles::Other(files) = watch {
            self.recycle.watch(files.map(|files| *files), &self.background_events);
        }
        let view = self.machine.view();
        if old.hung.hung_after_ms != new.hung.hung_after_ms {
            self.queue_watch = QueueWatch::new(new.hung.hung_after_ms);
            self.set_queue_watch(view.policy);
        }
        if old.health != new.health {
            self.health = new.health.clone().map(Health::new);
            self.refresh_health(&view);
        }
        if old.logs != new.logs {
            self.logs.limit(new.logs);
        }
        self.groups.set_refuse_when_empty(new.when_empty == WhenEmpty::Refuse);
        self.groups.set_client_ttl(new.sticky.ttl.as_secs());
        if applying.difference.has(TakesEffect::Live) {
            applying.done.push(list(applying.difference.by(TakesEffect::Live)));
        }
    }

    /// From now on these are what the app was told, with whatever version its workers have.
    pub(crate) fn keep(&mut self, options: &Arc<RunOptions>) {
        let version = self.machine.version();
        self.template.replace_options(version, Arc::clone(options));
    }
}
