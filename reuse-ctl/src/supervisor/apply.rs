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
use reuse_machine::interface::{ApplyStep, Rules};
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
    /// The steps that the machine has still to carry out.
    pub(crate) todo: VecDeque<ApplyStep>,
    /// What was done, for a person.
    pub(crate) done: Vec<String>,
}

pub(crate) fn takes_effect(step: ApplyStep) -> TakesEffect {
    match step {
        ApplyStep::Rollout => TakesEffect::Reload,
        ApplyStep::Rules => TakesEffect::Live,
        ApplyStep::Policy => TakesEffect::Policy,
        ApplyStep::Scale => TakesEffect::Scale,
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
