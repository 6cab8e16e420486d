//! How instances leave a slot, and how the slot itself is removed.

use super::{Slot, SlotState};
use crate::context::Context;
use crate::instance::Instance;
use crate::words::Why;

impl Slot {
    /// Stops every instance; [`Slot::has_left`] follows. Calling it again can only make that faster.
    pub(crate) fn leave(&mut self, grace_ms: u64, why: Why, cx: &mut Context) {
        self.outgoing
            .iter_mut()
            .for_each(|instance| instance.end(grace_ms, why, cx));
        self.change_state(|slot, state| {
            match state {
                SlotState::Held(current) => slot.end(current, grace_ms, why, cx),
                SlotState::Replacing { current, incoming, .. } => {
                    slot.end(current, grace_ms, why, cx);
                    slot.end(incoming, grace_ms, why, cx);
                }
                SlotState::Failing { dying, .. } => slot.outgoing.push(dying),
                SlotState::Vacating { .. }
                | SlotState::BackingOff { .. }
                | SlotState::Failed { .. }
                | SlotState::Leaving => {}
            }
            SlotState::Leaving
        });
    }

    /// As [`Slot::leave`], but kills an instance that never served.
    pub(crate) fn abandon(&mut self, grace_ms: u64, why: Why, cx: &mut Context) {
        if let SlotState::Held(current) = &mut self.state
            && !current.is_serving()
        {
            current.kill(cx);
        }
        self.leave(grace_ms, why, cx);
    }

    pub(crate) fn kill_outgoing(&mut self, cx: &mut Context) {
        self.outgoing.iter_mut().for_each(|instance| instance.kill(cx));
    }

    /// Makes it an outgoing instance.
    pub(super) fn end(&mut self, mut instance: Instance, grace_ms: u64, why: Why, cx: &mut Context) {
        instance.end(grace_ms, why, cx);
        self.outgoing.push(instance);
    }
}
