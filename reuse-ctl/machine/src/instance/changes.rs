//! The effects of each input on an instance.

use std::mem;

use super::{Instance, OnReady, Phase, Plan, Stage, Standing};
use crate::context::Context;
use crate::drain::{Drain, Waiter};
use crate::ending::Ending;
use crate::fault::{Fault, Vigil};
use crate::ids::Millis;
use crate::interface::{Effect, Load, NoteKind, Refusal};
use crate::transitions::phase_may_follow;
use crate::words;

impl Instance {
    pub(crate) fn spawned(&mut self, pid: u32, cx: &mut Context) {
        let Phase::Requested(plan) = self.phase else { return };
        match plan {
            Plan::Start { deadline, on_ready } => {
                let next = Phase::Starting {
                    pid,
                    on_ready,
                    stage: Stage::Booting { deadline },
                };
                self.enter(next, cx);
                self.note(NoteKind::Spawned, "was started", cx);
            }
            Plan::Terminate { grace_ms } => {
                self.enter_ending(pid, Ending::terminate(grace_ms, cx.now()), cx);
            }
            Plan::Kill => {
                self.enter_ending(pid, Ending::Killed, cx);
            }
        }
    }

    /// It listens and has the slot. Returns whether this completed a start.
    pub(crate) fn ready(&mut self, cx: &mut Context) -> bool {
        self.listens = true;
        match &mut self.phase {
            Phase::Starting { pid, on_ready, .. } => {
                let (pid, on_ready) = (*pid, *on_ready);
                self.serve(pid, on_ready, cx.now(), cx);
                return true;
            }
            Phase::Serving { standing, .. } => standing.set_listening(true),
            Phase::Requested(_) | Phase::Stopping { .. } => {}
        }
        false
    }

