//! Requests. Each is first checked, which changes nothing, and then carried out.

use reuse_common::Policy;

use super::context::Ticket;
use super::drain::Waiter;
use super::instance::OnReady;
use super::slot::{Order, Slot};
use super::words::{self, Why};
use super::{Machine, Mode};
use crate::ids::SlotId;
use crate::interface::MAX_WORKERS;
use crate::interface::{Command, Done, Effect, Refusal, ScaleTarget};
use crate::states::WorkerState;
use crate::text::Verb;

/// The result of checking a request that is not refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Accepted,
    /// The requested state exists already, so nothing is done. The text is one line for the user.
    AlreadyDone(String),
}

use Judgement::{Accepted, AlreadyDone};

impl Machine {
    pub(super) fn request(&mut self, ticket: Ticket, command: Command) {
        match self.judge(&command) {
            Ok(Accepted) => self.carry_out(ticket, command),
            Ok(AlreadyDone(message)) => self.cx.answer(
                ticket,
                Ok(Done {
                    slots: Vec::new(),
                    message,
                }),
            ),
            Err(refusal) => self.cx.answer(ticket, Err(refusal)),
        }
    }

    /// Whether this request would be accepted now, including the case that it is done already.
    pub fn would_take(&self, command: &Command) -> bool {
        self.judge(command).is_ok()
    }

    /// Checks whether this request would be accepted now.
    ///
    /// # Errors
    /// The refusal that the request would get.
    pub fn check(&self, command: &Command) -> Result<(), Refusal> {
        self.judge(command).map(drop)
    }

    /// The name of what a reload or a scale has to wait for now, if anything. Meanwhile the request is refused.
    pub fn waits_for(&self, command: &Command) -> Option<String> {
        match command {
            Command::Reload { .. } => self.jobs.conflict_with_reload(),
            Command::Scale(_) => self.jobs.conflict_with_scale(),
            Command::Drain { .. }
            | Command::Undrain { .. }
            | Command::Restart { .. }
            | Command::Apply(_)
            | Command::SetPolicy(_)
            | Command::Weigh { .. }
            | Command::Canary { .. }
            | Command::Promote
            | Command::Abort
            | Command::Stop { .. } => None,
        }
    }

    fn judge(&self, command: &Command) -> Result<Judgement, Refusal> {
        match self.mode {
            _ if matches!(command, Command::Stop { .. }) => return Ok(Accepted),
            Mode::Running => {}
            Mode::Idle => return Err(words::failed("the app has not started yet", "try again in a moment")),
            Mode::Stopping { .. } | Mode::Finished => return Err(words::stopping()),
        }
        match *command {
            Command::Drain { slot, force, .. } => self.judge_drain(slot, force),
            Command::Undrain { slot } => self.judge_undrain(slot),
            Command::Restart { slot, .. } => self.judge_restart(slot),
            Command::Reload { .. } => self.judge_reload(),
            Command::Apply(ref plan) => self.judge_apply(plan),
            Command::Scale(target) => self.judge_scale(target),
            Command::SetPolicy(policy) if policy == self.policy => {
                Ok(AlreadyDone(format!("the policy is {} already", policy.name())))
            }
            Command::SetPolicy(_) | Command::Stop { .. } => Ok(Accepted),
            Command::Weigh { slot, share } => self.judge_weigh(slot, share),
            Command::Canary { share, .. } => self.judge_canary(share),
            Command::Promote => self.judge_promote(),
            Command::Abort => self.judge_abort(),
        }
    }

