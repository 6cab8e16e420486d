//! One instance takes another's place, or the first one that of a new slot, and how that goes.

use crate::context::Happened;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};

/// It is over when the new instance has settled and the old one is gone; until then, it fails if the new one does.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) slot: SlotId,
    /// What the slot goes back to if it fails.
    pub(super) version_before: VersionId,
    /// The new instance is the first of the slot with this id or a higher one.
    fresh_from: InstanceId,
    /// Until it is gone.
    old: Option<InstanceId>,
    start: Start,
}

/// How far the new instance is.
#[derive(Debug)]
enum Start {
    /// It does not serve: it is not ready, or settles beside the old one.
    UnderWay,
    /// It serves and has not lived for the settle time: nobody else served, so it could not be waited for.
    Serving {
        instance: InstanceId,
        settled_at: Millis,
    },
    /// It serves and has lived for the settle time.
    Settled {
        instance: InstanceId,
    },
    /// It served and listens no more: it does again, or fails.
    Down {
        instance: InstanceId,
    },
    Failed(Failure),
}

/// What became of a new instance.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) culprit: InstanceId,
    /// To follow a worker's name.
    pub(super) reason: String,
    /// Whether it had taken the old one's place.
    pub(super) had_served: bool,
}

impl Replacement {
    pub(super) fn begun(
        slot: SlotId,
        version_before: VersionId,
        fresh_from: InstanceId,
        old: Option<InstanceId>,
    ) -> Self {
        Self {
            slot,
            version_before,
            fresh_from,
            old,
            start: Start::UnderWay,
        }
    }

    pub(super) fn hear(&mut self, happened: &Happened, now: Millis) {
        match happened {
            Happened::Gone { instance } => {
                self.old = self.old.filter(|old| old != instance);
                // It did not fail, or that would have been told before: it was ended, because it was faulty.
                if self.serving() == Some(*instance) {
                    self.start = Start::Settled { instance: *instance };
                }
            }
            Happened::Up {
                slot,
                instance,
                settled_at,
            } if self.is_of(*slot, *instance) => {
                self.start = Start::Serving {
                    instance: *instance,
                    settled_at: *settled_at,
                };
            }
            Happened::StartFailed { slot, instance, reason } if self.is_of(*slot, *instance) => {
                self.fail(*instance, reason);
            }
            Happened::Lost { instance, reason, .. } if self.serving() == Some(*instance) => {
                self.fail(*instance, reason)
            }
            Happened::Down { instance } if self.serving() == Some(*instance) => {
                self.start = Start::Down { instance: *instance };
            }
            Happened::Up { .. }
            | Happened::Down { .. }
            | Happened::Lost { .. }
            | Happened::StartFailed { .. }
            | Happened::Removed { .. }
            | Happened::TimePassed => {}
        }
        if let Start::Serving { instance, settled_at } = self.start
            && settled_at <= now
        {
            self.start = Start::Settled { instance };
        }
    }

    /// The instance that was replaced, until it is gone.
    pub(super) fn old(&self) -> Option<InstanceId> {
        self.old
    }

    /// When it is further if nothing happens.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.start {
            Start::Serving { settled_at, .. } => Some(settled_at),
            Start::UnderWay | Start::Settled { .. } | Start::Down { .. } | Start::Failed(_) => None,
        }
    }

    /// The new instance has not taken the seat, and may still.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.start, Start::UnderWay)
    }

    /// The new instance has neither settled nor failed.
    pub(super) fn is_undecided(&self) -> bool {
        match self.start {
            Start::UnderWay | Start::Serving { .. } | Start::Down { .. } => true,
            Start::Settled { .. } | Start::Failed(_) => false,
        }
    }

    pub(super) fn has_settled(&self) -> bool {
        matches!(self.start, Start::Settled { .. })
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.start {
            Start::Failed(failure) => Some(failure),
            Start::UnderWay | Start::Serving { .. } | Start::Settled { .. } | Start::Down { .. } => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self.start {
            Start::UnderWay | Start::Serving { .. } | Start::Down { .. } => false,
            Start::Settled { .. } => self.old.is_none(),
            Start::Failed(_) => true,
        }
    }

    /// Whether that instance is the new one.
    fn is_of(&self, slot: SlotId, instance: InstanceId) -> bool {
        match self.start {
            Start::UnderWay => slot == self.slot && instance >= self.fresh_from,
            Start::Serving { instance: new, .. } | Start::Settled { instance: new } | Start::Down { instance: new } => {
                new == instance
            }
            Start::Failed(_) => false,
        }
    }

    /// The new instance, if it has the seat.
    fn serving(&self) -> Option<InstanceId> {
        match self.start {
            Start::Serving { instance, .. } | Start::Settled { instance } | Start::Down { instance } => Some(instance),
            Start::UnderWay | Start::Failed(_) => None,
        }
    }

    fn fail(&mut self, culprit: InstanceId, reason: &str) {
        self.start = Start::Failed(Failure {
            culprit,
            reason: reason.to_owned(),
            had_served: self.serving().is_some(),
        });
    }
}
