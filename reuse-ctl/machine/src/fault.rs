//! The fault of an active instance, and when which action follows.
//!
//! ```text
//! called ──▶ withdrawn, if the app can bear it ── rescue_after ──▶ rescued, and probed if it hangs ⟲ while its queue fills again
//!    └────── replace_after (hung), at once (unhealthy) ──▶ replaced
//! ```
//!
//! A rescue empties the queue, so an empty queue proves nothing. A hung instance has recovered when it is proven to have accepted a
//! connection since it was declared hung. The wake-up probe, a connection of the controller's own, gives a withdrawn instance something to
//! accept.

mod ailment;

use super::context::Context;
use super::ending::Withdrawal;
use crate::ids::{InstanceId, Millis};
use crate::interface::{Config, Effect, HealthRules, NoteKind};
use crate::states::FaultKind;
use ailment::Ailment;

pub(super) use ailment::Symptom;

/// Minimum interval of rescues. Handshakes that were under way at a rescue complete within a round trip, so rescuing more often is useless.
const RESCUE_AT_MOST_EVERY_MS: u64 = 10;

/// A wake-up probe that isn't in the queue after this time has failed, or was accepted without proof. Then another one is tried.
const WAKE_PROBE_PATIENCE_MS: u64 = 100;

/// What is known about the health of an active instance.
#[derive(Debug)]
pub(super) struct Vigil {
    /// When it became active, or when its last fault ended.
    faultless_since: Millis,
    checks: Checks,
    fault: Option<Fault>,
}

/// The results of the last health checks in a row that had the same outcome.
#[derive(Debug, Clone, Copy)]
enum Checks {
    Passed(u32),
    Failed(u32),
}

#[derive(Debug)]
pub(super) struct Fault {
    /// Since when the instance has had either fault.
    since: Millis,
    ailment: Ailment,
    withdrawn: Option<Withdrawn>,
    probed_at: Option<Millis>,
    /// What users were told last: whether it is withdrawn for this, or stays published.
    told: Option<bool>,
}

#[derive(Debug)]
struct Withdrawn {
    since: Millis,
    rescued_at: Option<Millis>,
    /// Whether connections may be waiting in its queue.
    stranded: bool,
}

impl Vigil {
    pub(super) fn begin(now: Millis) -> Self {
        Self {
            faultless_since: now,
            checks: Checks::Passed(0),
            fault: None,
        }
    }

    pub(super) fn faultless_since(&self) -> Millis {
        self.faultless_since
    }

    /// The withdrawal to continue with if the instance is withdrawn for good, or by a user.
    pub(super) fn withdrawal(&self, now: Millis) -> Withdrawal {
        if self.has(FaultKind::Hung) {
            Withdrawal::of_a_hung_one(now)
        } else {
            Withdrawal::begin(now)
        }
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    pub(super) fn fault_mut(&mut self) -> Option<&mut Fault> {
        self.fault.as_mut()
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.fault.as_ref().is_some_and(Fault::is_withdrawn)
    }

    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.fault
            .as_ref()
            .is_some_and(|fault| fault.ailment.symptom(kind).is_some())
    }

    /// Counts a health check, and returns the number of checks in a row with this outcome.
    pub(super) fn checked(&mut self, passed: bool) -> u32 {
        let (next, count) = match (self.checks, passed) {
            (Checks::Passed(before), true) => (Checks::Passed(before.saturating_add(1)), before.saturating_add(1)),
            (Checks::Failed(before), false) => (Checks::Failed(before.saturating_add(1)), before.saturating_add(1)),
            (_, true) => (Checks::Passed(1), 1),
            (_, false) => (Checks::Failed(1), 1),
        };
        self.checks = next;
        count
    }

    /// Adds this kind of fault, which the instance must not have yet. Returns whether it is the first one.
    pub(super) fn fall_ill(&mut self, kind: FaultKind, symptom: Symptom) -> bool {
        let first = self.fault.is_none();
        self.fault = Some(match self.fault.take() {
            None => Fault {
                since: symptom.since,
                ailment: Ailment::new(kind, symptom),
                withdrawn: None,
                probed_at: None,
                told: None,
            },
            Some(fault) => Fault {
                ailment: fault.ailment.and(kind, symptom),
                ..fault
            },
        });
        first
    }

    /// Ends this kind of fault, if the instance has it. Returns the whole fault if no other kind is left.
    pub(super) fn recover(&mut self, kind: FaultKind, id: InstanceId, cx: &mut Context) -> Option<Fault> {
        let mut fault = self.fault.take()?;
        if kind == FaultKind::Hung {
            fault.stop_wake_probe(id, cx);
        }
        match fault.ailment.without(kind) {
            Ok(left) => {
                fault.ailment = left;
                self.fault = Some(fault);
                None
            }
            Err(ended) => {
                fault.ailment = ended;
                self.faultless_since = cx.now();
                Some(fault)
            }
        }
    }
}

