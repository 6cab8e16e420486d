//! `apply`: makes the running app what a specification says, step by step, each an ordinary request to the machine.
//!
//! What can't change while the app runs is refused before anything is changed. Then, in this order: what needs no worker touched, the new
//! version by a rollout, the policy, the number of workers. A rollout that fails takes back what came before it, so that the old
//! specification stays in force; nothing later undoes a rollout that succeeded.

use std::{collections::VecDeque, path::Path, sync::Arc};

use tokio::sync::oneshot;

use super::{
    asks::refusal,
    interface::{Command, Input, RequestId, ScaleTarget},
    recycle_files::Files,
    setup,
    task::Task,
    template::Version,
    watch::Watch,
};
use crate::{
    api::types::{ErrorKind, OptionChange, Reply, SpecRequest},
    cli::Failure,
    config::{Change, Difference, Way, difference},
    options::{RunOptions, WhenEmpty},
    process::{env_file::Rights, identity::Identity},
    supervisor::health::Health,
};

/// What is under way.
#[derive(Debug)]
pub(super) struct Applying {
    reply: oneshot::Sender<Reply>,
    difference: Difference,
    old: Arc<RunOptions>,
    new: Arc<RunOptions>,
    /// The step that is waited for, and the request that it is.
    step: (Step, RequestId),
    todo: VecDeque<(Step, Command)>,
    /// What was done, for a person.
    done: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reload,
    Policy,
    Scale,
}

impl Step {
    fn way(self) -> Way {
        match self {
            Self::Reload => Way::Reload,
            Self::Policy => Way::Policy,
            Self::Scale => Way::Scale,
        }
    }
}

impl Applying {
    pub(super) fn waits_for(&self, id: RequestId) -> bool {
        self.step.1 == id
    }
}

impl Task {
    /// What the app's workers are started from now, and all else that was said of it; how many there are and how they are chosen is for
    /// the machine to say.
    pub(super) fn options(&self) -> &Arc<RunOptions> {
        self.template.options(self.core.version())
    }

    pub(super) fn apply(&mut self, request: SpecRequest, by_root: bool, reply: oneshot::Sender<Reply>) {
        let (version, difference) = match self.plan(&request, by_root) {
            Ok(plan) => plan,
            Err(refusal) => return drop(reply.send(*refusal)),
        };
        if request.dry_run || difference.changes.is_empty() {
            return drop(reply.send(planned(&difference, usize::from(self.workers()))));
        }
        let (old, new) = (Arc::clone(self.options()), Arc::clone(&version.options));
        let files = match self.prepared(&old, &new) {
            Ok(files) => files,
            Err(failure) => return drop(reply.send(*refusal(failure.kind, failure.error, &failure.hint))),
        };
        let mut todo = VecDeque::new();
        if difference.has(Way::Reload) {
            let version = self.template.push_version(version);
            todo.push_back((Step::Reload, Command::Adopt { version }));
        }
        if difference.has(Way::Policy) {
            todo.push_back((Step::Policy, Command::SetPolicy(new.policy)));
        }
        if difference.has(Way::Scale) {
            todo.push_back((Step::Scale, Command::Scale(ScaleTarget::To(new.workers))));
        }
        self.take_over(&old, &new, files);
        let mut done = Vec::new();
        if difference.has(Way::Live) {
            done.push(list(difference.by(Way::Live)));
        }
        let Some((step, command)) = todo.pop_front() else {
            self.keep(&new);
            self.work_off();
            return drop(reply.send(applied(&difference, &done)));
        };
        let id = self.next_request_id();
        self.applying = Some(Applying {
            reply,
            difference,
            old,
            new,
            step: (step, id),
            todo,
            done,
        });
        self.feed(Input::Request { id, command });
    }

