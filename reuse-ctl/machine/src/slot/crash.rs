//! What follows when an instance ends without being told to, or never becomes ready.

use super::{Slot, SlotState};
use crate::context::{Context, Happened};
use crate::instance::{Instance, OnReady};
use crate::interface::{Cut, Exit, NoteKind};
use crate::text::{Text, Verb};
use crate::words;

/// How an instance ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Departure<'a> {
    Exited { exit: Exit, cut: Cut },
    NeverSpawned(&'a str),
}

impl Slot {
    /// The current instance has ended without being told to.
    pub(super) fn lose(&mut self, current: Instance, departure: Departure<'_>, cx: &mut Context) -> SlotState {
        let (id, on_ready) = (current.id(), current.on_ready());
        let ready_ms = current.ready_ms(cx.now());
        let reason = departure.too_early(ready_ms);
        cx.tell(if current.is_serving() {
            Happened::Lost {
                slot: self.id,
                instance: id,
                reason,
            }
        } else {
            Happened::StartFailed {
                slot: self.id,
                instance: id,
                reason,
            }
        });
        let reason = match ready_ms {
            Some(_) => departure.unasked(),
            None => departure.too_early(None),
        };
        let was_stable = self.was_stable == Some(id) || is_stable(&current, cx);
        current.depart(&departure.words(), departure.cut(), cx);
        if was_stable {
            self.back_off(0, reason, on_ready, cx)
        } else {
            self.crash(reason, on_ready, cx)
        }
    }

    /// The current instance is not ready in time.
    pub(super) fn fail(&mut self, mut current: Instance, reason: String, cx: &mut Context) -> SlotState {
        let on_ready = current.on_ready();
        self.kill_overdue(&mut current, reason.clone(), cx);
        SlotState::Failing {
            dying: current,
            reason,
            on_ready,
        }
    }

    /// As [`Slot::fail`], if another instance takes the slot: this is no crash of the slot.
    pub(super) fn dismiss(&mut self, mut instance: Instance, reason: String, cx: &mut Context) {
        self.kill_overdue(&mut instance, reason, cx);
        self.outgoing.push(instance);
    }

    fn kill_overdue(&self, instance: &mut Instance, reason: String, cx: &mut Context) {
        let id = instance.id();
        cx.note(
            NoteKind::Warning,
            Some(self.id),
            Some(id),
            format!("{} {reason}: it is killed", instance.name()),
        );
        cx.tell(Happened::StartFailed {
            slot: self.id,
            instance: id,
            reason,
        });
        instance.kill(cx);
    }

    pub(super) fn crash(&mut self, reason: String, on_ready: OnReady, cx: &mut Context) -> SlotState {
        let crashes = self.crashes + 1;
        if crashes < cx.config().crash_limit {
            return self.back_off(crashes, reason, on_ready, cx);
        }
        self.crashes = crashes;
        let message = format!(
            "worker {} {reason}; that was failure {crashes} in a row: it is left alone until ",
            self.id
        );
        let message = Text::from(message) + Verb::Restart.with(self.id);
        cx.note(NoteKind::Failed, Some(self.id), None, message);
        SlotState::Failed { reason, on_ready }
    }

    fn back_off(&mut self, crashes: u32, reason: String, on_ready: OnReady, cx: &mut Context) -> SlotState {
        self.crashes = crashes;
        let delay_ms = cx.backoff_ms(crashes);
        let message = format!(
            "worker {} {reason}; starting it again in {}",
            self.id,
            words::seconds(delay_ms)
        );
        cx.note(NoteKind::BackingOff, Some(self.id), None, message);
        SlotState::BackingOff {
            until: cx.now().plus(delay_ms),
            reason,
            on_ready,
        }
    }
}

impl Departure<'_> {
    /// The connections cut by its end.
    pub(super) fn cut(self) -> Cut {
        match self {
            Self::Exited { cut, .. } => cut,
            Self::NeverSpawned(_) => Cut::default(),
        }
    }

    /// Follows a worker's name.
    pub(super) fn words(self) -> String {
        match self {
            Self::Exited { exit, .. } => words::exited(exit),
            Self::NeverSpawned(reason) => format!("could not be started: {reason}"),
        }
    }

    /// As [`words`](Self::words), for an instance that was ready for `ready_ms`, or never.
    pub(super) fn too_early(self, ready_ms: Option<u64>) -> String {
        match (self, ready_ms) {
            (Self::Exited { .. }, None) => format!("{} before it was ready", self.words()),
            (Self::Exited { .. }, Some(ms)) => format!("{}, {} after it was ready", self.words(), words::lasting(ms)),
            (Self::NeverSpawned(_), _) => self.words(),
        }
    }

    fn unasked(self) -> String {
        match self {
            Self::Exited {
                exit: Exit::Code(0), ..
            } => format!("{} (a server should not exit)", self.words()),
            Self::Exited { .. } | Self::NeverSpawned(_) => self.words(),
        }
    }
}

/// Whether it has been ready long enough to prove its slot healthy.
pub(super) fn is_stable(instance: &Instance, cx: &Context) -> bool {
    instance
        .ready_at()
        .is_some_and(|ready_at| cx.now().since(ready_at) >= cx.config().stable_ms)
}
