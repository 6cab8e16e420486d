//! One instance, which is one process incarnation of a slot, and its phases.

mod changes;
mod end;
mod well_being;

use reuse_common::stall::Watch;

use super::context::Context;
use super::drain::Drain;
use super::ending::Ending;
use super::fault::Vigil;
use super::words;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};
use crate::interface::Config;
use crate::states::WorkerState;

/// What an instance does when it becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnReady {
    Publish,
    /// A user has drained the slot and not undrained it: the instance waits, drained.
    StayWithdrawn,
}

#[derive(Debug)]
pub(super) struct Instance {
    id: InstanceId,
    slot: SlotId,
    version: VersionId,
    requested_at: Millis,
    /// Whether it listens, in any phase.
    listens: bool,
    /// Kept while the instance is withdrawn, because it holds what is known about the worker's speed.
    watch: Box<Watch>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The process is to be spawned; it is not known yet whether it exists.
    Requested(Plan),
    /// The process runs and doesn't serve yet, or not any more.
    Starting { pid: u32, on_ready: OnReady, stage: Stage },
    /// It has become ready and has the slot.
    Serving {
        pid: u32,
        ready_at: Millis,
        standing: Standing,
    },
    /// It is being stopped.
    Stopping { pid: u32, ending: Ending },
}

/// What an instance that starts is waiting for.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It has no listener yet.
    Booting { deadline: Millis },
    /// It had listeners and has none any more.
    ListenersLost { ready_at: Millis, deadline: Millis },
    /// It is ready, and must stay so for a while before it replaces the instance that serves.
    Settling { ready_at: Millis, until: Millis },
}

/// What to do once the process exists. Before that, nothing can be sent to it.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Start { deadline: Millis, on_ready: OnReady },
    Terminate { grace_ms: u64 },
    Kill,
}

#[derive(Debug)]
enum Standing {
    /// Published, unless it is withdrawn for a fault.
    Active(Box<Vigil>),
    /// Withdrawn by a user; something may be left on it.
    Draining(Drain),
    /// Withdrawn by a user; nothing is left on it.
    Drained { listening: bool },
}

impl Instance {
    /// Requests that its process be spawned.
    pub(super) fn request(slot: SlotId, version: VersionId, on_ready: OnReady, cx: &mut Context) -> Self {
        let deadline = cx.now().plus(cx.config().ready_timeout_ms);
        let phase = Phase::Requested(Plan::Start { deadline, on_ready });
        Self {
            id: cx.spawn(slot, version),
            slot,
            version,
            requested_at: cx.now(),
            listens: false,
            watch: Box::default(),
            phase,
        }
    }

    pub(super) fn id(&self) -> InstanceId {
        self.id
    }

    /// The version that it was started from.
    pub(super) fn version(&self) -> VersionId {
        self.version
    }

