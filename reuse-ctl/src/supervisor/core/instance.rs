//! One process incarnation and its phases.

mod changes;
mod end;
mod well_being;

use reuse_common::stall::Watch;

use super::context::Context;
use super::drain::Drain;
use super::ending::Ending;
use super::fault::Vigil;
use super::words;
use crate::api::types::WorkerState;
use crate::supervisor::interface::{Config, InstanceId, Millis, SlotId, VersionId};

/// What becomes of an instance when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnReady {
    Publish,
    /// A person drained the slot and has not undrained it: the instance waits, drained.
    StayWithdrawn,
}

#[derive(Debug)]
pub(super) struct Instance {
    id: InstanceId,
    slot: SlotId,
    requested_at: Millis,
    /// What it can do is remembered while it is withdrawn.
    watch: Box<Watch>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// To be spawned; whether a process exists is not known yet.
    Requested(Plan),
    /// It runs and has no listener yet, or none any more.
    Starting {
        pid: u32,
        deadline: Millis,
        on_ready: OnReady,
        had_listeners: bool,
    },
    /// It has become ready.
    Serving {
        pid: u32,
        ready_at: Millis,
        standing: Standing,
    },
    /// It is not to live on.
    Stopping { pid: u32, ending: Ending },
}

/// What to do once the process exists. It can't be told anything before.
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
    /// Withdrawn by a person; something may be left on it.
    Draining(Drain),
    /// Withdrawn by a person; nothing is left on it.
    Drained { listening: bool },
}

impl Instance {
    /// Has a process spawned.
    pub(super) fn request(slot: SlotId, version: VersionId, on_ready: OnReady, cx: &mut Context) -> Self {
        let deadline = cx.now().plus(cx.config().ready_timeout_ms);
        let phase = Phase::Requested(Plan::Start { deadline, on_ready });
        Self {
            id: cx.spawn(slot, version),
            slot,
            requested_at: cx.now(),
            watch: Box::default(),
            phase,
        }
    }

    pub(super) fn id(&self) -> InstanceId {
        self.id
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

    /// "worker 2 (pid 411)".
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

    /// Since when it has been ready without a break, if it is.
    pub(super) fn ready_at(&self) -> Option<Millis> {
        match self.phase {
            Phase::Serving { ready_at, .. } => Some(ready_at),
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// Ready, and not withdrawn by a person.
    pub(super) fn is_active(&self) -> bool {
        self.vigil().is_some()
    }

    pub(super) fn is_published(&self) -> bool {
        self.vigil().is_some_and(|vigil| !vigil.is_withdrawn())
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// Whether it is not known yet that a process exists.
    pub(super) fn is_requested(&self) -> bool {
        matches!(self.phase, Phase::Requested(_))
    }

    /// What an instance that takes its place has to do when it is ready.
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
            Phase::Requested(Plan::Start { deadline, .. }) | Phase::Starting { deadline, .. } => Some(*deadline),
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

    /// Why it counts as failed, to follow a worker's name, if it should have been ready by now. What that means depends on its
    /// place in the slot.
    pub(super) fn overdue(&self, cx: &Context) -> Option<String> {
        let patience = words::seconds(cx.config().ready_timeout_ms);
        match self.phase {
            Phase::Requested(Plan::Start { deadline, .. }) | Phase::Starting { deadline, .. }
                if deadline > cx.now() =>
            {
                None
            }
            Phase::Starting {
                had_listeners: true, ..
            } => Some(format!("lost its listeners and had none again within {patience}")),
            Phase::Requested(Plan::Start { .. }) | Phase::Starting { .. } => {
                Some(format!("was not ready within {patience}"))
            }
            Phase::Requested(_) | Phase::Serving { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// The word of the transition table.
    fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Requested(_) => "requested",
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
