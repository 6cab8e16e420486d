//! `canary`, `promote` and `abort`: one more slot on another version, and what becomes of that version.

use reuse_common::Share;

use super::Wide;
use super::replace::Rollout;
use super::scale::{Growth, ScaleUp, Undoing};
use crate::api::commands::MAX_WORKERS;
use crate::api::types::WorkerState;
use crate::supervisor::core::Core;
use crate::supervisor::core::commands::Verdict;
use crate::supervisor::core::context::{Happened, Ticket};
use crate::supervisor::core::slot::Slot;
use crate::supervisor::core::words::{self, Why};
use crate::supervisor::interface::{Done, NoteKind, Refusal, SlotId, VersionId};

/// The canary's version goes to all other slots; when they have it, the canary's goes.
#[derive(Debug)]
pub(super) struct Promotion {
    ticket: Ticket,
    version: VersionId,
    rollout: Rollout,
    canary: SlotId,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    RollingOut,
    CanaryLeaves,
    CanaryHasLeft,
}

/// The canary's slot goes, and slots that a failed promotion had brought to its version go back.
#[derive(Debug)]
pub(super) struct Abortion {
    ticket: Ticket,
    rollout: Rollout,
    /// Until it has left.
    canary: Option<SlotId>,
}

impl Core {
    /// The canary's slot, if there is one. It is the last.
    pub(in crate::supervisor::core) fn canary(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_canary() && !slot.is_leaving())
    }

    pub(in crate::supervisor::core) fn judge_canary(&self, share: Share) -> Result<Verdict, Refusal> {
        self.judge_no_wide_job()?;
        if let Some(canary) = self.canary() {
            return Err(words::failed(
                format!("worker {} is a canary already", canary.id()),
                "`reuse-ctl promote` rolls it to all workers, `reuse-ctl abort` removes it",
            ));
        }
        self.judge_one_version()?;
        if self.workers() >= MAX_WORKERS {
            return Err(words::too_many_workers(self.workers()));
        }
        self.judge_further([Some(share)])?;
        Ok(Verdict::Accepted)
    }

    /// A promotion or an apply that failed, and could not be taken back, leaves several.
    pub(super) fn judge_one_version(&self) -> Result<(), Refusal> {
        if self.slots.iter().all(|slot| slot.version() == self.version) {
            return Ok(());
        }
        Err(words::failed(
            "some workers run another version than the others",
            "`reuse-ctl abort` brings them back",
        ))
    }

    pub(in crate::supervisor::core) fn begin_canary(&mut self, ticket: Ticket, share: Share, version: VersionId) {
        let id = SlotId(self.workers());
        let canary = Slot::start_canary(id, version, share, &mut self.cx);
        self.slots.push(canary);
        self.jobs.wide = Some(Wide::ScaleUp(ScaleUp::begin(ticket, vec![id], Growth::Canary(share))));
    }

    pub(in crate::supervisor::core) fn judge_promote(&self) -> Result<Verdict, Refusal> {
        self.judge_reload()?;
        let canary = self.canary().ok_or_else(no_canary)?;
        match canary.state() {
            WorkerState::Active | WorkerState::Draining | WorkerState::Drained => Ok(Verdict::Accepted),
            _ => Err(words::failed(
                format!("the canary, worker {}, does not serve", canary.id()),
                format!(
                    "`reuse-ctl logs {}` shows what it wrote; `reuse-ctl abort` removes it",
                    canary.id()
                ),
            )),
        }
    }

    pub(in crate::supervisor::core) fn begin_promotion(&mut self, ticket: Ticket) {
        let canary = self.canary().expect("judge_promote found it");
        let (canary, version) = (canary.id(), canary.version());
        let others = self.slots.iter().filter(|slot| slot.version() != version).map(Slot::id);
        let promotion = Promotion {
            ticket,
            version,
            rollout: Rollout::to_version(version, others.collect()),
            canary,
            stage: Stage::RollingOut,
        };
        self.jobs.wide = self.continue_promotion(promotion);
    }

    pub(super) fn continue_promotion(&mut self, mut promotion: Promotion) -> Option<Wide> {
        if let Err(failure) = self.roll_on(&mut promotion.rollout) {
            let refusal = promotion.rollout.explain(failure, "promoted", "the canary stays");
            let refusal = Refusal {
                hint: "`reuse-ctl promote` tries again, `reuse-ctl abort` brings every worker back".into(),
                ..refusal
            };
            self.cx.answer(promotion.ticket, Err(refusal));
            return None;
        }
        if promotion.stage == Stage::RollingOut && promotion.rollout.has_started_all() {
            self.version = promotion.version;
            self.leave_canary(promotion.canary);
            promotion.stage = Stage::CanaryLeaves;
        }
        if promotion.stage != Stage::CanaryHasLeft || !promotion.rollout.is_over() {
            return Some(Wide::Promotion(promotion));
        }
        let workers = usize::from(self.workers());
        let message = match workers {
            1 => "promoted: the worker runs the canary's version".to_owned(),
            _ => format!("promoted: all {workers} workers run the canary's version"),
        };
        self.cx.note(NoteKind::Weighed, None, None, message.clone());
        let slots = promotion.rollout.slots_done();
        self.cx.answer(promotion.ticket, Ok(Done { slots, message }));
        None
    }

    pub(in crate::supervisor::core) fn judge_abort(&self) -> Result<Verdict, Refusal> {
        self.judge_reload()?;
        if self.canary().is_none() && self.slots.iter().all(|slot| slot.version() == self.version) {
            return Err(no_canary());
        }
        Ok(Verdict::Accepted)
    }

    pub(in crate::supervisor::core) fn begin_abortion(&mut self, ticket: Ticket) {
        let canary = self.canary().map(Slot::id);
        if let Some(canary) = canary {
            self.leave_canary(canary);
        }
        let staying = self.slots.iter().filter(|slot| !slot.is_leaving());
        let changed = staying.filter(|slot| slot.version() != self.version).map(Slot::id);
        let abortion = Abortion {
            ticket,
            rollout: Rollout::to_version(self.version, changed.collect()),
            canary,
        };
        self.jobs.wide = self.continue_abortion(abortion);
    }

    pub(super) fn continue_abortion(&mut self, mut abortion: Abortion) -> Option<Wide> {
        if let Err(failure) = self.roll_on(&mut abortion.rollout) {
            let unchanged = abortion.rollout.slots_not_done();
            let still = self.still(&unchanged, "the others", "run the canary's version");
            let refusal = abortion.rollout.explain(failure, "brought back", &still);
            let refusal = Refusal {
                hint: "`reuse-ctl abort` tries again".into(),
                ..refusal
            };
            self.cx.answer(abortion.ticket, Err(refusal));
            let leaving: Vec<_> = abortion.canary.into_iter().collect();
            return (!leaving.is_empty()).then(|| Wide::Undoing(Undoing::of("an abort", leaving)));
        }
        if abortion.canary.is_some() || !abortion.rollout.is_over() {
            return Some(Wide::Abortion(abortion));
        }
        let slots = abortion.rollout.slots_done();
        let message = match slots.len() {
            0 => "the canary is gone".to_owned(),
            back => format!("the canary is gone; {} brought back", words::are(back, "worker")),
        };
        self.cx.note(NoteKind::Weighed, None, None, message.clone());
        self.cx.answer(abortion.ticket, Ok(Done { slots, message }));
        None
    }

    fn leave_canary(&mut self, canary: SlotId) {
        let grace_ms = self.cx.config().drain_timeout_ms;
        self.slots[usize::from(canary.0)].leave(grace_ms, Why::CanaryOver, &mut self.cx);
    }
}

impl Promotion {
    pub(super) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(super) fn hear(mut self, happened: &Happened) -> Self {
        self.rollout.hear(happened);
        if matches!(happened, Happened::Removed { slot } if *slot == self.canary) {
            self.stage = Stage::CanaryHasLeft;
        }
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl Abortion {
    pub(super) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(super) fn hear(mut self, happened: &Happened) -> Self {
        self.rollout.hear(happened);
        if matches!(happened, Happened::Removed { slot } if self.canary == Some(*slot)) {
            self.canary = None;
        }
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

fn no_canary() -> Refusal {
    words::failed("there is no canary", "`reuse-ctl canary --weight 5% -- CMD` starts one")
}
