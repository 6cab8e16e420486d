//! Read-only queries about a slot.

use reuse_common::Share;

use super::fault_replacement::Cause;
use super::{Slot, SlotState};
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
        match &mut self.state {
            SlotState::Held(current) | SlotState::Replacing { current, .. } if current.is_active() => Some(current),
            _ => None,
        }
    }

    /// The instance that serves here, published or not.
    pub(crate) fn serving_mut(&mut self) -> Option<&mut Instance> {
        match &mut self.state {
            SlotState::Held(current) | SlotState::Replacing { current, .. } if current.is_serving() => Some(current),
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

    /// The version of the instance in the slot, whether or not it serves at the moment.
    pub(crate) fn current_version(&self) -> Option<VersionId> {
        match &self.state {
            SlotState::Held(current) | SlotState::Replacing { current, .. } => Some(current.version()),
            SlotState::Vacating { .. }
            | SlotState::Failing { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => None,
        }
    }

    /// What the next instance must do when it becomes ready.
    pub(crate) fn on_ready(&self) -> OnReady {
        match &self.state {
            SlotState::Held(instance) | SlotState::Replacing { incoming: instance, .. } => instance.on_ready(),
            SlotState::Vacating { on_ready, .. }
            | SlotState::Failing { on_ready, .. }
            | SlotState::BackingOff { on_ready, .. }
            | SlotState::Failed { on_ready, .. } => *on_ready,
            SlotState::Leaving => OnReady::Publish,
        }
    }

    /// Why the slot can't take a request at the moment, if so.
    pub(crate) fn busy(&self) -> Option<Refusal> {
        match &self.state {
            SlotState::Replacing {
                cause: Cause::Asked, ..
            }
            | SlotState::Vacating { .. } => Some(words::under_way(format_args!("a restart of worker {}", self.id))),
            SlotState::Leaving => Some(words::being_removed(self.id)),
            SlotState::Held(_)
            | SlotState::Replacing {
                cause: Cause::Fault, ..
            }
            | SlotState::Failing { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. } => None,
        }
    }

    /// Whether an instance that is ready waits beside a hung one that is still published.
    pub(crate) fn settles_beside_a_hung_one(&self) -> bool {
        match &self.state {
            SlotState::Replacing { current, incoming, .. } => {
                current.hangs_in_service() && incoming.settles_until().is_some()
            }
            SlotState::Held(_)
            | SlotState::Vacating { .. }
            | SlotState::Failing { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => false,
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.state, SlotState::Leaving)
    }

    /// Whether the slot was to be removed and nothing of it is left.
    pub(crate) fn has_left(&self) -> bool {
        self.is_leaving() && self.outgoing.is_empty()
    }

    /// Whether the slot won't start again by itself and nothing of it is left.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state, SlotState::Failed { .. }) && self.outgoing.is_empty()
    }

    /// What happens next while nobody serves here.
    pub(crate) fn next(&self, cx: &Context) -> Next {
        match &self.state {
            SlotState::Held(_) | SlotState::Replacing { .. } | SlotState::Vacating { .. } => Next::Starts,
            SlotState::Failing { .. } if self.crashes + 1 < cx.config().crash_limit => Next::StartsWhenGone,
            SlotState::BackingOff { until, .. } => Next::StartsIn {
                ms: until.since(cx.now()),
            },
            SlotState::Failing { .. } | SlotState::Failed { .. } | SlotState::Leaving => Next::IsLeftAlone,
        }
    }

    /// Why it is failed, backing off or about to be. Follows its name.
    pub(crate) fn reason(&self) -> Option<&str> {
        match &self.state {
            SlotState::Failing { reason, .. }
            | SlotState::BackingOff { reason, .. }
            | SlotState::Failed { reason, .. } => Some(reason),
            SlotState::Held(_) | SlotState::Replacing { .. } | SlotState::Vacating { .. } | SlotState::Leaving => None,
        }
    }

    /// When something is due if nothing else happens.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Millis> {
        let restart = match self.state {
            SlotState::BackingOff { until, .. } => Some(until),
            SlotState::Held(_)
            | SlotState::Replacing { .. }
            | SlotState::Vacating { .. }
            | SlotState::Failing { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => None,
        };
        self.instances()
            .filter_map(|instance| instance.deadline(config))
            .chain(restart)
            .min()
    }

    /// What `status` shows: the state of the current instance, or of the slot if none runs.
    pub(crate) fn worker_state(&self) -> WorkerState {
        match &self.state {
            SlotState::Held(current) | SlotState::Replacing { current, .. } => current.state(),
            SlotState::Leaving if self.outgoing.is_empty() => WorkerState::Exited,
            SlotState::Vacating { .. } | SlotState::Failing { .. } | SlotState::Leaving => WorkerState::Stopping,
            SlotState::BackingOff { .. } => WorkerState::BackingOff,
            SlotState::Failed { .. } => WorkerState::Failed,
        }
    }

    pub(crate) fn view(&self) -> SlotView {
        let current = self.current();
        SlotView {
            id: self.id,
            state: self.worker_state(),
            current: current.map(Instance::id),
            pid: current.and_then(Instance::pid),
            started_at: current.map(Instance::requested_at),
            active_at: current.and_then(Instance::ready_at),
            restarts: self.took_over - 1,
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
        match &self.state {
            SlotState::Held(current)
            | SlotState::Replacing { current, .. }
            | SlotState::Failing { dying: current, .. } => Some(current),
            SlotState::Vacating { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => None,
        }
    }

    /// The current instance, the incoming one, and the outgoing ones.
    fn instances(&self) -> impl Iterator<Item = &Instance> {
        let incoming = match &self.state {
            SlotState::Replacing { incoming, .. } => Some(incoming),
            SlotState::Held(_)
            | SlotState::Vacating { .. }
            | SlotState::Failing { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => None,
        };
        self.current().into_iter().chain(incoming).chain(&self.outgoing)
    }

    pub(super) fn instances_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        let (current, incoming) = match &mut self.state {
            SlotState::Held(current) | SlotState::Failing { dying: current, .. } => (Some(current), None),
            SlotState::Replacing { current, incoming, .. } => (Some(current), Some(incoming)),
            SlotState::Vacating { .. }
            | SlotState::BackingOff { .. }
            | SlotState::Failed { .. }
            | SlotState::Leaving => (None, None),
        };
        current.into_iter().chain(incoming).chain(&mut self.outgoing)
    }
}

impl SlotState {
    /// The state's name in the transition table.
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
