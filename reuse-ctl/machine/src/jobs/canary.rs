//! `canary`, `promote` and `abort`: a canary is one more slot, which runs another version. The version is then given to all slots, or removed.

use reuse_common::Share;

use super::Wide;
use super::delivery::{Delivery, Progress};
use super::replacement::{Replacement, StartFailure};
use super::rollout::Rollout;
use super::scale::{Growth, ScaleUp, Undoing};
use crate::Machine;
use crate::commands::Judgement;
use crate::context::{Happened, Ticket};
use crate::ids::{Millis, SlotId, VersionId};
use crate::interface::MAX_WORKERS;
use crate::interface::{Done, NoteKind, Refusal};
use crate::slot::{Order, Slot};
use crate::states::WorkerState;
use crate::text::Verb;
use crate::words::{self, Why};

/// `promote`: rolls the canary's version out to all other slots. Then the canary's slot is removed. If the rollout fails, the canary stays.
#[derive(Debug)]
pub(super) struct Promotion {
    ticket: Ticket,
    version: VersionId,
    canary: SlotId,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    RollingOut(Delivery),
    /// The canary itself has failed while its version is being rolled out. The rollout is taken back.
    CanaryFailed(Delivery, StartFailure),
    /// These slots have the version, and the canary's slot is being removed.
    CanaryLeaves(Vec<SlotId>),
    CanaryHasLeft(Vec<SlotId>),
}

/// `abort`: removes the canary's slot, and brings back the slots that an earlier failed rollout has left on another version.
#[derive(Debug)]
pub(super) struct Abortion {
    ticket: Ticket,
    rollout: Rollout,
    canary: Option<SlotId>,
    /// Whether the canary's slot is still being removed.
    is_canary_there: bool,
}

