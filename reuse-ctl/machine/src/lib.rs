//! The pure machine: [`Machine::handle`] turns inputs into effects, without processes, sockets or clocks.
//!
//! ```text
//!             ready                drain           nothing left
//!  starting ─────────▶ active ⇄ draining ─────────▶ drained
//!   │ │▲ ▲  unready      │▲ undrain │                  │
//!   │ ││ ╰───────────────┤│         │                  │
//!   │ ▼│                 ││         │                  │
//!   │ settling ──────────┼╯         │                  │
//!   │    │  lived long   ▼          ▼                  │      every state: the process
//!   │    │  enough    emptying ◀────╯                  │      ends ─────▶ gone
//!   │    ▼               │ queue 0, nothing in flight  │
//!   ╰────┴─────────▶ terminated ◀──────────────────────╯
//!                        │ out of time
//!                        ▼
//!                      killed
//! ```
//!
//! (Not drawn: `emptying` → `active`, if its replacement has failed; `starting` → `emptying`, of an instance that has closed its
//! listeners.)
//!
//! **An instance** is in one of these phases. No other transition is possible (`transitions.rs`, checked at every change). Users see fewer
//! states: those of `WorkerState` (`states.rs`), read off the phase by `Instance::state`.
//!
//! | from | to | shown by `status` as |
//! |---|---|---|
//! | `requested` | `starting`, `terminated`, `killed`, `gone` | starting, or stopping if it is to end at once |
//! | `starting` | `settling`, `active`, `drained`, `emptying`, `terminated`, `killed`, `gone` | starting |
//! | `settling` | `active`, `starting`, `drained`, `terminated`, `gone` | starting |
//! | `active` | `starting`, `draining`, `emptying`, `gone` | active |
//! | `draining` | `active`, `starting`, `drained`, `emptying`, `gone` | draining |
//! | `drained` | `active`, `starting`, `terminated`, `gone` | drained |
//! | `emptying` | `active`, `terminated`, `killed`, `gone` | stopping |
//! | `terminated` | `terminated`, `killed`, `gone` | stopping |
//! | `killed` | `gone` | stopping |
//!
//! **A slot** is in one of these states. Beside it there are the outgoing instances, which are being stopped. `Slot::worker_state`
//! (`slot/queries.rs`) says what users see.
//!
//! | from | to | shown by `status` as |
//! |---|---|---|
//! | `held` | `held`, `replacing`, `vacating`, `failing`, `backing off`, `failed`, `leaving` | its instance's state |
//! | `replacing` | `held`, `leaving` | the old instance's state |
//! | `vacating` | `held`, `leaving` | stopping |
//! | `failing` | `held`, `vacating`, `backing off`, `failed`, `leaving` | stopping |
//! | `backing off` | `held`, `leaving` | backing_off |
//! | `failed` | `held`, `leaving` | failed |
//!
//! **A fault** is a property of an active instance, in addition to its phase: it is hung, or unhealthy, or both (`fault.rs`).
//!
//! ```text
//!            Watched: it stalls, most others do not (reuse-common/stall.rs)
//!            Checked: so many failures in a row                     rescue_after
//!  faultless ─────────────────────────▶ faulty ──▶ withdrawn? ─────────────────▶ Rescue, and if it hangs WakeProbe
//!      ▲                                  │  ▲    (reuse-common/withhold.rs)        │ again while its queue fills
//!      ╰── it is proven to accept, it ────╯  ╰──────────────────────────────────────╯
//!          passes its checks: StopWakeProbe  after replace_after, or at once if unhealthy: replaced, start-first
//! ```
//!
//! An instance is published if it is active and not withdrawn for a fault. After every input it is decided for all active instances
//! together which are withdrawn: at most a part of them, never all, and none if all are faulty. So some instance is published as long as
//! any is active.
//!
//! The set of published instances is never stored. It is derived from the states after every input, and sent if it differs from the last
//! one. So no path through the rules can forget to publish or to withdraw.
//!
//! Decisions that are not obvious:
//! - A slot that a user drained stays withdrawn. If its instance crashes, the next one starts and waits as `drained` until `undrain` (or
//!   `restart`, which publishes).
//! - A slot never has more than two instances that are not being stopped: one that serves or starts, and an incoming one. There may be
//!   several outgoing ones (a failed reload can be tried again at once); each of them has a deadline.
//! - A user's request takes precedence over the replacement of a faulty instance: `drain`, `restart` and `reload` end one that is in
//!   progress, and none begins while a job goes through all slots. At most as many are in progress as may be withdrawn, so that a fault of
//!   all instances (a database is down) doesn't start the whole app a second time.
//! - A hung instance has recovered when it is *proven* to have accepted a connection since it was declared hung. An empty queue proves
//!   nothing, because a rescue empties it.
//! - An instance that is to replace one that serves settles first: it is ready and stays so for a while, unpublished (`status` still shows
//!   `starting`). If it ends before that, or loses its listeners for good, its start has failed and the old instance was never touched. If
//!   the old instance ends or stops listening meanwhile, or is hung and can't be withdrawn, the new one takes the slot at once, because nobody
//!   else serves there. An instance that starts where nobody serves, or after the old one (stop-first), settles in the slot, published, and the request waits
//!   until it has settled.
//! - A rollout replaces a few slots at the same time, and watches all of them until the last new instance has settled and the last old one
//!   is gone. If any new instance fails before that, the rollout ends. Where the old instance still has the slot, it keeps it; where it has
//!   not been told to stop yet, it takes the slot back. Otherwise a slot whose new instance has crashed is started again as after any
//!   crash.
//! - A canary is one more slot, the last one, and `scale` waits until it is promoted or aborted. So slots come and go at the end only. Each
//!   slot knows the version of its next instance.
//! - A version brought by `apply` or `promote` is all or nothing: if its rollout fails, or the canary fails meanwhile, all slots that have
//!   anything of it go back. Slots that can't be brought back are reported, and left to `abort`.
//! - `apply` is one job of several steps: rollout, rules, policy, number of slots (`jobs/apply.rs`). A rollout that fails leaves the app as it
//!   was; a later step that fails leaves what was done before it.
//! - A `scale` up and the start of a canary wait until every added instance has settled: in the slot, published, since nobody else serves
//!   there. If one fails or ends before that, its start has failed and everything is undone: there are as many workers as before.
//! - An app whose workers have all failed ends, or stays if the configuration says so and a worker has served before (`stopping.rs`). It
//!   can be started again by `reload`, `restart` or `apply`; `scale` can only remove workers then.
//! - Before `Start` and while stopping, every request but `stop` is refused. After `Finish` there are no effects, not even answers: whoever
//!   carries out `Finish` accepts no further requests.