    /// What it would take, if it can be done at all.
    fn plan(&self, request: &SpecRequest, by_root: bool) -> Result<(Version, Difference), Box<Reply>> {
        if self.applying.is_some() {
            let hint = "try again when it is done; `reuse-ctl status` shows how far it is";
            return Err(refusal(ErrorKind::Failed, "an apply is under way".into(), hint));
        }
        let refused = |failure: Failure| refusal(failure.kind, failure.error, &failure.hint);
        let new = request.spec.resolve().map_err(refused)?;
        let new = RunOptions {
            spec: request.spec.clone(),
            user: self.user_meant(new.user),
            ..new
        };
        // Root may have named any file; nobody else one that his workers could not read.
        let rights = if by_root {
            Rights::Callers
        } else {
            Rights::Workers(&self.template.identity)
        };
        let version = Version::resolve(new, rights).map_err(refused)?;
        let view = self.core.view();
        let old = RunOptions {
            workers: self.workers(),
            policy: view.policy,
            ..RunOptions::clone(self.options())
        };
        let mut difference = difference(&old, &version.options);
        if !version
            .variables
            .reads_as(&self.template.version(self.core.version()).variables)
        {
            difference.add_content_of_env_files();
        }
        if difference.has(Way::NewStart) {
            let error = format!("{} can't change while the app runs", list(difference.by(Way::NewStart)));
            let hint = format!(
                "nothing was changed; `reuse-ctl stop --app {0}` and `reuse-ctl apply` start it anew",
                self.template.app
            );
            let mut refusal = refusal(ErrorKind::Failed, error, &hint);
            refusal.changes = changes(&difference, |_| false);
            return Err(refusal);
        }
        if !difference.changes.is_empty()
            && let Some(canary) = view.slots.iter().find(|slot| slot.canary)
        {
            let error = format!("worker {} is a canary: promote or abort the canary first", canary.id);
            let hint = "`reuse-ctl promote` rolls it to all workers, `reuse-ctl abort` removes it";
            return Err(refusal(ErrorKind::Failed, error, hint));
        }
        Ok((version, difference))
    }

    /// Nobody named means whoever the workers run as: who that is was decided by how the app was started. The same user may have been named
    /// differently.
    fn user_meant(&self, user: Option<String>) -> Option<String> {
        let own = self.template.identity.uid;
        let is_own = |user: &String| Identity::resolve(Some(user)).is_ok_and(|named| named.uid == own);
        match user.filter(|user| !is_own(user)) {
            None => self.options().user.clone(),
            other => other,
        }
    }

    /// How many a person would say there are: a canary is one more.
    fn workers(&self) -> u16 {
        let slots = self.core.view().slots;
        let count = slots.iter().filter(|slot| !slot.canary && !slot.leaving).count();
        u16::try_from(count).expect("there are at most 256 slots")
    }

    /// A step was carried out, or refused. Called while the machine's effects are carried out, so the next request is only queued.
    pub(super) fn on_step(&mut self, mut reply: Reply) {
        let Some(mut applying) = self.applying.take() else {
            return;
        };
        let (step, _) = applying.step;
        if !reply.ok {
            if step == Step::Reload {
                let recycle = self.prepared(&applying.new, &applying.old);
                let recycle = recycle.unwrap_or_else(|failure| {
                    self.console.warn(&failure.error);
                    Some(None)
                });
                self.take_over(&applying.new, &applying.old, recycle);
            } else {
                self.keep(&applying.new);
                let what = list(applying.difference.by(step.way()));
                let why = reply.error.take().unwrap_or_default();
                let so_far = match applying.done.len() {
                    0 => String::new(),
                    _ => format!("; done: {}", applying.done.join("; ")),
                };
                reply.error = Some(format!("{what} was not done: {why}{so_far}"));
            }
            reply.changes = changes(&applying.difference, |way| step != Step::Reload && way < step.way());
            return drop(applying.reply.send(reply));
        }
        applying.done.push(match step {
            Step::Reload => format!(
                "{} changed: {}",
                names(applying.difference.by(Way::Reload)),
                reply.message.unwrap_or_default()
            ),
            Step::Policy => list(applying.difference.by(Way::Policy)),
            Step::Scale => scaled("scaled", &applying.difference),
        });
        match applying.todo.pop_front() {
            Some((step, command)) => {
                let id = self.next_request_id();
                applying.step = (step, id);
                self.inputs.push_back(Input::Request { id, command });
                self.applying = Some(applying);
            }
            None => {
                self.keep(&applying.new);
                drop(applying.reply.send(applied(&applying.difference, &applying.done)));
            }
        }
    }

