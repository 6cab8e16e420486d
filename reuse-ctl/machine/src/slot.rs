//! A slot: which instance has it, which is to take it, which are being stopped, and what a crash means.

mod crash;
mod fault_replacement;
mod leave;
mod queries;
mod replace;

use std::mem;

use reuse_common::Share;

use super::context::{Context, Happened};
use super::drain::Waiter;
use super::instance::{Instance, OnReady};
use super::transitions::slot_may_become;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};
use crash::is_stable;
use fault_replacement::{Cause, FaultReplacements};

pub(super) use crash::Departure;

#[derive(Debug)]
pub(super) struct Slot {
    id: SlotId,
    state: SlotState,
    /// Instances that are being stopped, each with its own deadlines.
    outgoing: Vec<Instance>,
    /// Number of crashes and failed starts in a row, none of them of a stable instance.
    crashes: u32,
    /// The instance that was stable when it stopped listening. If it ends without listening again, that is the crash of a stable instance:
    /// the notice that a process has closed its listener mostly comes before the news that it has ended.
    was_stable: Option<InstanceId>,
    /// Number of instances that have had the slot.
    took_over: u64,
    /// The version of the next instance.
    version: VersionId,
    is_canary: bool,
    /// The slot's fixed share of new connections, whichever instance has the slot.
    share: Option<Share>,
    fault_replacements: FaultReplacements,
}

#[derive(Debug)]
enum SlotState {
    /// One instance, starting or serving.
    Held(Instance),
    /// Start-first: the incoming instance takes over when it is ready and has settled, or when the current one doesn't serve any more.
    Replacing {
        current: Instance,
        incoming: Instance,
        cause: Cause,
    },
    /// Stop-first: the next instance is spawned when the old one, which is outgoing, is gone.
    Vacating { old: InstanceId, on_ready: OnReady },
    /// The start failed. The process is killed, and when it is gone that counts as a crash.
    Failing {
        dying: Instance,
        reason: String,
        on_ready: OnReady,
    },
    /// The next instance is spawned after a delay.
    BackingOff {
        until: Millis,
        reason: String,
        on_ready: OnReady,
    },
    /// It crashed too often; only a user's request starts it again.
    Failed { reason: String, on_ready: OnReady },
    /// To be removed when the outgoing instances are gone.
    Leaving,
}

/// Which comes first when an instance is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    StartFirst,
    StopFirst,
}

impl Order {
    pub(super) fn from_flag(stop_first: bool) -> Self {
        if stop_first { Self::StopFirst } else { Self::StartFirst }
    }
}

impl Slot {
    /// A new slot whose first instance is starting.
    pub(super) fn start(id: SlotId, version: VersionId, cx: &mut Context) -> Self {
        let first = Instance::request(id, version, OnReady::Publish, cx);
        Self {
            id,
            state: SlotState::Held(first),
            outgoing: Vec::new(),
            crashes: 0,
            was_stable: None,
            took_over: 1,
            version,
            is_canary: false,
            share: None,
            fault_replacements: FaultReplacements::default(),
        }
    }

    /// As [`Slot::start`], for a canary.
    pub(super) fn start_canary(id: SlotId, version: VersionId, share: Share, cx: &mut Context) -> Self {
        Self {
            is_canary: true,
            share: Some(share),
            ..Self::start(id, version, cx)
        }
    }

    /// Sets the version of future instances. Returns the previous one.
    pub(super) fn set_version(&mut self, version: VersionId) -> VersionId {
        mem::replace(&mut self.version, version)
    }

    pub(super) fn set_share(&mut self, share: Option<Share>) {
        self.share = share;
    }

    pub(super) fn ready(&mut self, id: InstanceId, cx: &mut Context) {
        if let SlotState::Replacing { incoming, .. } = &mut self.state
            && incoming.id() == id
        {
            incoming.settle(cx);
            return self.replace_when_settled(cx);
        }
        if self.instance_mut(id).is_some_and(|instance| instance.ready(cx)) {
            self.was_stable = None;
            // Nobody else served, so it settles in the slot.
            let settled_at = cx.now().plus(cx.config().settle_ms);
            cx.tell(Happened::Up {
                slot: self.id,
                instance: id,
                settled_at,
            });
        }
    }

