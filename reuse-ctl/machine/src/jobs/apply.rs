//! `apply`: makes the running app what a plan says, step by step. The steps that take a while are the same jobs as `reload` and `scale`; when
//! such a job is done, it answers to the `apply` and not to a client.
//!
//! ```text
//!  rollout ──▶ rules ──▶ policy ──▶ scale ──▶ Reply
//!     │ fails: the rules of before             │ fails, or is refused: what was done stays
//!     ╰──────────────▶ Reply                   ╰──────────────▶ Reply
//! ```
//!
//! The rollout comes first, so an app whose rollout has failed is as it was before. [`Effect::Applied`] announces each step that has ended,
//! in this order.

use crate::Machine;
use crate::apply_steps::{Apply, Step};
use crate::commands::Judgement;
use crate::context::EndedStep;
use crate::ids::RequestId;
use crate::interface::{ApplyPlan, ApplyStep, Done, Effect, Refusal, ScaleTarget};
use crate::slot::Order;

impl Machine {
    /// Refuses the whole plan, before anything is changed, if one of its steps would be refused now.
    pub(crate) fn judge_apply(&self, plan: &ApplyPlan) -> Result<Judgement, Refusal> {
        if let Some(rollout) = plan.rollout {
            match rollout.version {
                Some(_) => self.judge_adopt()?,
                None => self.judge_reload()?,
            };
        }
        let Some(workers) = plan.workers else {
            return Ok(Judgement::Accepted);
        };
        // Where every worker has failed, workers can be added to those that the rollout starts.
        if plan.rollout.is_none() || !self.all_have_failed() {
            self.judge_scale(ScaleTarget::To(workers))?;
        }
        Ok(Judgement::Accepted)
    }

    pub(crate) fn begin_apply(&mut self, id: RequestId, plan: &ApplyPlan) {
        let steps = [
            plan.rollout.map(Step::Rollout),
            Some(Step::Rules(plan.rules)),
            plan.policy.map(Step::Policy),
            plan.workers.map(|workers| Step::Scale(ScaleTarget::To(workers))),
        ];
        let apply = Apply {
            step: ApplyStep::Rollout,
            todo: steps.into_iter().flatten().collect(),
            rules_before: self.cx.config().rules(),
            done: Done::default(),
        };
        self.begin_steps(id, apply);
    }

    /// Goes on with an `apply` whose step has ended. Returns whether there was one.
    pub(crate) fn continue_apply(&mut self) -> bool {
        let Some(EndedStep { id, mut apply, outcome }) = self.cx.take_ended_step() else {
            return false;
        };
        match outcome {
            Ok(done) => {
                self.end_step(id, &mut apply, done);
                self.begin_steps(id, *apply);
            }
            Err(refusal) => {
                if apply.step == ApplyStep::Rollout {
                    self.rule(apply.rules_before);
                }
                self.cx.reply(id, Err(refusal));
            }
        }
        true
    }

    /// Begins the next steps, up to the first one that takes a while. Answers the request after the last one.
    fn begin_steps(&mut self, id: RequestId, mut apply: Apply) {
        while let Some(step) = apply.todo.pop_front() {
            apply.step = step.kind();
            let done = match step {
                Step::Rollout(rollout) => {
                    self.rule(rollout.rules);
                    let ticket = self.cx.step_ticket(id, apply);
                    return match rollout.version {
                        Some(version) => self.begin_adoption(ticket, version),
                        None => self.begin_reload(ticket, Order::StartFirst),
                    };
                }
                Step::Rules(rules) => {
                    self.rule(rules);
                    Done::default()
                }
                Step::Policy(policy) => self.set_policy(policy),
                // Judged again: the rollout may have taken minutes.
                Step::Scale(target) => match self.judge_scale(target) {
                    Ok(Judgement::Accepted) => {
                        let ticket = self.cx.step_ticket(id, apply);
                        return self.scale(ticket, target);
                    }
                    Ok(Judgement::AlreadyDone(message)) => Done {
                        slots: Vec::new(),
                        message,
                    },
                    Err(refusal) => return self.cx.reply(id, Err(refusal)),
                },
            };
            self.end_step(id, &mut apply, done);
        }
        self.cx.reply(id, Ok(apply.done));
    }

    fn end_step(&mut self, id: RequestId, apply: &mut Apply, done: Done) {
        let all = &mut apply.done;
        all.slots.extend(&done.slots);
        all.slots.sort_unstable();
        all.slots.dedup();
        if !all.message.is_empty() && !done.message.is_empty() {
            all.message.push_str("; ");
        }
        all.message.push_str(&done.message);
        let step = apply.step;
        self.cx.say(Effect::Applied { id, step, done });
    }
}