    pub(super) fn requested_at(&self) -> Millis {
        self.requested_at
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Requested(_) => None,
            Phase::Starting { pid, .. } | Phase::Serving { pid, .. } | Phase::Stopping { pid, .. } => Some(pid),
        }
    }

    /// The name for messages: "worker 2 (pid 411)".
    pub(super) fn name(&self) -> String {
        words::worker(self.slot, self.pid())
    }

    pub(super) fn state(&self) -> WorkerState {
        match &self.phase {
            Phase::Requested(Plan::Start { .. }) | Phase::Starting { .. } => WorkerState::Starting,
            Phase::Requested(Plan::Terminate { .. } | Plan::Kill) | Phase::Stopping { .. } => WorkerState::Stopping,
            Phase::Serving { standing, .. } => match standing {
                Standing::Active(_) => WorkerState::Active,
                Standing::Draining(_) => WorkerState::Draining,
                Standing::Drained { .. } => WorkerState::Drained,
            },
        }
    }

    /// Since when it has been ready without a break; `None` if it doesn't have the slot.
    pub(super) fn ready_at(&self) -> Option<Millis> {
        match self.phase {
            Phase::Serving { ready_at, .. } => Some(ready_at),
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// Whether it is ready and not withdrawn by a user.
    pub(super) fn is_active(&self) -> bool {
        self.vigil().is_some()
    }

    pub(super) fn is_published(&self) -> bool {
        self.vigil().is_some_and(|vigil| !vigil.is_withdrawn())
    }

    /// When it will have settled, if it is settling.
    pub(super) fn settles_until(&self) -> Option<Millis> {
        match self.phase {
            Phase::Starting {
                stage: Stage::Settling { until, .. },
                ..
            } => Some(until),
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Serving { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// How long ago it became ready, in milliseconds, whether it has the slot or is settling, and whether or not it still listens: a
    /// process that dies closes its listeners first.
    pub(super) fn ready_ms(&self, now: Millis) -> Option<u64> {
        match self.phase {
            Phase::Serving { ready_at, .. }
            | Phase::Starting {
                stage: Stage::Settling { ready_at, .. } | Stage::ListenersLost { ready_at, .. },
                ..
            } => Some(now.since(ready_at)),
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Stopping { .. } => None,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// Whether it was withdrawn in order to be stopped, and could still go on serving.
    pub(super) fn can_be_taken_back(&self) -> bool {
        let is_emptying = matches!(
            self.phase,
            Phase::Stopping {
                ending: Ending::Emptying { .. },
                ..
            }
        );
        is_emptying && self.listens
    }

    /// Whether it is not known yet that its process exists.
    pub(super) fn is_requested(&self) -> bool {
        matches!(self.phase, Phase::Requested(_))
    }

    /// What its successor must do when it becomes ready.
    pub(super) fn on_ready(&self) -> OnReady {
        match self.phase {
            Phase::Requested(Plan::Start { on_ready, .. }) | Phase::Starting { on_ready, .. } => on_ready,
            Phase::Serving {
                standing: Standing::Draining(_) | Standing::Drained { .. },
                ..
            } => OnReady::StayWithdrawn,
            Phase::Serving {
                standing: Standing::Active(_),
                ..
            }
            | Phase::Requested(_)
            | Phase::Stopping { .. } => OnReady::Publish,
        }
    }

    /// When something is due if nothing else happens.
    pub(super) fn deadline(&self, config: &Config) -> Option<Millis> {
        match &self.phase {
            Phase::Requested(Plan::Start { deadline, .. }) => Some(*deadline),
            Phase::Starting { stage, .. } => Some(stage.end()),
            Phase::Serving {
                standing: Standing::Draining(drain),
                ..
            } => drain.deadline(),
            Phase::Serving {
                standing: Standing::Active(vigil),
                ..
            } => vigil.fault()?.deadline(config),
            Phase::Stopping { ending, .. } => ending.deadline(config),
            Phase::Requested(Plan::Terminate { .. } | Plan::Kill) | Phase::Serving { .. } => None,
        }
    }

    /// The reason why it counts as failed, which follows a worker's name, if it should be ready by now. The consequence depends on its
    /// place in the slot.
    pub(super) fn overdue(&self, cx: &Context) -> Option<String> {
        let patience = words::seconds(cx.config().ready_timeout_ms);
        let stage = match self.phase {
            Phase::Requested(Plan::Start { deadline, .. }) => Stage::Booting { deadline },
            Phase::Starting { stage, .. } => stage,
            Phase::Requested(_) | Phase::Serving { .. } | Phase::Stopping { .. } => return None,
        };
        let is_over = stage.end() <= cx.now();
        match stage {
            Stage::Booting { .. } => is_over.then(|| format!("was not ready within {patience}")),
            Stage::ListenersLost { .. } => {
                is_over.then(|| format!("lost its listeners and had none again within {patience}"))
            }
            // It has become ready in time.
            Stage::Settling { .. } => None,
        }
    }

    /// The phase's name in the transition table.
    fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Requested(_) => "requested",
            Phase::Starting {
                stage: Stage::Settling { .. },
                ..
            } => "settling",
            Phase::Starting { .. } => "starting",
            Phase::Serving {
                standing: Standing::Active(_),
                ..
            } => "active",
            Phase::Serving {
                standing: Standing::Draining(_),
                ..
            } => "draining",
            Phase::Serving {
                standing: Standing::Drained { .. },
                ..
            } => "drained",
            Phase::Stopping { ending, .. } => ending.name(),
        }
    }
}

impl Stage {
    fn end(self) -> Millis {
        match self {
            Self::Booting { deadline } | Self::ListenersLost { deadline, .. } => deadline,
            Self::Settling { until, .. } => until,
        }
    }
}