    pub(super) fn unready(&mut self, id: InstanceId, reason: &str, cx: &mut Context) {
        let Some(instance) = self.instance_mut(id) else { return };
        let (is_stable, was_serving) = (is_stable(instance, cx), instance.is_serving());
        instance.unready(reason, cx);
        if was_serving && !instance.is_serving() {
            cx.tell(Happened::Down { instance: id });
        }
        if is_stable {
            self.crashes = 0;
            self.was_stable = Some(id);
        }
        self.replace_when_settled(cx);
    }

    pub(super) fn departed(&mut self, id: InstanceId, departure: Departure<'_>, cx: &mut Context) {
        let Some(instance) = self.instance_mut(id) else { return };
        if matches!(departure, Departure::NeverSpawned(_)) && !instance.is_requested() {
            return;
        }
        let how = departure.words();
        self.outgoing
            .extract_if(.., |outgoing| outgoing.id() == id)
            .for_each(|gone| gone.depart(&how, departure.cut(), cx));
        self.change_state(|slot, state| match state {
            SlotState::Held(current) if current.id() == id => slot.lose(current, departure, cx),
            SlotState::Failing {
                dying,
                reason,
                on_ready,
            } if dying.id() == id => {
                dying.depart(&how, departure.cut(), cx);
                slot.crash(reason, on_ready, cx)
            }
            SlotState::Replacing { current, incoming, .. } if current.id() == id => {
                current.depart(&how, departure.cut(), cx);
                slot.install(incoming, cx)
            }
            SlotState::Replacing { current, incoming, .. } if incoming.id() == id => {
                cx.tell(Happened::StartFailed {
                    slot: slot.id,
                    instance: id,
                    reason: departure.too_early(incoming.ready_ms(cx.now())),
                });
                incoming.depart(&how, departure.cut(), cx);
                SlotState::Held(current)
            }
            SlotState::Vacating { old, on_ready } if old == id => slot.start_new(on_ready, cx),
            other => other,
        });
        cx.add_cut(self.id, departure.cut());
        cx.tell(Happened::Gone { instance: id });
    }

    /// Carries out what is due.
    pub(super) fn elapse(&mut self, cx: &mut Context) {
        self.instances_mut().for_each(|instance| instance.progress(cx));
        self.change_state(|slot, state| match state {
            SlotState::Held(current) => match current.overdue(cx) {
                Some(reason) => slot.fail(current, reason, cx),
                None => SlotState::Held(current),
            },
            SlotState::Replacing {
                current,
                incoming,
                cause,
            } => match (incoming.overdue(cx), current.overdue(cx)) {
                (Some(reason), _) => {
                    slot.dismiss(incoming, reason, cx);
                    SlotState::Held(current)
                }
                (None, Some(reason)) => {
                    slot.dismiss(current, reason, cx);
                    slot.install(incoming, cx)
                }
                (None, None) => SlotState::Replacing {
                    current,
                    incoming,
                    cause,
                },
            },
            SlotState::BackingOff { until, on_ready, .. } if until <= cx.now() => slot.start_new(on_ready, cx),
            other => other,
        });
        self.replace_when_settled(cx);
    }

    /// See [`Instance::drain`].
    pub(super) fn drain(&mut self, waiter: Option<Waiter>, cx: &mut Context) -> Option<Waiter> {
        self.give_way(cx);
        match &mut self.state {
            SlotState::Held(current) => current.drain(waiter, cx),
            SlotState::Replacing { .. }
            | SlotState::Vacating { .. }
            | SlotState::Failing { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => waiter,
        }
    }

    /// Publishes the instance again, or the next one when it is ready.
    pub(super) fn undrain(&mut self, cx: &mut Context) {
        match &mut self.state {
            SlotState::Held(current) => current.undrain(cx),
            SlotState::Failing { on_ready, .. }
            | SlotState::BackingOff { on_ready, .. }
            | SlotState::Failed { on_ready, .. } => {
                *on_ready = OnReady::Publish;
            }
            SlotState::Replacing { .. } | SlotState::Vacating { .. } | SlotState::Leaving => {}
        }
    }

    /// The only place where the state changes. `next` gets the current state; while it runs, the slot counts as empty.
    fn change_state(&mut self, next: impl FnOnce(&mut Self, SlotState) -> SlotState) {
        let from = self.state.name();
        let state = mem::replace(&mut self.state, SlotState::Leaving);
        self.state = next(self, state);
        let to = self.state.name();
        debug_assert!(
            from == to || slot_may_become(from, to),
            "worker {}: {from} → {to}",
            self.id
        );
    }
}