    fn judge_drain(&self, slot: SlotId, force: bool) -> Result<Judgement, Refusal> {
        let worker = self.idle_slot(slot)?;
        let status = Verb::Status.run() + " shows when it is active";
        match worker.worker_state() {
            WorkerState::Active => {
                let others = self
                    .slots
                    .iter()
                    .filter(|other| other.id() != slot && other.published_instance().is_some())
                    .count();
                if others == 0 && !force {
                    Err(words::last_active(slot))
                } else {
                    Ok(Accepted)
                }
            }
            WorkerState::Draining => Ok(Accepted),
            WorkerState::Drained => Ok(AlreadyDone(format!("worker {slot} was already drained"))),
            WorkerState::Starting => Err(words::failed(format!("worker {slot} is still starting"), status)),
            WorkerState::BackingOff | WorkerState::Stopping => Err(words::failed(
                format!("worker {slot} has crashed and is about to be started again"),
                status,
            )),
            WorkerState::Failed | WorkerState::Exited => Err(words::failed(
                format!("worker {slot} has failed: nothing runs there"),
                Verb::Restart.with(slot) + " starts it again",
            )),
        }
    }

    fn judge_undrain(&self, slot: SlotId) -> Result<Judgement, Refusal> {
        let worker = self.idle_slot(slot)?;
        Ok(match (worker.on_ready(), worker.worker_state()) {
            (OnReady::StayWithdrawn, _) => Accepted,
            (OnReady::Publish, WorkerState::Active) => AlreadyDone(format!("worker {slot} is active already")),
            (OnReady::Publish, _) => AlreadyDone(format!("worker {slot} is not withdrawn; it does not run yet")),
        })
    }

    fn judge_restart(&self, slot: SlotId) -> Result<Judgement, Refusal> {
        self.slot(slot)?;
        self.jobs
            .conflict_with_restart(slot)
            .map_or(Ok(()), |job| Err(words::under_way(job)))?;
        self.idle_slot(slot).map(|_| Accepted)
    }

    pub(super) fn judge_reload(&self) -> Result<Judgement, Refusal> {
        self.jobs
            .conflict_with_reload()
            .map_or(Ok(Accepted), |job| Err(words::under_way(job)))
    }

    pub(super) fn judge_scale(&self, target: ScaleTarget) -> Result<Judgement, Refusal> {
        self.judge_no_wide_job()?;
        if let Some(canary) = self.canary() {
            return Err(words::canary_first(canary.id()));
        }
        let workers = self.workers();
        match self.workers_after(target) {
            Some(wanted) if wanted >= workers && self.all_have_failed() => Err(words::nobody_to_add_to()),
            Some(wanted) if wanted == workers => Ok(AlreadyDone(words::there_are(workers))),
            Some(wanted) => {
                self.judge_further((workers..wanted).map(|_| None))?;
                Ok(Accepted)
            }
            None => Err(words::too_many_workers(workers)),
        }
    }

    pub(super) fn judge_no_wide_job(&self) -> Result<(), Refusal> {
        self.jobs
            .conflict_with_scale()
            .map_or(Ok(()), |job| Err(words::under_way(job)))
    }

    fn carry_out(&mut self, ticket: Ticket, command: Command) {
        match command {
            Command::Drain {
                slot,
                timeout_ms,
                no_wait,
                ..
            } => self.drain(ticket, slot, timeout_ms, no_wait),
            Command::Undrain { slot } => {
                let worker = &mut self.slots[usize::from(slot.0)];
                worker.undrain(&mut self.cx);
                let message = match worker.worker_state() {
                    WorkerState::Active => format!("worker {slot} is published again"),
                    WorkerState::Starting
                    | WorkerState::Draining
                    | WorkerState::Drained
                    | WorkerState::Stopping
                    | WorkerState::BackingOff
                    | WorkerState::Failed
                    | WorkerState::Exited => format!("worker {slot} will be published when it is ready"),
                };
                self.cx.answer(
                    ticket,
                    Ok(Done {
                        slots: vec![slot],
                        message,
                    }),
                );
            }
            Command::Restart { slot, stop_first } => self.begin_restart(ticket, slot, Order::from_flag(stop_first)),
            Command::Reload { stop_first } => self.begin_reload(ticket, Order::from_flag(stop_first)),
            Command::Apply(plan) => self.begin_apply(ticket.into_id(), &plan),
            Command::Scale(target) => self.scale(ticket, target),
            Command::SetPolicy(policy) => {
                let done = self.set_policy(policy);
                self.cx.answer(ticket, Ok(done));
            }
            Command::Stop { timeout_ms } => self.join_stop(ticket, timeout_ms),
            Command::Weigh { slot, share } => self.weigh(ticket, slot, share),
            Command::Canary { share, version } => self.begin_canary(ticket, share, version),
            Command::Promote => self.begin_promotion(ticket),
            Command::Abort => self.begin_abortion(ticket),
        }
    }

