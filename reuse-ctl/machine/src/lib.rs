//! The pure machine: [`Machine::handle`] turns what happened into what is to be done, with no process, socket or clock inside.
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
//! (Not drawn: `emptying` → `active`, when what was to replace it has failed; `starting` → `emptying`, of one that has closed its listeners.)
//!
//! **An instance** is in one of these phases; nothing else can follow (`transitions.rs`, checked at every change).
//!
//! | from | to |
//! |---|---|
//! | `requested` | `starting`, `terminated`, `killed`, `gone` |
//! | `starting` | `settling`, `active`, `drained`, `emptying`, `terminated`, `killed`, `gone` |
//! | `settling` | `active`, `starting`, `drained`, `terminated`, `gone` |
//! | `active` | `starting`, `draining`, `emptying`, `gone` |
//! | `draining` | `active`, `starting`, `drained`, `emptying`, `gone` |
//! | `drained` | `active`, `starting`, `terminated`, `gone` |
//! | `emptying` | `active`, `terminated`, `killed`, `gone` |
//! | `terminated` | `terminated`, `killed`, `gone` |
//! | `killed` | `gone` |
//!
//! **A slot** has a seat, and beside it the outgoing instances that are on their way out.
//!
//! | seat | next seat |
//! |---|---|
//! | `held` | `held`, `replacing`, `vacating`, `failing`, `backing off`, `failed`, `leaving` |
//! | `replacing` | `held`, `leaving` |
//! | `vacating` | `held`, `leaving` |
//! | `failing` | `held`, `vacating`, `backing off`, `failed`, `leaving` |
//! | `backing off` | `held`, `leaving` |
//! | `failed` | `held`, `leaving` |
//!
//! **A fault** is what an active instance may have beside its phase: it is hung, or unhealthy, or both (`fault.rs`).
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
//! An instance is published if it is active and not withdrawn for a fault. Who is withdrawn is decided for all active instances together,
//! after every input: at most a part of them, never all, and none if all are faulty. So some instance is published as long as any is active.
//!
//! What may be chosen is never stored: it is read off the states after every input, and said when it differs from what was
//! said last. So no path through the rules can forget to publish or to withdraw.
//!
//! Decisions that are not obvious:
//! - A slot that a person drained stays withdrawn: if its instance crashes, the next one starts and waits as `drained` until
//!   `undrain` (or `restart`, which publishes).
//! - A slot never has more than two instances that are not on their way out: one that serves or starts, and an incoming one. Of
//!   the outgoing ones there may be several (a failed reload can be tried again at once); each of them is bounded in time.
//! - A person's word comes before the replacement of a faulty instance: `drain`, `restart` and `reload` end one that is under
//!   way, and while a job goes through all slots none begins. At most as many are under way as may be withdrawn, so that a
//!   fault of all (a database is gone) does not start the whole app a second time.
//! - A hung instance is back when it is *proven* to have accepted something since it was called. Its empty queue proves
//!   nothing: a rescue empties it.
//! - An instance that is to take the place of one that serves settles first: it is ready and lives for a while, unpublished (to people it
//!   is still `starting`). If it ends before, or loses its listeners for good, its start has failed and the old one was never touched. If the
//!   old one ends, stops listening or hangs meanwhile, it takes the seat at once: nobody else serves there. So does an instance that starts where
//!   nobody serves, or after the old one (stop-first): it settles in the seat, published, and the one who asked for it waits until it has.
//! - A rollout replaces a few slots at the same time, and watches all of them until it is over: when the last new instance has settled and
//!   the last old one is gone. Whichever new instance fails before that ends it. Where the old one still has the seat, it keeps it;
//!   where it waits to be told to stop, it takes the seat back; else a slot whose new instance has crashed is started again as after
//!   any crash.
//! - A canary is one more slot, the last, and `scale` waits until it is promoted or aborted: so slots come and go at the end
//!   only. Each slot knows the version of its next instance.
//! - A version that `apply` or `promote` brings is all or nothing: when its rollout fails, or the canary itself does meanwhile, all slots where anything of it is go back. What
//!   can't be brought back is tried for each slot, told, and left to `abort`.
//! - A `scale` up and the start of a canary wait until every added instance has settled: in the seat, published, since nobody else serves
//!   there. One that fails or ends before that is a failed start, and all is undone: there are as many workers as before.
//! - An app whose workers have all failed ends, or stays if the configuration says so and somebody has served before (`stopping.rs`). It
//!   stays to be started again by `reload`, `restart` or `apply`; of `scale` it takes only fewer workers.
//! - Before `Start` and while stopping, every request but `stop` is refused. After `Finish` nothing is said any more, not even
//!   to a request: whoever carries out `Finish` closes the door.

pub mod ids;
pub mod interface;
pub mod states;
pub mod text;
pub mod versions;

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
use self::interface::{Config, Effect, Input, NoteKind, Rules, Seated};
use self::jobs::Jobs;
use self::slot::{Departure, Slot};

/// Everything the controller knows of its workers, and the rules that change it.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    mode: Mode,
    /// What slots run that are neither a canary's nor on their way to or from its version.
    version: VersionId,
    /// In slot order, without a gap; slots that leave are the last ones.
    slots: Vec<Slot>,
    jobs: Jobs,
    /// What was said with the last [`Effect::Publish`].
    published: Vec<Seated>,
    norm: Norm,
    /// Whether every active instance is faulty, and people were told so.
    all_faulty: bool,
    /// Whether a worker has ever been published.
    has_served: bool,
    /// Whether every worker has failed. Still so when the app has ended because of that.
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
        /// Whether a person pressed Ctrl-C already: the next time kills.
        interrupted: bool,
    },
    Finished,
}

impl Machine {
    /// A machine at rest: [`Input::Start`] sets it going.
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

    /// What is to be done about `input`, in this order. An input that makes no sense in the present state (an instance that is
    /// gone, a second `Start`) changes nothing.
    ///
    /// The input goes first and what is due at `now` second: something that comes just in time is in time.
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

    /// What the app's slots run: see [`View::version`].
    pub fn version(&self) -> VersionId {
        self.version
    }

    /// All versions that it may still say something of: nothing is ever started from another, unless a request names it.
    pub fn versions(&self) -> BTreeSet<VersionId> {
        let slots = self.slots.iter().map(Slot::version);
        slots.chain(self.jobs.versions()).chain([self.version]).collect()
    }

    /// What `status` shows.
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
            Input::Ruled(rules) => self.rule(rules),
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
            // Each time, an incoming instance takes a seat: there are only so many.
            if !self.replace_hung() {
                return;
            }
        }
    }

    /// Lets the waiting requests hear what happened, which may make more happen, until all is quiet.
    fn let_jobs_hear(&mut self) {
        loop {
            while let Some(happened) = self.cx.next_happened() {
                self.jobs_hear(&happened);
            }
            if !self.remove_vacated_slots() {
                return;
            }
        }
    }

    /// From the end only, so that a slot's number is its place. While the whole app stops, slots that have left stay to be seen.
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
                Some(Seated {
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
