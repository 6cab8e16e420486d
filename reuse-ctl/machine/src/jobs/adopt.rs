//! The rollout of `apply`: a version goes to all slots, as in a reload, and becomes the app's; or none keeps it.

use super::Wide;
use super::delivery::{Delivery, Progress};
use super::rollout::Rollout;
use crate::Machine;
use crate::commands::Judgement;
use crate::context::{Happened, Ticket};
use crate::ids::{Millis, VersionId};
use crate::interface::{Done, Refusal};
use crate::slot::Slot;
use crate::words;

#[derive(Debug)]
pub(super) struct Adoption {
    ticket: Ticket,
    version: VersionId,
    delivery: Delivery,
}

impl Machine {
    pub(crate) fn judge_adopt(&self) -> Result<Judgement, Refusal> {
        self.judge_reload()?;
        if let Some(canary) = self.canary() {
            return Err(words::canary_first(canary.id()));
        }
        self.judge_one_version()?;
        Ok(Judgement::Accepted)
    }

    pub(crate) fn begin_adoption(&mut self, ticket: Ticket, version: VersionId) {
        let all = self.slots.iter().map(Slot::id).collect();
        let adoption = Adoption {
            ticket,
            version,
            delivery: self.delivery(version, all),
        };
        self.jobs.wide = self.continue_adoption(adoption);
    }

    pub(super) fn continue_adoption(&mut self, adoption: Adoption) -> Option<Wide> {
        let Adoption {
            ticket,
            version,
            delivery,
        } = adoption;
        match self.deliver(delivery) {
            Progress::UnderWay(delivery) => {
                return Some(Wide::Adoption(Adoption {
                    ticket,
                    version,
                    delivery,
                }));
            }
            Progress::Delivered(slots) => {
                self.version = version;
                let message = format!("reloaded {}", words::count(slots.len(), "worker"));
                self.cx.answer(ticket, Ok(Done { slots, message }));
            }
            Progress::Failed { refusal, touched } => self.cx.answer_about(ticket, touched, Err(refusal)),
        }
        None
    }
}

impl Adoption {
    pub(super) fn rollout(&self) -> &Rollout {
        self.delivery.rollout()
    }

    pub(super) fn hear(mut self, happened: &Happened, now: Millis) -> Self {
        self.delivery.hear(happened, now);
        self
    }

    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}
