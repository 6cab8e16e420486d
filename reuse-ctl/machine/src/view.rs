//! What `status` is made of.

use reuse_common::{Policy, Share};

use super::instance::Instance;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};
use crate::interface::Cut;
use crate::states::{FaultKind, WorkerState};

/// The whole app at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How workers are chosen.
    pub policy: Policy,
    /// What the app's slots run: not a canary's, nor one that is still on its way to all of them.
    pub version: VersionId,
    /// Whether everything is being ended, or has ended.
    pub stopping: bool,
    /// Whether every worker has failed: none runs or will be started again by itself.
    pub all_failed: bool,
    /// In slot order.
    pub slots: Vec<SlotView>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Its number.
    pub id: SlotId,
    /// The state of the current instance, or of the slot when none runs.
    pub state: WorkerState,
    /// The current instance, if there is one.
    pub current: Option<InstanceId>,
    /// Its main process, when it is known.
    pub pid: Option<u32>,
    /// When its start was asked for.
    pub started_at: Option<Millis>,
    /// Since when it has been ready without a break, whether it is published or withdrawn.
    pub active_at: Option<Millis>,
    /// Instances that took the place of an earlier one, for whatever reason.
    pub restarts: u64,
    /// Why it is failed, backing off or about to be, to follow the worker's name: "exited with code 1".
    pub reason: Option<String>,
    /// Whether it may be chosen.
    pub published: bool,
    /// What is wrong with the current instance.
    pub fault: Option<FaultView>,
    /// Its fixed share of new connections.
    pub share: Option<Share>,
    /// What its next instance is started from.
    pub version: VersionId,
    /// Whether it is a canary's.
    pub canary: bool,
    /// Whether the slot goes: a person can't name it any more.
    pub leaving: bool,
    /// Connections that the ends of its instances have cut.
    pub cut: Cut,
    /// The current one, the incoming one, the outgoing ones.
    pub instances: Vec<InstanceView>,
}

/// A fault of an active instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultView {
    /// Which.
    pub kind: FaultKind,
    /// When it was noticed.
    pub since: Millis,
    /// Whether the instance is withdrawn for it.
    pub withdrawn: bool,
    /// In one line, to follow the worker's name.
    pub reason: String,
}

/// One instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceView {
    /// Which.
    pub id: InstanceId,
    /// Its main process; absent until it is known.
    pub pid: Option<u32>,
    /// Its own state.
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