pub mod ids;
pub mod interface;
pub mod states;
pub mod text;
pub mod versions;

mod after_failure;
mod apply_steps;
mod backoff;
mod commands;
mod context;
mod drain;
mod ending;
mod fault;
mod faults;
mod instance;
mod jobs;
mod left;
mod shares;
mod slot;
mod stopping;
mod transitions;
mod view;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use reuse_common::{Policy, stall::Norm};

pub use self::view::{FaultView, InstanceView, SlotView, View};
pub use self::words::count;

use self::context::{Context, Happened, Ticket};
use self::ids::{Millis, SlotId, VersionId};
use self::interface::{Config, Effect, Input, NoteKind, Published, Rules};
use self::jobs::Jobs;
use self::slot::{Departure, Slot};

/// The state of all workers, and the rules that change it.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    mode: Mode,
    /// The version of all slots, except a canary's and those that change to or from its version.
    version: VersionId,
    /// In slot order, without gaps. Slots that are leaving are the last ones.
    slots: Vec<Slot>,
    jobs: Jobs,
    /// The content of the last [`Effect::Publish`].
    published: Vec<Published>,
    norm: Norm,
    /// Whether every active instance is faulty, and users were told so.
    all_faulty: bool,
    /// Whether a worker was ever published.
    has_served: bool,
    /// Whether every worker has failed. Stays true after the app has ended because of that.
    all_failed: bool,
    cx: Context,
}

#[derive(Debug)]
enum Mode {
    /// Before [`Input::Start`].
    Idle,
    Running,
    Stopping {
        waiters: Vec<Ticket>,
        /// Whether Ctrl-C was pressed already: the next one kills.
        interrupted: bool,
    },
    Finished,
}

impl Machine {
    /// A machine that waits for [`Input::Start`].
    pub fn new(config: Config, policy: Policy) -> Self {
        Self {
            policy,
            mode: Mode::Idle,
            version: VersionId::default(),
            slots: Vec::new(),
            jobs: Jobs::default(),
            published: Vec::new(),
            norm: Norm::new(config.hung.hung_after_ms),
            all_faulty: false,
            has_served: false,
            all_failed: false,
            cx: Context::new(config),
        }
    }

    /// Handles `input` and returns the effects, in order. An input that makes no sense in the present state (an instance that is gone, a
    /// second `Start`) changes nothing.
    ///
    /// The input is handled before anything that is due at `now`, so an input that comes just in time is in time.
    pub fn handle(&mut self, input: Input, now: Millis) -> Vec<Effect> {
        if matches!(self.mode, Mode::Finished) {
            return Vec::new();
        }
        self.cx.advance_to(now);
        self.take(input);
        self.come_to_rest();
        while self.next_deadline().is_some_and(|deadline| deadline <= self.cx.now()) {
            for slot in &mut self.slots {
                slot.elapse(&mut self.cx);
            }
            self.cx.tell(Happened::TimePassed);
            self.come_to_rest();
        }
        self.publish();
        self.notice_all_failed();
        self.finish_when_over();
        self.cx.take_effects(&self.published)
    }

