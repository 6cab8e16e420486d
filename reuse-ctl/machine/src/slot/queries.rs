//! Read-only queries about a slot.

use reuse_common::Share;

use super::recovery::Cause;
use super::{Seat, Slot};
use crate::context::Context;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};
use crate::instance::{Instance, OnReady};
use crate::interface::{Config, Cut, Refusal};
use crate::left::Next;
use crate::states::WorkerState;
use crate::view::{InstanceView, SlotView};
use crate::words;

impl Slot {
    pub(crate) fn id(&self) -> SlotId {
        self.id
    }

    /// The only instance that may be chosen; there is never a second one.
    pub(crate) fn published_instance(&self) -> Option<InstanceId> {
        self.current()
            .filter(|current| current.is_published())
            .map(Instance::id)
    }

    /// The instance that serves here and was not withdrawn by a user; there is never a second one.
    pub(crate) fn active(&self) -> Option<&Instance> {
        self.current().filter(|current| current.is_active())
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Instance> {
        match &mut self.seat {
            Seat::Held(current) | Seat::Replacing { current, .. } if current.is_active() => Some(current),
            _ => None,
        }
    }

    /// The instance that serves here, published or not.
    pub(crate) fn serving_mut(&mut self) -> Option<&mut Instance> {
        match &mut self.seat {
            Seat::Held(current) | Seat::Replacing { current, .. } if current.is_serving() => Some(current),
            _ => None,
        }
    }

    pub(crate) fn version(&self) -> VersionId {
        self.version
    }

    pub(crate) fn share(&self) -> Option<Share> {
        self.share
    }

    pub(crate) fn is_canary(&self) -> bool {
        self.is_canary
    }

    /// The pid of the process that serves here, published or not.
    pub(crate) fn serving_pid(&self) -> Option<u32> {
        self.current().filter(|current| current.is_serving())?.pid()
    }

    /// The version of the instance in the seat, whether or not it serves at the moment.
    pub(crate) fn seated_version(&self) -> Option<VersionId> {
        match &self.seat {
            Seat::Held(current) | Seat::Replacing { current, .. } => Some(current.version()),
            Seat::Vacating { .. }
            | Seat::Failing { .. }
            | Seat::BackingOff { .. }
            | Seat::Failed { .. }
            | Seat::Leaving => None,
        }
    }

    /// What the next instance must do when it becomes ready.
    pub(crate) fn on_ready(&self) -> OnReady {
        match &self.seat {
            Seat::Held(instance) | Seat::Replacing { incoming: instance, .. } => instance.on_ready(),
            Seat::Vacating { on_ready, .. }
            | Seat::Failing { on_ready, .. }
            | Seat::BackingOff { on_ready, .. }
            | Seat::Failed { on_ready, .. } => *on_ready,
            Seat::Leaving => OnReady::Publish,
        }
    }

    /// Why the slot can't take a request at the moment, if so.
    pub(crate) fn busy(&self) -> Option<Refusal> {
        match &self.seat {
            Seat::Replacing {
                cause: Cause::Asked, ..
            }
            | Seat::Vacating { .. } => Some(words::under_way(format_args!("a restart of worker {}", self.id))),
            Seat::Leaving => Some(words::being_removed(self.id)),
            Seat::Held(_)
            | Seat::Replacing {
                cause: Cause::Fault, ..
            }
            | Seat::Failing { .. }
            | Seat::BackingOff { .. }
            | Seat::Failed { .. } => None,
        }
    }

    /// Whether an instance that is ready waits beside a hung one that is still published.
    pub(crate) fn settles_beside_a_hung_one(&self) -> bool {
        match &self.seat {
            Seat::Replacing { current, incoming, .. } => {
                current.hangs_in_service() && incoming.settles_until().is_some()
            }
            Seat::Held(_)
            | Seat::Vacating { .. }
            | Seat::Failing { .. }
            | Seat::BackingOff { .. }
            | Seat::Failed { .. }
            | Seat::Leaving => false,
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.seat, Seat::Leaving)
    }

    /// Whether the slot was to be removed and nothing of it is left.
    pub(crate) fn has_left(&self) -> bool {
        self.is_leaving() && self.outgoing.is_empty()
    }

    /// Whether the slot won't start again by itself and nothing of it is left.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.seat, Seat::Failed { .. }) && self.outgoing.is_empty()
    }

