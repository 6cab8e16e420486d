//! How another instance takes the slot.

use super::fault_replacement::Cause;
use super::{Order, Slot, SlotState};
use crate::context::{Context, Happened};
use crate::ids::InstanceId;
use crate::instance::{Instance, OnReady};
use crate::words::Why;

impl Slot {
    /// Starts to replace the instance, and returns the id of the instance to be replaced, if there is one. An instance that doesn't serve
    /// is stopped at once, in either order. Must not be called while [`Slot::busy`].
    pub(crate) fn replace(&mut self, order: Order, on_ready: OnReady, cx: &mut Context) -> Option<InstanceId> {
        let mut replaced = None;
        self.give_way(cx);
        self.change_state(|slot, state| match state {
            SlotState::Held(current) => {
                let old = current.id();
                replaced = Some(old);
                match order {
                    Order::StartFirst if current.is_serving() => SlotState::Replacing {
                        current,
                        incoming: Instance::request(slot.id, slot.version, on_ready, cx),
                        cause: Cause::Asked,
                    },
                    Order::StartFirst => {
                        slot.end(current, cx.config().drain_timeout_ms, Why::Replaced, cx);
                        slot.start_afresh(on_ready, cx)
                    }
                    Order::StopFirst => {
                        slot.end(current, cx.config().drain_timeout_ms, Why::Replaced, cx);
                        SlotState::Vacating { old, on_ready }
                    }
                }
            }
            SlotState::Failing { dying, .. } => {
                let old = dying.id();
                replaced = Some(old);
                slot.outgoing.push(dying);
                match order {
                    Order::StartFirst => slot.start_afresh(on_ready, cx),
                    Order::StopFirst => SlotState::Vacating { old, on_ready },
                }
            }
            // An abandoned stop-first rollout: the old instance has been told to stop.
            SlotState::Vacating { old, .. } => {
                replaced = Some(old);
                match order {
                    Order::StartFirst => slot.start_afresh(on_ready, cx),
                    Order::StopFirst => SlotState::Vacating { old, on_ready },
                }
            }
            SlotState::BackingOff { .. } | SlotState::Failed { .. } => slot.start_afresh(on_ready, cx),
            busy @ (SlotState::Replacing { .. } | SlotState::Leaving) => {
                debug_assert!(false, "the caller asks `busy` first");
                busy
            }
        });
        replaced
    }

    pub(super) fn start_new(&mut self, on_ready: OnReady, cx: &mut Context) -> SlotState {
        let instance = Instance::request(self.id, self.version, on_ready, cx);
        self.install(instance, cx)
    }

    /// As [`Slot::start_new`], on a user's request: earlier crashes are forgotten.
    fn start_afresh(&mut self, on_ready: OnReady, cx: &mut Context) -> SlotState {
        self.crashes = 0;
        self.start_new(on_ready, cx)
    }

    /// Gives the slot to the incoming instance. It is published in the next step if it is ready.
    pub(super) fn install(&mut self, mut incoming: Instance, cx: &mut Context) -> SlotState {
        self.took_over += 1;
        if let Some(settled_at) = incoming.take_slot(cx) {
            cx.tell(Happened::Up {
                slot: self.id,
                instance: incoming.id(),
                settled_at,
            });
        }
        SlotState::Held(incoming)
    }

    /// Gives the slot to an incoming instance that is ready, if it has settled or if nobody serves beside it; a hung instance that is still published
    /// doesn't count as serving.
    pub(crate) fn replace_when_settled(&mut self, cx: &mut Context) {
        self.change_state(|slot, state| match state {
            SlotState::Replacing { current, incoming, .. }
                if incoming
                    .settles_until()
                    .is_some_and(|until| until <= cx.now() || !current.is_serving() || current.hangs_in_service()) =>
            {
                slot.end(current, cx.config().drain_timeout_ms, Why::Replaced, cx);
                slot.install(incoming, cx)
            }
            other => other,
        });
    }

    /// Gives up a requested replacement whose new instance has not taken the slot; the old instance goes on. Returns whether there was one.
    pub(crate) fn keep_current(&mut self, cx: &mut Context) -> bool {
        let is_asked = matches!(
            self.state,
            SlotState::Replacing {
                cause: Cause::Asked,
                ..
            }
        );
        self.give_up_incoming(Cause::Asked, cx);
        is_asked
    }

    /// Gives the slot back to the replaced instance if it has not been told to stop yet, and stops the one in the slot. Returns whether it
    /// did.
    pub(crate) fn take_back(&mut self, old: InstanceId, cx: &mut Context) -> bool {
        // A drained instance would have to wait for its drain to end, and what that waits for isn't known any more.
        if self.on_ready() == OnReady::StayWithdrawn
            || matches!(self.state, SlotState::Replacing { .. } | SlotState::Leaving)
        {
            return false;
        }
        let is_meant = |outgoing: &mut Instance| outgoing.id() == old && outgoing.can_be_taken_back();
        let Some(mut old) = self.outgoing.extract_if(.., is_meant).next() else {
            return false;
        };
        old.take_back(cx);
        self.crashes = 0;
        self.change_state(|slot, state| {
            match state {
                SlotState::Held(current) => slot.end(current, cx.config().drain_timeout_ms, Why::GivenUp, cx),
                SlotState::Failing { dying, .. } => slot.outgoing.push(dying),
                SlotState::Replacing { .. }
                | SlotState::Vacating { .. }
                | SlotState::BackingOff { .. }
                | SlotState::Failed { .. }
                | SlotState::Leaving => {}
            }
            SlotState::Held(old)
        });
        true
    }
}
