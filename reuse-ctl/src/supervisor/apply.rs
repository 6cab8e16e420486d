//! `apply`: changes the running app to match a specification, step by step. Each step is an ordinary request to the machine.
//!
//! The specification is first resolved beside the task (`wanted.rs`), and refused before anything is changed if it can't be applied. Then
//! the steps are, in this order: the rollout of the new version, changes that touch no worker, the policy, the number of workers. So if the
//! rollout fails, the old specification stays in force as a whole, and nothing that comes later undoes a rollout that succeeded. Only the
//! rules for starts are needed earlier: while instances of both versions are started, the longer ready timeout, the longer settle time and
//! the new surge apply.

use super::wanted::WatchedFiles;
use crate::{
    app::{
        difference::{Difference, TakesEffect},
        options::RunOptions,
    },
    base::RequestId,
    supervisor::preparing,
};
use reuse_machine::interface::{Command, Rules};
use std::{collections::VecDeque, sync::Arc};

/// The `apply` in progress.
#[derive(Debug)]
pub(crate) struct Applying {
    /// The request that waits for its end.
    pub(crate) client: RequestId,
    pub(crate) difference: Difference,
    pub(crate) old: Arc<RunOptions>,
    pub(crate) new: Arc<RunOptions>,
    /// Watched files that replace the old ones once the changes that touch no worker are made.
    pub(crate) watch: Option<WatchedFiles>,
    /// The current step, and its request to the machine.
    pub(crate) step: (Step, RequestId),
    pub(crate) todo: VecDeque<(Step, Command)>,
    /// What was done so far, for the user.
    pub(crate) done: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Reload,
    /// Every worker has failed, and there is no new version to roll out.
    StartAnew,
    Policy,
    Scale,
}

impl Step {
    pub(crate) fn takes_effect(self) -> TakesEffect {
        match self {
            Self::Reload | Self::StartAnew => TakesEffect::Reload,
            Self::Policy => TakesEffect::Policy,
            Self::Scale => TakesEffect::Scale,
        }
    }
}

impl Applying {
    pub(crate) fn waits_for(&self, id: RequestId) -> bool {
        self.step.1 == id
    }
}

/// The old rules, with the longer timeouts of both versions, because workers of both are started (of the old one if it has to come back).
/// The surge is that of the new version, which is being rolled out.
pub(crate) fn while_both_start(old: &RunOptions, new: &RunOptions) -> Rules {
    let (old, new) = (preparing::rules(old), preparing::rules(new));
    Rules {
        ready_timeout_ms: old.ready_timeout_ms.max(new.ready_timeout_ms),
        settle_ms: old.settle_ms.max(new.settle_ms),
        surge: new.surge,
        ..old
    }
}