    fn drain(&mut self, ticket: Ticket, slot: SlotId, timeout_ms: Option<u64>, no_wait: bool) {
        let worker = &mut self.slots[usize::from(slot.0)];
        if no_wait {
            worker.drain(None, &mut self.cx);
            let message = format!("worker {slot} is withdrawn: it gets no new connections");
            return self.cx.answer(
                ticket,
                Ok(Done {
                    slots: vec![slot],
                    message,
                }),
            );
        }
        let deadline = self
            .cx
            .now()
            .plus(timeout_ms.unwrap_or(self.cx.config().drain_timeout_ms));
        if let Some(Waiter { ticket, .. }) = worker.drain(Some(Waiter { ticket, deadline }), &mut self.cx) {
            let error = format!("worker {slot} can't be drained now");
            self.cx.answer(
                ticket,
                Err(words::failed(error, Verb::Status.run() + " shows its state")),
            );
        }
    }

    pub(super) fn set_policy(&mut self, policy: Policy) -> Done {
        self.policy = policy;
        self.cx.say(Effect::SetPolicy(policy));
        Done {
            slots: Vec::new(),
            message: format!("the policy is {} now", policy.name()),
        }
    }

    pub(super) fn scale(&mut self, ticket: Ticket, target: ScaleTarget) {
        let wanted = self.workers_after(target).expect("judge_scale accepted it");
        if wanted < self.workers() {
            self.begin_scale_down(ticket, wanted);
        } else {
            self.begin_scale_up(ticket, wanted);
        }
    }

    /// Starts to stop the app, or joins the requests that wait for that already. A further `stop` can shorten the grace period, never
    /// lengthen it.
    fn join_stop(&mut self, ticket: Ticket, timeout_ms: Option<u64>) {
        match &mut self.mode {
            Mode::Stopping { waiters, .. } => {
                waiters.push(ticket);
                if let Some(grace_ms) = timeout_ms {
                    self.slots
                        .iter_mut()
                        .for_each(|slot| slot.leave(grace_ms, Why::Stop, &mut self.cx));
                }
            }
            Mode::Idle | Mode::Running | Mode::Finished => {
                let grace_ms = timeout_ms.unwrap_or(self.cx.config().drain_timeout_ms);
                self.stop(vec![ticket], false, grace_ms);
            }
        }
    }

    /// Number of slots that a user can name: those that are leaving don't count.
    pub(super) fn workers(&self) -> u16 {
        let staying = self.slots.iter().filter(|slot| !slot.is_leaving()).count();
        u16::try_from(staying).expect("there are at most 256 slots")
    }

    fn workers_after(&self, target: ScaleTarget) -> Option<u16> {
        let wanted = match target {
            ScaleTarget::To(number) => Some(number),
            ScaleTarget::Up(more) => self.workers().checked_add(more),
            ScaleTarget::Down(fewer) => self.workers().checked_sub(fewer),
        };
        wanted.filter(|wanted| (1..=MAX_WORKERS).contains(wanted))
    }

    pub(super) fn slot(&self, slot: SlotId) -> Result<&Slot, Refusal> {
        let found = self.slots.get(usize::from(slot.0));
        found.ok_or_else(|| words::no_such_worker(slot, usize::from(self.workers())))
    }

    /// The slot, if it exists and nothing else is changing it.
    fn idle_slot(&self, slot: SlotId) -> Result<&Slot, Refusal> {
        let found = self.slot(slot)?;
        found.busy().map_or(Ok(found), Err)
    }
}
