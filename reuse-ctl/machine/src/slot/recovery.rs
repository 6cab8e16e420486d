//! Recovery: a faulty instance is replaced without a request, start-first, and less and less often if that does not help.

use super::{Seat, Slot};
use crate::context::Context;
use crate::fault::{Fault, note_kind};
use crate::ids::Millis;
use crate::instance::{Instance, OnReady};
use crate::interface::Config;
use crate::words::{self, Why};

/// Recoveries that don't help are this many stable times apart at last: every five minutes with 10 s.
const LONGEST_WAITS: u64 = 32;

/// Why an instance is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A person asked for it: nothing else can be asked of the slot meanwhile.
    Asked,
    /// It is faulty: whatever a person asks for comes first.
    Fault,
}

/// The replacements for faults so far.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    /// None of them was followed by a stable time without a fault.
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
    /// When its instance is to be replaced for a fault. What is due may have to wait for other things.
    pub(crate) fn recovery_due(&self, config: &Config) -> Option<Millis> {
        let Seat::Held(current) = &self.seat else { return None };
        let due = current.replacement_due(config)?;
        let wait = self.recoveries.last.filter(|_| !self.has_proved_well(current, config));
        Some(wait.map_or(due, |recovery| due.max(recovery.next)))
    }

    pub(crate) fn is_recovering(&self) -> bool {
        matches!(
            self.seat,
            Seat::Replacing {
                cause: Cause::Fault,
                ..
            }
        )
    }

    /// Begins to replace its faulty instance.
    pub(crate) fn begin_recovery(&mut self, cx: &mut Context) {
        self.reseat(|slot, seat| match seat {
            Seat::Held(current) => {
                slot.count_recovery(&current, cx);
                let incoming = Instance::request(slot.id, slot.version, OnReady::Publish, cx);
                Seat::Replacing {
                    current,
                    incoming,
                    cause: Cause::Fault,
                }
            }
            other => other,
        });
    }

    /// Gives up replacing a faulty instance: a person wants something else.
    pub(super) fn give_way(&mut self, cx: &mut Context) {
        self.give_up_incoming(Cause::Fault, cx);
    }

    /// Ends the incoming instance if it came for that.
    pub(super) fn give_up_incoming(&mut self, given_up: Cause, cx: &mut Context) {
        self.reseat(|slot, seat| match seat {
            Seat::Replacing {
                current,
                incoming,
                cause,
            } if cause == given_up => {
                slot.end(incoming, cx.config().drain_timeout_ms, Why::GivenUp, cx);
                Seat::Held(current)
            }
            other => other,
        });
    }

    fn count_recovery(&mut self, current: &Instance, cx: &mut Context) {
        if self.has_proved_well(current, cx.config()) {
            self.recoveries.in_a_row = 0;
        }
        self.recoveries.in_a_row = self.recoveries.in_a_row.saturating_add(1);
        let delay_ms = wait_ms(self.recoveries.in_a_row, cx.config());
        self.recoveries.last = Some(Recovery {
            begun: cx.now(),
            next: cx.now().plus(delay_ms),
        });
        if let Some(fault) = current.fault() {
            let lasting = words::lasting(cx.now().since(fault.since()));
            let what = format!("has been {} for {lasting}: it is replaced", words::fault(fault.kind()));
            current.note(note_kind(fault.kind()), &what, cx);
        }
    }

    /// Its present fault came after a stable time without one, and was not the reason for the last recovery.
    fn has_proved_well(&self, current: &Instance, config: &Config) -> bool {
        let is_new = |fault: &Fault| {
            self.recoveries
                .last
                .is_none_or(|recovery| recovery.begun < fault.since())
        };
        current.fault().is_some_and(is_new) && current.faultless_ms().is_some_and(|ms| ms >= config.stable_ms)
    }
}

/// How long after the last of `in_a_row` recoveries the next one waits. A replacement that falls ill itself has shown that the fault is not one
/// process's own: it gets the time in which it would have proved itself, and twice that the next time. Replacing faster
/// made a storm out of a database that was down: 28 restarts of four workers in ten seconds.
fn wait_ms(in_a_row: u32, config: &Config) -> u64 {
    let longest_ms = LONGEST_WAITS.saturating_mul(config.stable_ms);
    let doubled = 1_u64.checked_shl(in_a_row.saturating_sub(1)).unwrap_or(u64::MAX);
    // Never at once again, whatever is configured: each leaves a process behind that has to end.
    config.stable_ms.saturating_mul(doubled).min(longest_ms).max(1)
}
