//! `apply`: makes the running app what a specification says, step by step, each an ordinary request to the machine.
//!
//! What it asks for is looked up beside the task (`wanted.rs`). What can't be done then is refused before anything is changed. Else, in this
//! order: the new version by a rollout, what needs no worker touched, the policy, the number of workers. So a rollout that fails leaves the
//! old specification in force as a whole, for the workers that go on with it; nothing later undoes one that succeeded. Only what is about
//! starts is needed before: while both versions are started, the longer ready timeout and the longer settle time count, and the new surge.

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

/// What is under way.
#[derive(Debug)]
pub(crate) struct Applying {
    /// Who waits for the end of it.
    pub(crate) client: RequestId,
    pub(crate) difference: Difference,
    pub(crate) old: Arc<RunOptions>,
    pub(crate) new: Arc<RunOptions>,
    /// For what comes into force without touching a worker, until it does.
    pub(crate) watch: Option<WatchedFiles>,
    /// The step that is waited for, and the request that it is.
    pub(crate) step: (Step, RequestId),
    pub(crate) todo: VecDeque<(Step, Command)>,
    /// What was done, for a person.
    pub(crate) done: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Reload,
    /// Every worker has failed, and no new version is to be rolled out.
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

/// The old rules, with the patience that the more patient version wants: workers of both are started, of the old one if it has to come back.
/// How many are replaced at the same time is for the new one to say, since it is the new one that is rolled out.
pub(crate) fn while_both_start(old: &RunOptions, new: &RunOptions) -> Rules {
    let (old, new) = (preparing::rules(old), preparing::rules(new));
    Rules {
        ready_timeout_ms: old.ready_timeout_ms.max(new.ready_timeout_ms),
        settle_ms: old.settle_ms.max(new.settle_ms),
        surge: new.surge,
        ..old
    }
}