impl Machine {
    /// The canary's slot, if there is one. It is the last slot.
    pub(crate) fn canary(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_canary() && !slot.is_leaving())
    }

    pub(crate) fn judge_canary(&self, share: Share) -> Result<Judgement, Refusal> {
        self.judge_no_wide_job()?;
        if let Some(canary) = self.canary() {
            return Err(words::failed(
                format!("worker {} is a canary already", canary.id()),
                Verb::Promote.run() + " rolls it to all workers, " + Verb::Abort.run() + " removes it",
            ));
        }
        self.judge_one_version()?;
        if self.workers() >= MAX_WORKERS {
            return Err(words::too_many_workers(self.workers()));
        }
        self.judge_further([Some(share)])?;
        Ok(Judgement::Accepted)
    }

    /// Refuses while slots run several versions: a `promote` or an `apply` that failed and could not be taken back leaves them so.
    pub(super) fn judge_one_version(&self) -> Result<(), Refusal> {
        if self.slots.iter().all(|slot| slot.version() == self.version) {
            return Ok(());
        }
        Err(words::failed(
            "some workers run another version than the others",
            Verb::Abort.run() + " brings them back",
        ))
    }

    pub(crate) fn begin_canary(&mut self, ticket: Ticket, share: Share, version: VersionId) {
        let id = SlotId(self.workers());
        let added = Replacement::begun(id, version, self.cx.next_instance(), None);
        let canary = Slot::start_canary(id, version, share, &mut self.cx);
        self.slots.push(canary);
        self.jobs.wide = Some(Wide::ScaleUp(ScaleUp::begin(
            ticket,
            vec![added],
            Growth::Canary(share),
        )));
    }

    pub(crate) fn judge_promote(&self) -> Result<Judgement, Refusal> {
        self.judge_reload()?;
        let canary = self.canary().ok_or_else(no_canary)?;
        match canary.worker_state() {
            WorkerState::Active | WorkerState::Draining | WorkerState::Drained => Ok(Judgement::Accepted),
            WorkerState::Starting
            | WorkerState::Stopping
            | WorkerState::BackingOff
            | WorkerState::Failed
            | WorkerState::Exited => Err(words::failed(
                format!("the canary, worker {}, does not serve", canary.id()),
                Verb::Logs.with(canary.id()) + " shows what it wrote; " + Verb::Abort.run() + " removes it",
            )),
        }
    }

    pub(crate) fn begin_promotion(&mut self, ticket: Ticket) {
        let canary = self.canary().expect("judge_promote found it");
        let (canary, version) = (canary.id(), canary.version());
        let others = self.slots.iter().filter(|slot| slot.version() != version).map(Slot::id);
        let promotion = Promotion {
            ticket,
            version,
            canary,
            stage: Stage::RollingOut(self.delivery(version, others.collect())),
        };
        self.jobs.wide = self.continue_promotion(promotion);
    }

    pub(super) fn continue_promotion(&mut self, promotion: Promotion) -> Option<Wide> {
        let Promotion {
            ticket,
            version,
            canary,
            stage,
        } = promotion;
        let progress = match stage {
            Stage::RollingOut(delivery) => self.deliver(delivery),
            Stage::CanaryFailed(delivery, failure) => {
                let refusal = words::canary_failed(canary, failure.culprit, &failure.reason);
                self.give_up(delivery, refusal)
            }
            Stage::CanaryHasLeft(slots) => {
                self.answer_promoted(ticket, slots, canary);
                return None;
            }
            waiting @ Stage::CanaryLeaves(_) => {
                return Some(Wide::Promotion(Promotion {
                    ticket,
                    version,
                    canary,
                    stage: waiting,
                }));
            }
        };
        let stage = match progress {
            Progress::UnderWay(delivery) => Stage::RollingOut(delivery),
            Progress::Delivered(slots) => {
                self.version = version;
                self.leave_canary(canary);
                Stage::CanaryLeaves(slots)
            }
            Progress::Failed { refusal, touched } => {
                let refusal = words::not_promoted(refusal, canary, self.left_in(canary));
                self.cx
                    .answer_about(ticket, [touched, vec![canary]].concat(), Err(refusal));
                return None;
            }
        };
        Some(Wide::Promotion(Promotion {
            ticket,
            version,
            canary,
            stage,
        }))
    }

    fn answer_promoted(&mut self, ticket: Ticket, slots: Vec<SlotId>, canary: SlotId) {
        let workers = usize::from(self.workers());
        let message = match workers {
            1 => "promoted: the worker runs the canary's version".to_owned(),
            _ => format!("promoted: all {workers} workers run the canary's version"),
        };
        self.cx.note(NoteKind::Weighed, None, None, message.clone());
        let touched = [slots.clone(), vec![canary]].concat();
        self.cx.answer_about(ticket, touched, Ok(Done { slots, message }));
    }

    pub(crate) fn judge_abort(&self) -> Result<Judgement, Refusal> {
        self.judge_reload()?;
        if self.canary().is_none() && self.slots.iter().all(|slot| slot.version() == self.version) {
            return Err(no_canary());
        }
        Ok(Judgement::Accepted)
    }

    pub(crate) fn begin_abortion(&mut self, ticket: Ticket) {
        let canary = self.canary().map(Slot::id);
        if let Some(canary) = canary {
            self.leave_canary(canary);
        }
        let staying = self.slots.iter().filter(|slot| !slot.is_leaving());
        let changed = staying.filter(|slot| slot.version() != self.version).map(Slot::id);
        let abortion = Abortion {
            ticket,
            rollout: self.rollout(Order::StartFirst, Some(self.version), changed.collect()),
            canary,
            is_canary_there: canary.is_some(),
        };
        self.jobs.wide = self.continue_abortion(abortion);
    }

    pub(super) fn continue_abortion(&mut self, mut abortion: Abortion) -> Option<Wide> {
        if let Err(failure) = self.roll_on(&mut abortion.rollout) {
            let unchanged = abortion.rollout.slots_not_done();
            let still = self.still(&unchanged, "the others", "run the canary's version");
            let refusal = self.explain(&abortion.rollout, failure, "brought back", &still);
            let refusal = Refusal {
                hint: Verb::Abort.run() + " tries again",
                ..refusal
            };
            let leaving: Vec<_> = abortion
                .canary
                .filter(|_| abortion.is_canary_there)
                .into_iter()
                .collect();
            let touched = abortion.touched();
            self.cx.answer_about(abortion.ticket, touched, Err(refusal));
            return (!leaving.is_empty()).then(|| Wide::Undoing(Undoing::of("an abort", leaving)));
        }
        if abortion.is_canary_there || !abortion.rollout.is_over() {
            return Some(Wide::Abortion(abortion));
        }
        let slots = abortion.rollout.slots_done();
        let message = match slots.len() {
            0 => "the canary is gone".to_owned(),
            back => format!("the canary is gone; {} brought back", words::are(back, "worker")),
        };
        self.cx.note(NoteKind::Weighed, None, None, message.clone());
        let touched = abortion.touched();
        self.cx
            .answer_about(abortion.ticket, touched, Ok(Done { slots, message }));
        None
    }

    fn leave_canary(&mut self, canary: SlotId) {
        let grace_ms = self.cx.config().drain_timeout_ms;
        self.slots[usize::from(canary.0)].leave(grace_ms, Why::CanaryOver, &mut self.cx);
    }
}

