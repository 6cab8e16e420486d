//! Recovery: a faulty instance is replaced without a request, start-first, and less and less often if that doesn't help.

use super::{Slot, SlotState};
use crate::context::Context;
use crate::fault::{Fault, note_kind};
use crate::ids::Millis;
use crate::instance::{Instance, OnReady};
use crate::interface::Config;
use crate::words::{self, Why};

/// Longest wait between fault_replacements that don't help, in multiples of the stable time: about every five minutes for 10 s.
const LONGEST_WAITS: u64 = 32;

/// Why an instance is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A user requested it: the slot takes no other request meanwhile.
    Asked,
    /// It is faulty. Any request of a user takes precedence.
    Fault,
}

/// The replacements for faults so far.
#[derive(Debug, Default)]
pub(super) struct FaultReplacements {
    /// Number of replacements none of which was followed by a stable time without a fault.
    in_a_row: u32,
    last: Option<Recovery>,
}

#[derive(Debug, Clone, Copy)]
struct Recovery {
    begun: Millis,
    /// When the next one may begin.
    next: Millis,
}

impl Slot {
    /// When its instance is to be replaced for a fault. The replacement may have to wait for other jobs.
    pub(crate) fn recovery_due(&self, config: &Config) -> Option<Millis> {
        let SlotState::Held(current) = &self.state else {
            return None;
        };
        let due = current.replacement_due(config)?;
        let wait = self
            .fault_replacements
            .last
            .filter(|_| !self.has_proved_well(current, config));
        Some(wait.map_or(due, |recovery| due.max(recovery.next)))
    }

    pub(crate) fn is_recovering(&self) -> bool {
        matches!(
            self.state,
            SlotState::Replacing {
                cause: Cause::Fault,
                ..
            }
        )
    }

    /// Starts to replace its faulty instance.
    pub(crate) fn replace_faulty(&mut self, cx: &mut Context) {
        self.change_state(|slot, state| match state {
            SlotState::Held(current) => {
                slot.count_recovery(&current, cx);
                let incoming = Instance::request(slot.id, slot.version, OnReady::Publish, cx);
                SlotState::Replacing {
                    current,
                    incoming,
                    cause: Cause::Fault,
                }
            }
            other => other,
        });
    }

    /// Gives up replacing a faulty instance in favour of a user's request.
    pub(super) fn give_way(&mut self, cx: &mut Context) {
        self.give_up_incoming(Cause::Fault, cx);
    }

    /// Stops the incoming instance if this is why it was started.
    pub(super) fn give_up_incoming(&mut self, given_up: Cause, cx: &mut Context) {
        self.change_state(|slot, state| match state {
            SlotState::Replacing {
                current,
                incoming,
                cause,
            } if cause == given_up => {
                slot.end(incoming, cx.config().drain_timeout_ms, Why::GivenUp, cx);
                SlotState::Held(current)
            }
            other => other,
        });
    }

    fn count_recovery(&mut self, current: &Instance, cx: &mut Context) {
        if self.has_proved_well(current, cx.config()) {
            self.fault_replacements.in_a_row = 0;
        }
        self.fault_replacements.in_a_row = self.fault_replacements.in_a_row.saturating_add(1);
        let delay_ms = wait_ms(self.fault_replacements.in_a_row, cx.config());
        self.fault_replacements.last = Some(Recovery {
            begun: cx.now(),
            next: cx.now().plus(delay_ms),
        });
        if let Some(fault) = current.fault() {
            let lasting = words::lasting(cx.now().since(fault.since()));
            let what = format!("has been {} for {lasting}: it is replaced", words::fault(fault.kind()));
            current.note(note_kind(fault.kind()), &what, cx);
        }
    }

    /// Whether its present fault came after a stable time without one, and was not the reason for the last recovery.
    fn has_proved_well(&self, current: &Instance, config: &Config) -> bool {
        let is_new = |fault: &Fault| {
            self.fault_replacements
                .last
                .is_none_or(|recovery| recovery.begun < fault.since())
        };
        current.fault().is_some_and(is_new) && current.faultless_ms().is_some_and(|ms| ms >= config.stable_ms)
    }
}

/// How long the next recovery waits after the last of `in_a_row` fault_replacements, in milliseconds. A replacement that becomes faulty itself
/// shows that the fault is not in a single process. So it gets the time in which it would have become stable, and twice that the next time.
/// Faster replacement made things worse while a database was down: 28 restarts of four workers in ten seconds.
fn wait_ms(in_a_row: u32, config: &Config) -> u64 {
    let longest_ms = LONGEST_WAITS.saturating_mul(config.stable_ms);
    let doubled = 1_u64.checked_shl(in_a_row.saturating_sub(1)).unwrap_or(u64::MAX);
    // Never 0, whatever is configured: each recovery leaves a process behind that has to end.
    config.stable_ms.saturating_mul(doubled).min(longest_ms).max(1)
}