    /// When to send [`Input::Tick`], if nothing else happens before. Always later than the last `now`.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.slots
            .iter()
            .filter_map(|slot| slot.deadline(self.cx.config()))
            .chain(self.next_recovery().map(|(due, _)| due))
            .chain(self.jobs.deadline())
            .min()
    }

    /// The app's version: see [`View::version`].
    pub fn version(&self) -> VersionId {
        self.version
    }

    /// All versions that the machine may still name. No other version is ever started, unless a request names it.
    pub fn versions(&self) -> BTreeSet<VersionId> {
        let slots = self.slots.iter().map(Slot::version);
        slots.chain(self.jobs.versions()).chain([self.version]).collect()
    }

    /// The state that `status` shows.
    pub fn view(&self) -> View {
        View {
            policy: self.policy,
            version: self.version,
            stopping: matches!(self.mode, Mode::Stopping { .. } | Mode::Finished),
            all_failed: self.all_failed,
            slots: self
                .slots
                .iter()
                .map(|slot| SlotView {
                    cut: self.cx.cut_of(slot.id()),
                    ..slot.view()
                })
                .collect(),
        }
    }

    fn take(&mut self, input: Input) {
        let cx = &mut self.cx;
        match input {
            Input::Start => self.start(),
            Input::Request { id, command } => {
                let ticket = cx.ticket(id);
                self.request(ticket, command);
            }
            Input::Spawned { instance, pid } => {
                if let Some(found) = self.slots.iter_mut().find_map(|slot| slot.instance_mut(instance)) {
                    found.spawned(pid, cx);
                }
            }
            Input::SpawnFailed { instance, reason } => {
                for slot in &mut self.slots {
                    slot.departed(instance, Departure::NeverSpawned(&reason), cx);
                }
            }
            Input::Ready { instance } => {
                for slot in &mut self.slots {
                    slot.ready(instance, cx);
                }
            }
            Input::Unready { instance, reason } => {
                for slot in &mut self.slots {
                    slot.unready(instance, &reason, cx);
                }
            }
            Input::Observed(loads) => {
                for (instance, load) in loads {
                    if let Some(found) = self.slots.iter_mut().find_map(|slot| slot.instance_mut(instance)) {
                        found.observed(load, cx);
                    }
                }
            }
            Input::Terminated { instance } => {
                if let Some(found) = self.slots.iter_mut().find_map(|slot| slot.instance_mut(instance)) {
                    found.terminated(cx);
                }
            }
            Input::ServersEnded { instance, connections } => {
                if let Some(found) = self.slots.iter_mut().find_map(|slot| slot.instance_mut(instance)) {
                    found.servers_ended(connections, cx);
                }
            }
            Input::Exited { instance, exit, cut } => {
                for slot in &mut self.slots {
                    slot.departed(instance, Departure::Exited { exit, cut }, cx);
                }
            }
            Input::Lingers { instance } => self.cx.tell(Happened::Gone { instance }),
            Input::Watched(backlogs) => self.watched(backlogs),
            Input::Checked { instance, outcome } => self.checked(instance, &outcome),
            Input::Tick => {}
            Input::Interrupt => self.interrupt(),
        }
    }

    fn rule(&mut self, rules: Rules) {
        let before = self.cx.set_rules(rules);
        if before.hung.hung_after_ms != rules.hung.hung_after_ms {
            self.norm = Norm::new(rules.hung.hung_after_ms);
        }
        if rules.health.is_none() {
            for instance in self.slots.iter_mut().filter_map(Slot::active_mut) {
                instance.no_longer_checked(&mut self.cx);
            }
        }
    }

    fn start(&mut self) {
        if matches!(self.mode, Mode::Idle) {
            self.mode = Mode::Running;
            self.slots = (0..self.cx.config().workers)
                .map(|id| Slot::start(SlotId(id), self.version, &mut self.cx))
                .collect();
        }
    }

    fn come_to_rest(&mut self) {
        loop {
            self.let_jobs_hear();
            self.tend_faults();
            // Ends, because each round installs an incoming instance, and their number is limited.
            if !self.replace_hung() {
                return;
            }
        }
    }

    /// Lets the waiting requests react to events, which may cause further events, until nothing more happens.
    fn let_jobs_hear(&mut self) {
        loop {
            while let Some(happened) = self.cx.next_happened() {
                self.jobs_hear(&happened);
            }
            if !self.continue_apply() && !self.remove_vacated_slots() {
                return;
            }
        }
    }

    /// Removes from the end only, so that a slot's number is its index. While the whole app stops, slots that have left stay visible.
    fn remove_vacated_slots(&mut self) -> bool {
        let before = self.slots.len();
        while matches!(self.mode, Mode::Running)
            && let Some(left) = self.slots.pop_if(|last| last.has_left())
        {
            self.cx.tell(Happened::Removed { slot: left.id() });
        }
        self.slots.len() < before
    }

    fn publish(&mut self) {
        let choosable: Vec<_> = self
            .slots
            .iter()
            .filter_map(|slot| {
                Some(Published {
                    slot: slot.id(),
                    instance: slot.published_instance()?,
                    share: slot.share(),
                })
            })
            .collect();
        if choosable == self.published {
            return;
        }
        if choosable.is_empty() && matches!(self.mode, Mode::Running) {
            self.cx
                .note(NoteKind::Warning, None, None, "no worker is published now");
        }
        self.has_served |= !choosable.is_empty();
        self.published.clone_from(&choosable);
        self.cx.say(Effect::Publish(choosable));
    }
}