impl Promotion {
    /// The rollout, until all slots have the version.
    pub(super) fn rollout(&self) -> Option<&Rollout> {
        match &self.stage {
            Stage::RollingOut(delivery) | Stage::CanaryFailed(delivery, _) => Some(delivery.rollout()),
            Stage::CanaryLeaves(_) | Stage::CanaryHasLeft(_) => None,
        }
    }

    pub(super) fn hear(self, happened: &Happened, now: Millis) -> Self {
        let stage = match self.stage {
            Stage::RollingOut(mut delivery) => {
                delivery.hear(happened, now);
                match canary_failure(self.canary, happened) {
                    Some(failure) if delivery.is_on_its_way() => Stage::CanaryFailed(delivery, failure),
                    _ => Stage::RollingOut(delivery),
                }
            }
            Stage::CanaryLeaves(slots) if matches!(happened, Happened::Removed { slot } if *slot == self.canary) => {
                Stage::CanaryHasLeft(slots)
            }
            other @ (Stage::CanaryFailed(..) | Stage::CanaryLeaves(_) | Stage::CanaryHasLeft(_)) => other,
        };
        Self { stage, ..self }
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl Abortion {
    pub(super) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(super) fn hear(mut self, happened: &Happened, now: Millis) -> Self {
        self.rollout.hear(happened, now);
        if matches!(happened, Happened::Removed { slot } if self.canary == Some(*slot)) {
            self.is_canary_there = false;
        }
        self
    }

    fn touched(&self) -> Vec<SlotId> {
        self.rollout.touched.iter().copied().chain(self.canary).collect()
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

/// Why the canary failed: an instance of its slot has ended without being told to, or could not be started.
fn canary_failure(canary: SlotId, happened: &Happened) -> Option<StartFailure> {
    match happened {
        Happened::Lost { slot, instance, reason } | Happened::StartFailed { slot, instance, reason }
            if *slot == canary =>
        {
            Some(StartFailure {
                culprit: *instance,
                reason: reason.clone(),
                had_served: matches!(happened, Happened::Lost { .. }),
            })
        }
        Happened::Up { .. }
        | Happened::Down { .. }
        | Happened::Lost { .. }
        | Happened::StartFailed { .. }
        | Happened::Gone { .. }
        | Happened::Removed { .. }
        | Happened::TimePassed => None,
    }
}

fn no_canary() -> Refusal {
    words::failed(
        "there is no canary",
        Verb::Canary.with_command("--weight 5%", "CMD") + " starts one",
    )
}