    /// It listens, and another instance has the slot.
    pub(crate) fn settle(&mut self, cx: &mut Context) {
        self.listens = true;
        match self.phase {
            Phase::Starting {
                pid,
                on_ready,
                stage: Stage::Booting { .. } | Stage::ListenersLost { .. },
            } => {
                let ready_at = cx.now();
                let until = ready_at.plus(cx.config().settle_ms);
                let stage = Stage::Settling { ready_at, until };
                self.enter(Phase::Starting { pid, on_ready, stage }, cx);
            }
            Phase::Starting {
                stage: Stage::Settling { .. },
                ..
            }
            | Phase::Requested(_)
            | Phase::Serving { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    /// Gives it the slot. If it is settling, it need not settle any longer: returns when it would have settled.
    pub(crate) fn take_slot(&mut self, cx: &mut Context) -> Option<Millis> {
        match self.phase {
            Phase::Starting {
                pid,
                on_ready,
                stage: Stage::Settling { ready_at, until },
            } => {
                self.serve(pid, on_ready, ready_at, cx);
                Some(until)
            }
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Serving { .. } | Phase::Stopping { .. } => None,
        }
    }

    fn serve(&mut self, pid: u32, on_ready: OnReady, ready_at: Millis, cx: &mut Context) {
        match on_ready {
            OnReady::Publish => {
                self.activate(pid, ready_at, "is active", cx);
            }
            OnReady::StayWithdrawn => {
                let standing = Standing::Drained { listening: true };
                let next = Phase::Serving {
                    pid,
                    ready_at,
                    standing,
                };
                self.enter(next, cx);
                self.note(
                    NoteKind::Drained,
                    "is ready and stays withdrawn, as its slot was drained",
                    cx,
                );
            }
        }
    }

    /// It has lost its listeners. A withdrawn instance stays as it is, but can't be published before it listens again.
    pub(crate) fn unready(&mut self, reason: &str, cx: &mut Context) {
        self.listens = false;
        match &mut self.phase {
            Phase::Serving {
                pid,
                ready_at,
                standing: Standing::Active(_),
            } => {
                let (pid, ready_at) = (*pid, *ready_at);
                self.await_listeners(pid, ready_at, OnReady::Publish, cx);
            }
            Phase::Starting {
                pid,
                on_ready,
                stage: Stage::Settling { ready_at, .. },
            } => {
                let (pid, ready_at, on_ready) = (*pid, *ready_at, *on_ready);
                self.await_listeners(pid, ready_at, on_ready, cx);
                // It could not be chosen before either. Usually it is dying, which will be reported.
                return;
            }
            Phase::Serving { standing, .. } => standing.set_listening(false),
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Stopping { .. } => return,
        }
        self.note(NoteKind::Warning, &format!("can't be chosen: {reason}"), cx);
    }

    pub(crate) fn observed(&mut self, load: Load, cx: &mut Context) {
        let now = cx.now();
        let takes_from_queue = match &mut self.phase {
            Phase::Serving {
                standing: Standing::Draining(drain),
                ..
            } => {
                drain.observed(load);
                drain.takes_from_queue(now)
            }
            Phase::Stopping { ending, .. } => {
                ending.observed(load, now);
                ending.takes_from_queue(now)
            }
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Serving { .. } => false,
        };
        if takes_from_queue {
            cx.say(Effect::Rescue { instance: self.id });
        }
        self.progress(cx);
        // After due actions: an instance that is told to stop in any case needs no closer look.
        if let Phase::Stopping { ending, .. } = &self.phase
            && ending.is_idle(now)
        {
            cx.say(Effect::TerminateIfIdle { instance: self.id });
        }
    }

    /// Withdraws an active instance, or adds `waiter` to the drain of a draining one. Returns `waiter` if it is neither.
    pub(crate) fn drain(&mut self, waiter: Option<Waiter>, cx: &mut Context) -> Option<Waiter> {
        match &mut self.phase {
            Phase::Serving {
                pid,
                ready_at,
                standing: Standing::Active(vigil),
            } => {
                let standing = Standing::Draining(Drain::begin(vigil.withdrawal(cx.now()), waiter));
                let next = Phase::Serving {
                    pid: *pid,
                    ready_at: *ready_at,
                    standing,
                };
                self.enter(next, cx);
                self.note(NoteKind::Draining, "is withdrawn: it gets no new connections", cx);
                None
            }
            Phase::Serving {
                standing: Standing::Draining(drain),
                ..
            } => {
                drain.join(waiter);
                None
            }
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Serving { .. } | Phase::Stopping { .. } => waiter,
        }
    }

    pub(crate) fn undrain(&mut self, cx: &mut Context) {
        match &mut self.phase {
            Phase::Requested(Plan::Start { on_ready, .. }) | Phase::Starting { on_ready, .. } => {
                *on_ready = OnReady::Publish;
            }
            Phase::Serving {
                standing: Standing::Active(_),
                ..
            }
            | Phase::Requested(_)
            | Phase::Stopping { .. } => {}
            Phase::Serving {
                pid,
                ready_at,
                standing,
            } => {
                let (pid, ready_at, listening) = (*pid, *ready_at, standing.is_listening());
                let undrained = words::undrained_meanwhile(self.slot);
                let before = if listening {
                    self.activate(pid, ready_at, "is published again", cx)
                } else {
                    self.await_listeners(pid, ready_at, OnReady::Publish, cx)
                };
                before.give_up_drain(&undrained, cx);
            }
        }
    }

    /// Lets it go on serving although it was to be stopped. See [`Instance::can_be_taken_back`].
    pub(crate) fn take_back(&mut self, cx: &mut Context) {
        if let Phase::Stopping { pid, .. } = self.phase {
            self.activate(pid, cx.now(), "is published again", cx);
        }
    }

    fn activate(&mut self, pid: u32, ready_at: Millis, how: &str, cx: &mut Context) -> Phase {
        self.watch.restart();
        let standing = Standing::Active(Box::new(Vigil::begin(cx.now())));
        let next = Phase::Serving {
            pid,
            ready_at,
            standing,
        };
        let before = self.enter(next, cx);
        self.note(NoteKind::Active, how, cx);
        before
    }

    /// It should serve, and can't before it listens again.
    fn await_listeners(&mut self, pid: u32, ready_at: Millis, on_ready: OnReady, cx: &mut Context) -> Phase {
        let deadline = cx.now().plus(cx.config().ready_timeout_ms);
        let next = Phase::Starting {
            pid,
            on_ready,
            stage: Stage::ListenersLost { ready_at, deadline },
        };
        self.enter(next, cx)
    }

    /// The only place where the phase changes. Returns the previous phase. Only an active instance has faults.
    pub(super) fn enter(&mut self, next: Phase, cx: &mut Context) -> Phase {
        let from = self.phase_name();
        let mut before = mem::replace(&mut self.phase, next);
        if let Some(fault) = before.fault_mut() {
            fault.stop_wake_probe(self.id, cx);
        }
        debug_assert!(
            phase_may_follow(from, self.phase_name()),
            "{from} → {}",
            self.phase_name()
        );
        before
    }

    pub(crate) fn note(&self, kind: NoteKind, what: &str, cx: &mut Context) {
        cx.note(kind, Some(self.slot), Some(self.id), format!("{} {what}", self.name()));
    }
}

impl Phase {
    /// Answers the requests that waited for a drain which is now abandoned.
    pub(super) fn give_up_drain(self, refusal: &Refusal, cx: &mut Context) {
        if let Self::Serving {
            standing: Standing::Draining(drain),
            ..
        } = self
        {
            drain.fail(refusal, cx);
        }
    }

    fn fault_mut(&mut self) -> Option<&mut Fault> {
        match self {
            Self::Serving {
                standing: Standing::Active(vigil),
                ..
            } => vigil.fault_mut(),
            _ => None,
        }
    }
}

impl Standing {
    fn is_listening(&self) -> bool {
        match self {
            Self::Active(_) => true,
            Self::Draining(drain) => drain.listening,
            Self::Drained { listening } => *listening,
        }
    }

    /// Only for a withdrawn instance: an active one always listens.
    fn set_listening(&mut self, is_listening: bool) {
        match self {
            Self::Active(_) => {}
            Self::Draining(drain) => drain.listening = is_listening,
            Self::Drained { listening } => *listening = is_listening,
        }
    }
}
