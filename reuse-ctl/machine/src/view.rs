//! The data that `status` shows.

use reuse_common::{Policy, Share};

use super::instance::Instance;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};
use crate::interface::Cut;
use crate::states::{FaultKind, WorkerState};

/// The whole app at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The policy by which workers are chosen.
    pub policy: Policy,
    /// The version of the app's slots; not a canary's, nor one that is still being rolled out.
    pub version: VersionId,
    /// Whether the app is being stopped, or has stopped.
    pub stopping: bool,
    /// Whether every worker has failed: none runs or will be started again without a request.
    pub all_failed: bool,
    /// In slot order.
    pub slots: Vec<SlotView>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Its number.
    pub id: SlotId,
    /// The state of the current instance, or of the slot if none runs.
    pub state: WorkerState,
    /// The current instance, if there is one.
    pub current: Option<InstanceId>,
    /// The pid of its main process, if known.
    pub pid: Option<u32>,
    /// When its start was requested.
    pub started_at: Option<Millis>,
    /// Since when it has been ready without a break, published or withdrawn.
    pub active_at: Option<Millis>,
    /// Number of instances that have replaced an earlier one, for any reason.
    pub restarts: u64,
    /// Why it is failed, backing off or about to be. Follows the worker's name: "exited with code 1".
    pub reason: Option<String>,
    /// Whether it may be chosen.
    pub published: bool,
    /// The fault of the current instance.
    pub fault: Option<FaultView>,
    /// Its fixed share of new connections.
    pub share: Option<Share>,
    /// The version of its next instance.
    pub version: VersionId,
    /// Whether it is a canary's slot.
    pub canary: bool,
    /// Whether the slot is being removed: users can't name it any more.
    pub leaving: bool,
    /// Connections cut by the ends of its instances.
    pub cut: Cut,
    /// The current instance, the incoming one, and the outgoing ones.
    pub instances: Vec<InstanceView>,
}

/// A fault of an active instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultView {
    /// The kind of fault.
    pub kind: FaultKind,
    /// When it was noticed.
    pub since: Millis,
    /// Whether the instance is withdrawn for it.
    pub withdrawn: bool,
    /// The reason, in one line that follows the worker's name.
    pub reason: String,
}

/// One instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceView {
    /// The instance's id.
    pub id: InstanceId,
    /// The pid of its main process; `None` until known.
    pub pid: Option<u32>,
    /// The state of the instance.
    pub state: WorkerState,
}

impl InstanceView {
    pub(super) fn of(instance: &Instance) -> Self {
        Self {
            id: instance.id(),
            pid: instance.pid(),
            state: instance.state(),
        }
    }
}
