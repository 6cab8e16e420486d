//! An `apply` as data. `jobs/apply.rs` carries out its steps.

use std::collections::VecDeque;

use reuse_common::Policy;

use crate::interface::{ApplyStep, Done, PlannedRollout, Rules, ScaleTarget};

/// An `apply` that is under way. The ticket of its current step carries it.
#[derive(Debug)]
pub(super) struct Apply {
    /// The step that is under way.
    pub(super) step: ApplyStep,
    pub(super) todo: VecDeque<Step>,
    /// The rules that are in force again if the rollout fails.
    pub(super) rules_before: Rules,
    pub(super) done: Done,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Rollout(PlannedRollout),
    Rules(Rules),
    Policy(Policy),
    Scale(ScaleTarget),
}

impl Step {
    pub(super) fn kind(self) -> ApplyStep {
        match self {
            Self::Rollout(_) => ApplyStep::Rollout,
            Self::Rules(_) => ApplyStep::Rules,
            Self::Policy(_) => ApplyStep::Policy,
            Self::Scale(_) => ApplyStep::Scale,
        }
    }
}
