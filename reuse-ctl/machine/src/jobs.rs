//! Requests that take a while. Each follows what happens to instances and slots until it can be answered.

mod adopt;
mod apply;
mod canary;
mod delivery;
mod replace;
mod replacement;
mod rollout;
mod scale;

use super::Machine;
use super::context::{Happened, Ticket};
use super::words;
use crate::ids::{Millis, SlotId, VersionId};
use adopt::Adoption;
use canary::{Abortion, Promotion};
use replace::{Reload, Restart};
use rollout::Rollout;
use scale::{ScaleDown, ScaleUp, Undoing};

/// What is under way, beside the drains (those wait at their instance) and the stop (that is a mode of the machine).
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// At most one per slot.
    restarts: Vec<Restart>,
    wide: Option<Wide>,
}

/// A job that concerns the app as a whole: one at a time.
#[derive(Debug)]
enum Wide {
    Reload(Reload),
    Adoption(Adoption),
    ScaleUp(ScaleUp),
    ScaleDown(ScaleDown),
    Undoing(Undoing),
    Promotion(Promotion),
    Abortion(Abortion),
}

impl Machine {
    pub(super) fn jobs_hear(&mut self, happened: &Happened) {
        self.continue_restarts(happened);
        let now = self.cx.now();
        self.jobs.wide = match self.jobs.wide.take() {
            Some(Wide::Reload(reload)) => self.continue_reload(reload.hear(happened, now)).map(Wide::Reload),
            Some(Wide::Adoption(adoption)) => self.continue_adoption(adoption.hear(happened, now)),
            Some(Wide::ScaleUp(scale)) => self.continue_scale_up(scale.hear(happened, now)),
            Some(Wide::ScaleDown(scale)) => self.continue_scale_down(scale.hear(happened)).map(Wide::ScaleDown),
            Some(Wide::Undoing(undoing)) => undoing.hear(happened).map(Wide::Undoing),
            Some(Wide::Promotion(promotion)) => self.continue_promotion(promotion.hear(happened, now)),
            Some(Wide::Abortion(abortion)) => self.continue_abortion(abortion.hear(happened, now)),
            None => None,
        };
    }

    /// Everything stops: nobody waits for anything else any more.
    pub(super) fn refuse_all_jobs(&mut self) {
        let Jobs { restarts, wide } = std::mem::take(&mut self.jobs);
        let tickets = restarts
            .into_iter()
            .map(Restart::into_ticket)
            .chain(wide.and_then(Wide::into_ticket));
        tickets.for_each(|ticket| self.cx.answer(ticket, Err(words::stopped_meanwhile())));
    }
}

impl Jobs {
    /// What a restart of this slot has to wait for, by name.
    pub(super) fn conflict_with_restart(&self, slot: SlotId) -> Option<String> {
        match &self.wide {
            Some(wide) if wide.replaces_all() => Some(wide.name().to_owned()),
            _ => self
                .restarts
                .iter()
                .find(|restart| restart.slot() == slot)
                .map(Restart::name),
        }
    }

    /// To which versions slots are being brought, or may go back. (A restart is to the slot's own.)
    pub(super) fn versions(&self) -> impl Iterator<Item = VersionId> {
        self.wide.iter().filter_map(Wide::rollout).flat_map(Rollout::versions)
    }

    /// When one of them is further if nothing happens.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let restarts = self.restarts.iter().filter_map(Restart::deadline);
        restarts.chain(self.wide.as_ref().and_then(Wide::deadline)).min()
    }

    /// Whether a job goes through the slots and replaces their instances.
    pub(super) fn replaces_all(&self) -> bool {
        self.wide.as_ref().is_some_and(Wide::replaces_all)
    }

    /// What a reload has to wait for.
    pub(super) fn conflict_with_reload(&self) -> Option<String> {
        self.conflict_with_scale()
            .or_else(|| self.restarts.first().map(Restart::name))
    }

    /// What a scale has to wait for. It need not wait for restarts: those of slots that go are refused.
    pub(super) fn conflict_with_scale(&self) -> Option<String> {
        self.wide.as_ref().map(|wide| wide.name().to_owned())
    }
}

impl Wide {
    fn name(&self) -> &'static str {
        match self {
            Self::Reload(_) => "a reload",
            Self::Adoption(_) => "an apply",
            Self::ScaleUp(scale) => scale.name(),
            Self::ScaleDown(_) => "a scale",
            Self::Undoing(undoing) => undoing.name(),
            Self::Promotion(_) => "a promotion",
            Self::Abortion(_) => "an abort",
        }
    }

    fn replaces_all(&self) -> bool {
        match self {
            Self::Reload(_) | Self::Adoption(_) | Self::Promotion(_) | Self::Abortion(_) => true,
            Self::ScaleUp(_) | Self::ScaleDown(_) | Self::Undoing(_) => false,
        }
    }

    fn rollout(&self) -> Option<&Rollout> {
        match self {
            Self::Reload(reload) => Some(reload.rollout()),
            Self::Adoption(adoption) => Some(adoption.rollout()),
            Self::Promotion(promotion) => promotion.rollout(),
            Self::Abortion(abortion) => Some(abortion.rollout()),
            Self::ScaleUp(_) | Self::ScaleDown(_) | Self::Undoing(_) => None,
        }
    }

    fn deadline(&self) -> Option<Millis> {
        match self {
            Self::ScaleUp(scale) => scale.deadline(),
            Self::Reload(_)
            | Self::Adoption(_)
            | Self::ScaleDown(_)
            | Self::Undoing(_)
            | Self::Promotion(_)
            | Self::Abortion(_) => self.rollout()?.deadline(),
        }
    }

    fn into_ticket(self) -> Option<Ticket> {
        match self {
            Self::Reload(reload) => Some(reload.into_ticket()),
            Self::Adoption(adoption) => Some(adoption.into_ticket()),
            Self::ScaleUp(scale) => Some(scale.into_ticket()),
            Self::ScaleDown(scale) => Some(scale.into_ticket()),
            Self::Undoing(_) => None,
            Self::Promotion(promotion) => Some(promotion.into_ticket()),
            Self::Abortion(abortion) => Some(abortion.into_ticket()),
        }
    }
}