    /// What can fail of what is to come into force: cgroup controllers, and files that are to be watched. Gives those files (or that there
    /// are none any more), if that changes.
    fn prepared(&self, old: &RunOptions, new: &RunOptions) -> Result<Option<Option<Files>>, Failure> {
        if old.limits != new.limits {
            let allowed = self.template.cgroup.allow(&new.limits);
            allowed.map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
        }
        setup::open_run_folder(&new.ready.kind, &self.template.paths)?;
        if old.recycle.watch == new.recycle.watch && (old.cwd == new.cwd || new.recycle.watch.is_none()) {
            return Ok(None);
        }
        let cwd = new.cwd.as_deref().unwrap_or(Path::new("/"));
        setup::watched_files(new, cwd, &self.template.paths).map(Some)
    }

    /// What comes into force without touching a worker. The machine is told with the next input that is worked off.
    fn take_over(&mut self, old: &RunOptions, new: &RunOptions, files: Option<Option<Files>>) {
        self.recycle.change(&old.recycle, &new.recycle);
        if let Some(files) = files {
            self.recycle.watch(files, &self.happenings);
        }
        self.inputs.push_back(Input::Ruled(setup::rules(new)));
        let view = self.core.view();
        if old.hung.hung_after_ms != new.hung.hung_after_ms {
            self.watch = Watch::new(new.hung.hung_after_ms);
            self.set_watch(view.policy);
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
    }

    /// From now on these are what the app was told, with whatever version its workers have.
    fn keep(&mut self, options: &Arc<RunOptions>) {
        let version = self.core.version();
        self.template.replace_options(version, Arc::clone(options));
    }
}

fn planned(difference: &Difference, workers: usize) -> Reply {
    let mut would = Vec::new();
    if difference.has(Way::Live) {
        would.push(format!("would change {}", list(difference.by(Way::Live))));
    }
    if difference.has(Way::Reload) {
        let plural = if workers == 1 { "" } else { "s" };
        would.push(format!(
            "{} changed: would reload {workers} worker{plural}",
            names(difference.by(Way::Reload))
        ));
    }
    if difference.has(Way::Policy) {
        would.push(format!("would change {}", list(difference.by(Way::Policy))));
    }
    if difference.has(Way::Scale) {
        would.push(scaled("would scale", difference));
    }
    Reply {
        changes: changes(difference, |_| false),
        ..said(&would)
    }
}

fn applied(difference: &Difference, done: &[String]) -> Reply {
    Reply {
        changes: changes(difference, |_| true),
        ..said(done)
    }
}

fn said(parts: &[String]) -> Reply {
    Reply {
        ok: true,
        message: Some(match parts {
            [] => "unchanged".into(),
            parts => parts.join("; "),
        }),
        ..Reply::default()
    }
}

/// `scaled 2 → 4`.
fn scaled(verb: &str, difference: &Difference) -> String {
    let values = difference.by(Way::Scale).find_map(|change| change.values.as_ref());
    let (from, to) = values.map_or(("?", "?"), |(from, to)| (from, to));
    format!("{verb} {from} → {to}")
}

fn list<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    changes.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn names<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    changes.map(|change| change.option).collect::<Vec<_>>().join(", ")
}

fn changes(difference: &Difference, is_done: impl Fn(Way) -> bool) -> Vec<OptionChange> {
    let changes = difference.changes.iter();
    changes
        .map(|change| {
            let (from, to) = change.values.clone().unzip();
            OptionChange {
                option: change.option.into(),
                from,
                to,
                way: change.way,
                done: is_done(change.way),
            }
        })
        .collect()
}
