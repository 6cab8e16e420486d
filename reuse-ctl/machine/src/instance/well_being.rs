//! The health of an instance: observations, and what follows from them.

use reuse_common::stall::{Look, Norm, Watch};

use super::{Instance, Phase, Standing};
use crate::context::Context;
use crate::fault::{Fault, Symptom, Vigil, is_decided, note_kind};
use crate::ids::Millis;
use crate::interface::{Backlog, Config, NoteKind};
use crate::states::FaultKind;
use crate::view::FaultView;
use crate::words;

impl Instance {
    /// Takes in a look at its queue.
    pub(crate) fn watched(&mut self, backlog: Backlog, norm: &mut Norm, cx: &mut Context) {
        if !self.is_serving() {
            return;
        }
        let look = Look {
            at_ms: cx.now().0,
            queue: backlog.queue,
            accepted_at_least: backlog.accepted_at_least,
            accepted_at_most: backlog.accepted_at_most,
        };
        let was_hung = self.watch.is_hung();
        self.watch.look(look, norm);
        if was_hung && !self.watch.is_hung() {
            self.recover(FaultKind::Hung, cx);
        }
        let id = self.id;
        if let Some(fault) = self.vigil_mut().and_then(Vigil::fault_mut) {
            fault.saw_queue(backlog.queue, id, cx);
        }
    }

    /// Its watch, if it is to be judged, which is the case if it gets connections.
    pub(crate) fn watch_to_judge(&mut self) -> Option<&mut Watch> {
        if self.is_published() {
            Some(&mut self.watch)
        } else {
            None
        }
    }

    /// Acts on the judgement of its watch.
    pub(crate) fn judged(&mut self, cx: &mut Context) {
        if self.watch.is_hung() && self.is_active() && !self.is_hung() {
            let reason = words::hung(self.watch.stall_ms(), self.watch.queue());
            self.fall_ill(FaultKind::Hung, reason, cx);
        }
    }

    /// Takes in the result of a health check.
    pub(crate) fn checked(&mut self, outcome: &Result<(), String>, cx: &mut Context) {
        let (Some(rules), Some(vigil)) = (cx.config().health, self.vigil_mut()) else {
            return;
        };
        let in_a_row = vigil.checked(outcome.is_ok());
        let unhealthy = vigil.has(FaultKind::Unhealthy);
        if !is_decided(rules, outcome.is_ok(), in_a_row) {
            return;
        }
        match outcome {
            Ok(()) if unhealthy => self.recover(FaultKind::Unhealthy, cx),
            Err(why) if !unhealthy => self.fall_ill(FaultKind::Unhealthy, words::unhealthy(in_a_row, why), cx),
            _ => {}
        }
    }

    /// Health checks were switched off: earlier results are forgotten.
    pub(crate) fn no_longer_checked(&mut self, cx: &mut Context) {
        if self.vigil().is_some_and(|vigil| vigil.has(FaultKind::Unhealthy)) {
            let id = self.id;
            let fault = self
                .vigil_mut()
                .and_then(|vigil| vigil.recover(FaultKind::Unhealthy, id, cx));
            let published = if fault.is_some_and(|fault| fault.is_withdrawn()) {
                ": it is published again"
            } else {
                ""
            };
            self.note(NoteKind::Recovered, &format!("is no longer checked{published}"), cx);
        }
    }

    /// See [`Fault::set_withdrawn`]. `stays` says why it is not withdrawn, if that is so.
    pub(crate) fn set_withdrawn(&mut self, withdrawn: bool, stays: &str, cx: &mut Context) {
        let stranded = self.watch.queue() != Some(0);
        let Some(fault) = self.vigil_mut().and_then(Vigil::fault_mut) else {
            return;
        };
        let Some(told) = fault.set_withdrawn(withdrawn, stranded, cx.now()) else {
            return;
        };
        let (kind, reason) = (fault.kind(), fault.reason());
        let what = match (told, withdrawn) {
            (None, true) => format!("{reason}: it is withdrawn"),
            (None, false) => format!("{reason}: it stays published, {stays}"),
            (Some(_), true) => format!("is still {}: it is withdrawn now", words::fault(kind)),
            (Some(_), false) => format!("is {} and published again, {stays}", words::fault(kind)),
        };
        self.note(note_kind(kind), &what, cx);
    }

    /// Rescues its queue and probes it, if it is time.
    pub(crate) fn tend(&mut self, cx: &mut Context) {
        let id = self.id;
        if let Some(fault) = self.vigil_mut().and_then(Vigil::fault_mut) {
            fault.tend(id, cx);
        }
    }

    /// When it is to be replaced for its fault, if ever.
    pub(crate) fn replacement_due(&self, config: &Config) -> Option<Millis> {
        self.fault()?.replacement_due(config)
    }

    /// For how long it had been active without a fault when the current fault began, in milliseconds.
    pub(crate) fn faultless_ms(&self) -> Option<u64> {
        let vigil = self.vigil()?;
        Some(vigil.fault()?.since().since(vigil.faultless_since()))
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.vigil()?.fault()
    }

    /// Whether it is hung and still published, because the app can't withdraw one more.
    pub(crate) fn hangs_in_service(&self) -> bool {
        self.is_hung() && !self.vigil().is_some_and(Vigil::is_withdrawn)
    }

    /// Whether it is hung: it counts as serving but accepts nothing.
    fn is_hung(&self) -> bool {
        self.vigil().is_some_and(|vigil| vigil.has(FaultKind::Hung))
    }

    pub(crate) fn fault_view(&self) -> Option<FaultView> {
        let fault = self.fault()?;
        Some(FaultView {
            kind: fault.kind(),
            since: fault.since(),
            withdrawn: fault.is_withdrawn(),
            reason: fault.reason().to_owned(),
        })
    }

    fn fall_ill(&mut self, kind: FaultKind, reason: String, cx: &mut Context) {
        let since = cx.now();
        let Some(vigil) = self.vigil_mut() else { return };
        let symptom = Symptom {
            since,
            reason: reason.clone(),
        };
        // The first fault is reported once it is decided whether the instance is withdrawn.
        if !vigil.fall_ill(kind, symptom) {
            let so = if vigil.is_withdrawn() { "withdrawn" } else { "published" };
            self.note(note_kind(kind), &format!("{reason}: it stays {so}"), cx);
        }
    }

    fn recover(&mut self, kind: FaultKind, cx: &mut Context) {
        let id = self.id;
        let Some(fault) = self.vigil_mut().and_then(|vigil| vigil.recover(kind, id, cx)) else {
            return;
        };
        let again = match kind {
            FaultKind::Hung => "accepts again",
            FaultKind::Unhealthy => "passes its health checks again",
        };
        let after = words::lasting(cx.now().since(fault.since()));
        let published = if fault.is_withdrawn() {
            ": it is published again"
        } else {
            ""
        };
        self.note(NoteKind::Recovered, &format!("{again} after {after}{published}"), cx);
    }

    pub(super) fn vigil(&self) -> Option<&Vigil> {
        match &self.phase {
            Phase::Serving {
                standing: Standing::Active(vigil),
                ..
            } => Some(vigil),
            _ => None,
        }
    }

    fn vigil_mut(&mut self) -> Option<&mut Vigil> {
        match &mut self.phase {
            Phase::Serving {
                standing: Standing::Active(vigil),
                ..
            } => Some(vigil),
            _ => None,
        }
    }
}
