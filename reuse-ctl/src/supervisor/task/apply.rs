//! What the task does about [`apply`](crate::supervisor::apply).

use crate::supervisor::apply::*;
use crate::supervisor::lookups::Finding;
use crate::supervisor::{
    apply_words::{applied, changes, few, list, names, planned, scaled, started_anew},
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
use reuse_machine::interface::{Command, Input, ScaleTarget};
use std::{collections::VecDeque, ffi::OsStr, sync::Arc};
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
        let adopt = Command::Adopt {
            version: self.machine.version(),
        };
        let starts_anew = self.machine.view().all_failed;
        let mut todo = VecDeque::new();
        if difference.has(TakesEffect::Reload) {
            todo.push_back((Step::Reload, adopt));
        } else if starts_anew {
            todo.push_back((Step::StartAnew, Command::Reload { stop_first: false }));
        }
        if difference.has(TakesEffect::Policy) {
            todo.push_back((Step::Policy, Command::SetPolicy(new.policy)));
        }
        if difference.has(TakesEffect::Scale) {
            todo.push_back((Step::Scale, Command::Scale(ScaleTarget::To(new.workers))));
        }
        // Where every worker has failed, workers can be added to those that the step before starts.
        let judged = todo.iter().filter(|(step, _)| !(starts_anew && *step == Step::Scale));
        let judged = judged
            .map(|(_, command)| command)
            .try_for_each(|command| self.machine.check(command));
        if let Err(refusal) = judged {
            let mut refused = Reply::from(self.refused(refusal));
            refused.changes = changes(&difference, |_| false);
            return self.reply(client, refused);
        }
        if let Err(failure) = self.prepare(&old, &new) {
            return self.reply(client, failure.into());
        }
        let mut applying = Applying {
            client,
            difference,
            old,
            new,
            watch: Some(watch),
            step: (Step::Reload, client),
            todo,
            done: Vec::new(),
        };
        match applying.todo.front_mut() {
            Some((Step::Reload, command)) => {
                if let Err(failure) = self.open_ports(&applying.old, &applying.new) {
                    return self.reply(client, failure.into());
                }
                *command = self.new_version(version, |version| Command::Adopt { version });
                self.inputs
                    .push_back(Input::Ruled(while_both_start(&applying.old, &applying.new)));
            }
            // What they failed of may be the time that they had.
            Some((Step::StartAnew, _)) => self
                .inputs
                .push_back(Input::Ruled(while_both_start(&applying.old, &applying.new))),
            Some((Step::Policy | Step::Scale, _)) | None => self.take_over(&mut applying),
        }
        self.go_on(applying);
        self.work_off();
    }

    /// Queues the next step, or says that all is done.
    fn go_on(&mut self, mut applying: Applying) {
        let Some((step, command)) = applying.todo.pop_front() else {
            self.keep(&applying.new);
            return self.reply(applying.client, applied(&applying.difference, &applying.done));
        };
        let id = self.next_request_id();
        applying.step = (step, id);
        self.applying = Some(applying);
        self.inputs.push_back(Input::Request { id, command });
    }

    /// How many a person would say there are: a canary is one more.
    pub(crate) fn workers(&self) -> u16 {
        let slots = self.machine.view().slots;
        let count = slots.iter().filter(|slot| !slot.canary && !slot.leaving).count();
        u16::try_from(count).expect("there are at most 256 slots")
    }

    /// A step was carried out, or refused. Called while the machine's effects are carried out, so the next request is only queued.
    pub(crate) fn on_step(&mut self, mut reply: Reply) {
        let Some(mut applying) = self.applying.take() else {
            return;
        };
        let (step, _) = applying.step;
        if !reply.ok {
            if step.takes_effect() == TakesEffect::Reload {
                self.settle_ports(&applying.old);
                self.inputs.push_back(Input::Ruled(preparing::rules(&applying.old)));
            } else {
                self.keep(&applying.new);
                let what = list(applying.difference.by(step.takes_effect()));
                let why = reply.error.take().unwrap_or_default();
                let so_far = match applying.done.len() {
                    0 => String::new(),
                    _ => format!("; done: {}", applying.done.join("; ")),
                };
                reply.error = Some(format!("{what} was not done: {why}{so_far}"));
            }
            reply.changes = changes(&applying.difference, |takes_effect| {
                step.takes_effect() != TakesEffect::Reload && takes_effect < step.takes_effect()
            });
            return self.reply(applying.client, reply);
        }
        if step == Step::Reload {
            self.settle_ports(&applying.new);
        }
        applying.done.push(match step {
            Step::Reload => format!(
                "{} changed: {}",
                names(applying.difference.by(TakesEffect::Reload)),
                reply.message.unwrap_or_default()
            ),
            Step::StartAnew => started_anew(reply.workers.len()),
            Step::Policy => list(applying.difference.by(TakesEffect::Policy)),
            Step::Scale => scaled("scaled", &applying.difference),
        });
        self.take_over(&mut applying);
        self.go_on(applying);
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

    /// What comes into force without touching a worker, unless it has. The machine is told with the next input that is worked off.
    fn take_over(&mut self, applying: &mut Applying) {
        let Some(watch) = applying.watch.take() else { return };
        let (old, new) = (&applying.old, &applying.new);
        self.recycle.change(&old.recycle, &new.recycle);
        if let WatchedFiles::Other(files) = watch {
            self.recycle.watch(files.map(|files| *files), &self.background_events);
        }
        self.inputs.push_back(Input::Ruled(preparing::rules(new)));
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