impl Fault {
    pub(super) fn since(&self) -> Millis {
        self.since
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.is_some()
    }

    pub(super) fn kind(&self) -> FaultKind {
        self.ailment.kind()
    }

    pub(super) fn reason(&self) -> &str {
        self.ailment.reason()
    }

    /// Withdraws or publishes the instance. Returns what users were told before, if that has become wrong.
    pub(super) fn set_withdrawn(&mut self, withdrawn: bool, stranded: bool, now: Millis) -> Option<Option<bool>> {
        self.withdrawn = match (withdrawn, self.withdrawn.take()) {
            (false, _) => None,
            (true, Some(before)) => Some(before),
            (true, None) => Some(Withdrawn {
                since: now,
                rescued_at: None,
                stranded,
            }),
        };
        let told = self.told.replace(withdrawn);
        (told != Some(withdrawn)).then_some(told)
    }

    /// Takes in the number of connections seen in the queue.
    pub(super) fn saw_queue(&mut self, queue: u32, id: InstanceId, cx: &mut Context) {
        if let Some(withdrawn) = &mut self.withdrawn {
            withdrawn.stranded = queue > u32::from(self.probed_at.is_some());
        }
        let lost = self
            .probed_at
            .is_some_and(|at| cx.now().since(at) >= WAKE_PROBE_PATIENCE_MS);
        if queue == 0 && lost {
            // Another is sent if it is still withdrawn: a published one gets connections enough.
            self.stop_wake_probe(id, cx);
        }
    }

    /// Rescues the queue and sends probes, if it is time.
    pub(super) fn tend(&mut self, id: InstanceId, cx: &mut Context) {
        let now = cx.now();
        let rescue = self.rescue_due(cx.config()).is_some_and(|due| due <= now);
        let probe = self.wake_probe_due(cx.config()).is_some_and(|due| due <= now);
        if rescue && let Some(withdrawn) = &mut self.withdrawn {
            withdrawn.rescued_at = Some(now);
            withdrawn.stranded = false;
            // The wake-up probe waits in that queue too, and the rescue would move it to another instance.
            let probed = self.stop_wake_probe(id, cx);
            cx.say(Effect::Rescue { instance: id });
            if probed {
                self.send_wake_probe(id, cx);
            }
        }
        if probe {
            self.send_wake_probe(id, cx);
        }
    }

    /// When an action is due if nothing else happens.
    pub(super) fn deadline(&self, config: &Config) -> Option<Millis> {
        self.rescue_due(config)
            .into_iter()
            .chain(self.wake_probe_due(config))
            .min()
    }

    /// When the instance is to be replaced, if ever.
    pub(super) fn replacement_due(&self, config: &Config) -> Option<Millis> {
        let hung = self.ailment.symptom(FaultKind::Hung).zip(config.hung.replace_after_ms);
        let hung = hung.map(|(symptom, after_ms)| symptom.since.plus(after_ms));
        let unhealthy = self.ailment.symptom(FaultKind::Unhealthy).map(|symptom| symptom.since);
        hung.into_iter().chain(unhealthy).min()
    }

    /// Closes the wake-up probe. Returns whether one was open.
    pub(super) fn stop_wake_probe(&mut self, id: InstanceId, cx: &mut Context) -> bool {
        let probed = self.probed_at.take().is_some();
        if probed {
            cx.say(Effect::StopWakeProbe { instance: id });
        }
        probed
    }

    fn send_wake_probe(&mut self, id: InstanceId, cx: &mut Context) {
        self.probed_at = Some(cx.now());
        cx.say(Effect::WakeProbe { instance: id });
    }

    fn rescue_due(&self, config: &Config) -> Option<Millis> {
        let after_ms = config.hung.rescue_after_ms;
        let withdrawn = self.withdrawn.as_ref().filter(|withdrawn| withdrawn.stranded)?;
        Some(match withdrawn.rescued_at {
            None => withdrawn.since.plus(after_ms),
            Some(at) => at.plus(after_ms.max(RESCUE_AT_MOST_EVERY_MS)),
        })
    }

    fn wake_probe_due(&self, config: &Config) -> Option<Millis> {
        let withdrawn = self.withdrawn.as_ref()?;
        let wanted = self.probed_at.is_none() && self.ailment.symptom(FaultKind::Hung).is_some();
        wanted.then(|| withdrawn.since.plus(config.hung.rescue_after_ms))
    }
}

/// The word for this fault in `events`.
pub(super) fn note_kind(kind: FaultKind) -> NoteKind {
    match kind {
        FaultKind::Hung => NoteKind::Hung,
        FaultKind::Unhealthy => NoteKind::Unhealthy,
    }
}

/// Whether this many checks in a row with the same outcome decide.
pub(super) fn is_decided(rules: HealthRules, passed: bool, in_a_row: u32) -> bool {
    in_a_row >= if passed { rules.passes } else { rules.fails }
}
