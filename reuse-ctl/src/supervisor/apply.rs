//! `apply` makes the running app what a specification says. The order of the steps, and what becomes of the others when one fails, are a job
//! of the machine (`jobs/apply.rs` there).
//!
//! The task looks up what the request asks for (`wanted.rs`), refuses what can't be done before anything is changed, and gives the rest to the
//! machine as one plan. After each step it does what the machine knows nothing of: ports, watched files, log limits, the words of the answer.
//!
//! While both versions are started, the longer ready timeout and the longer settle time count, and the new surge.

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
