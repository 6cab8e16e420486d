//! How another instance takes the seat.

use super::recovery::Cause;
use super::{Order, Seat, Slot};
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
        self.reseat(|slot, seat| match seat {
            Seat::Held(current) => {
                let old = current.id();
                replaced = Some(old);
                match order {
                    Order::StartFirst if current.is_serving() => Seat::Replacing {
                        current,
                        incoming: Instance::request(slot.id, slot.version, on_ready, cx),
                        cause: Cause::Asked,
                    },
                    Order::StartFirst => {
                        slot.end(current, cx.config().drain_timeout_ms, Why::Replaced, cx);
                        slot.seat_afresh(on_ready, cx)
                    }
                    Order::StopFirst => {
                        slot.end(current, cx.config().drain_timeout_ms, Why::Replaced, cx);
                        Seat::Vacating { old, on_ready }
                    }
                }
            }
            Seat::Failing { dying, .. } => {
                let old = dying.id();
                replaced = Some(old);
                slot.outgoing.push(dying);
                match order {
                    Order::StartFirst => slot.seat_afresh(on_ready, cx),
                    Order::StopFirst => Seat::Vacating { old, on_ready },
                }
            }
            // An abandoned stop-first rollout: the old instance has been told to stop.
            Seat::Vacating { old, .. } => {
                replaced = Some(old);
                match order {
                    Order::StartFirst => slot.seat_afresh(on_ready, cx),
                    Order::StopFirst => Seat::Vacating { old, on_ready },
                }
            }
            Seat::BackingOff { .. } | Seat::Failed { .. } => slot.seat_afresh(on_ready, cx),
            busy @ (Seat::Replacing { .. } | Seat::Leaving) => {
                debug_assert!(false, "the caller asks `busy` first");
                busy
            }
        });
        replaced
    }

    pub(super) fn seat_new(&mut self, on_ready: OnReady, cx: &mut Context) -> Seat {
        let instance = Instance::request(self.id, self.version, on_ready, cx);
        self.seat_incoming(instance, cx)
    }

    /// As [`Slot::seat_new`], on a user's request: earlier crashes are forgotten.
    fn seat_afresh(&mut self, on_ready: OnReady, cx: &mut Context) -> Seat {
        self.crashes = 0;
        self.seat_new(on_ready, cx)
    }

    /// Seats the incoming instance. It is published in the next step if it is ready.
    pub(super) fn seat_incoming(&mut self, mut incoming: Instance, cx: &mut Context) -> Seat {
        self.seated += 1;
        if let Some(settled_at) = incoming.take_seat(cx) {
            cx.tell(Happened::Up {
                slot: self.id,
                instance: incoming.id(),
                settled_at,
            });
        }
        Seat::Held(incoming)
    }

    /// Seats an incoming instance that is ready, if it has settled or if nobody serves beside it; a hung instance that is still published
    /// doesn't count as serving.
    pub(crate) fn replace_when_settled(&mut self, cx: &mut Context) {
        self.reseat(|slot, seat| match seat {
            Seat::Replacing { current, incoming, .. }
                if incoming
                    .settles_until()
                    .is_some_and(|until| until <= cx.now() || !current.is_serving() || current.hangs_in_service()) =>
            {
                slot.end(current, cx.config().drain_timeout_ms, Why::Replaced, cx);
                slot.seat_incoming(incoming, cx)
            }
            other => other,
        });
    }

    /// Gives up a requested replacement whose new instance has not taken the seat; the old instance goes on. Returns whether there was one.
    pub(crate) fn keep_current(&mut self, cx: &mut Context) -> bool {
        let is_asked = matches!(
            self.seat,
            Seat::Replacing {
                cause: Cause::Asked,
                ..
            }
        );
        self.give_up_incoming(Cause::Asked, cx);
        is_asked
    }

    /// Gives the seat back to the replaced instance if it has not been told to stop yet, and stops the one in the seat. Returns whether it
    /// did.
    pub(crate) fn take_back(&mut self, old: InstanceId, cx: &mut Context) -> bool {
        // A drained instance would have to wait for its drain to end, and what that waits for isn't known any more.
        if self.on_ready() == OnReady::StayWithdrawn || matches!(self.seat, Seat::Replacing { .. } | Seat::Leaving) {
            return false;
        }
        let is_meant = |outgoing: &mut Instance| outgoing.id() == old && outgoing.can_be_taken_back();
        let Some(mut old) = self.outgoing.extract_if(.., is_meant).next() else {
            return false;
        };
        old.take_back(cx);
        self.crashes = 0;
        self.reseat(|slot, seat| {
            match seat {
                Seat::Held(current) => slot.end(current, cx.config().drain_timeout_ms, Why::GivenUp, cx),
                Seat::Failing { dying, .. } => slot.outgoing.push(dying),
                Seat::Replacing { .. }
                | Seat::Vacating { .. }
                | Seat::BackingOff { .. }
                | Seat::Failed { .. }
                | Seat::Leaving => {}
            }
            Seat::Held(old)
        });
        true
    }
}