    /// What happens next while nobody serves here.
    pub(crate) fn next(&self, cx: &Context) -> Next {
        match &self.seat {
            Seat::Held(_) | Seat::Replacing { .. } | Seat::Vacating { .. } => Next::Starts,
            Seat::Failing { .. } if self.crashes + 1 < cx.config().crash_limit => Next::StartsWhenGone,
            Seat::BackingOff { until, .. } => Next::StartsIn {
                ms: until.since(cx.now()),
            },
            Seat::Failing { .. } | Seat::Failed { .. } | Seat::Leaving => Next::IsLeftAlone,
        }
    }

    /// Why it is failed, backing off or about to be. Follows its name.
    pub(crate) fn reason(&self) -> Option<&str> {
        match &self.seat {
            Seat::Failing { reason, .. } | Seat::BackingOff { reason, .. } | Seat::Failed { reason, .. } => {
                Some(reason)
            }
            Seat::Held(_) | Seat::Replacing { .. } | Seat::Vacating { .. } | Seat::Leaving => None,
        }
    }

    /// When something is due if nothing else happens.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Millis> {
        let restart = match self.seat {
            Seat::BackingOff { until, .. } => Some(until),
            _ => None,
        };
        self.instances()
            .filter_map(|instance| instance.deadline(config))
            .chain(restart)
            .min()
    }

    /// The state of the current instance, or of the slot if none runs.
    pub(crate) fn state(&self) -> WorkerState {
        match &self.seat {
            Seat::Held(current) | Seat::Replacing { current, .. } => current.state(),
            Seat::Leaving if self.outgoing.is_empty() => WorkerState::Exited,
            Seat::Vacating { .. } | Seat::Failing { .. } | Seat::Leaving => WorkerState::Stopping,
            Seat::BackingOff { .. } => WorkerState::BackingOff,
            Seat::Failed { .. } => WorkerState::Failed,
        }
    }

    pub(crate) fn view(&self) -> SlotView {
        let current = self.current();
        SlotView {
            id: self.id,
            state: self.state(),
            current: current.map(Instance::id),
            pid: current.and_then(Instance::pid),
            started_at: current.map(Instance::requested_at),
            active_at: current.and_then(Instance::ready_at),
            restarts: self.seated - 1,
            reason: self.reason().map(str::to_owned),
            published: self.published_instance().is_some(),
            fault: current.and_then(Instance::fault_view),
            share: self.share,
            version: self.version,
            canary: self.is_canary,
            leaving: self.is_leaving(),
            cut: Cut::default(),
            instances: self.instances().map(InstanceView::of).collect(),
        }
    }

    pub(crate) fn instance_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.instances_mut().find(|instance| instance.id() == id)
    }

    fn current(&self) -> Option<&Instance> {
        match &self.seat {
            Seat::Held(current) | Seat::Replacing { current, .. } | Seat::Failing { dying: current, .. } => {
                Some(current)
            }
            Seat::Vacating { .. } | Seat::BackingOff { .. } | Seat::Failed { .. } | Seat::Leaving => None,
        }
    }

    /// The current instance, the incoming one, and the outgoing ones.
    fn instances(&self) -> impl Iterator<Item = &Instance> {
        let incoming = match &self.seat {
            Seat::Replacing { incoming, .. } => Some(incoming),
            _ => None,
        };
        self.current().into_iter().chain(incoming).chain(&self.outgoing)
    }

    pub(super) fn instances_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        let (current, incoming) = match &mut self.seat {
            Seat::Held(current) | Seat::Failing { dying: current, .. } => (Some(current), None),
            Seat::Replacing { current, incoming, .. } => (Some(current), Some(incoming)),
            Seat::Vacating { .. } | Seat::BackingOff { .. } | Seat::Failed { .. } | Seat::Leaving => (None, None),
        };
        current.into_iter().chain(incoming).chain(&mut self.outgoing)
    }
}

impl Seat {
    /// The seat's name in the transition table.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Replacing { .. } => "replacing",
            Self::Vacating { .. } => "vacating",
            Self::Failing { .. } => "failing",
            Self::BackingOff { .. } => "backing off",
            Self::Failed { .. } => "failed",
            Self::Leaving => "leaving",
        }
    }
}
