//! A new instance for a slot: it takes over from the slot's old instance, or is the first one of a new slot. Says how far that has come.

use crate::context::Happened;
use crate::ids::{InstanceId, Millis, SlotId, VersionId};

/// It is over when the new instance has settled and the old one is gone. Until then it fails if the new instance fails.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) slot: SlotId,
    /// The version to which the slot goes back if it fails.
    pub(super) version_before: VersionId,
    /// The new instance is the first of the slot with this id or a higher one.
    fresh_from: InstanceId,
    /// The old instance, until it is gone.
    old: Option<InstanceId>,
    start: Start,
}

/// How far the new instance has come.
#[derive(Debug)]
enum Start {
    /// It does not serve yet: it is not ready, or it settles beside the old instance.
    UnderWay,
    /// It serves, and has not lived for the settle time yet. Nobody else served in the slot, so it was published at once.
    Serving {
        instance: InstanceId,
        settled_at: Millis,
    },
    /// It serves and has lived for the settle time.
    Settled {
        instance: InstanceId,
    },
    /// It served and has stopped listening. Either it listens again, or it fails.
    Down {
        instance: InstanceId,
    },
    Failed(StartFailure),
}

/// How a new instance failed.
#[derive(Debug, Clone)]
pub(super) struct StartFailure {
    pub(super) culprit: InstanceId,
    /// What happened, as words that follow a worker's name.
    pub(super) reason: String,
    /// Whether it had taken over from the old instance.
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

    /// When the new instance will have settled, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.start {
            Start::Serving { settled_at, .. } => Some(settled_at),
            Start::UnderWay | Start::Settled { .. } | Start::Down { .. } | Start::Failed(_) => None,
        }
    }

    /// Whether the new instance has not taken the slot yet, and still may.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.start, Start::UnderWay)
    }

    /// Whether the new instance has neither settled nor failed.
    pub(super) fn is_undecided(&self) -> bool {
        match self.start {
            Start::UnderWay | Start::Serving { .. } | Start::Down { .. } => true,
            Start::Settled { .. } | Start::Failed(_) => false,
        }
    }

    pub(super) fn has_settled(&self) -> bool {
        matches!(self.start, Start::Settled { .. })
    }

    pub(super) fn failure(&self) -> Option<&StartFailure> {
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

    /// The new instance, if it has the slot.
    fn serving(&self) -> Option<InstanceId> {
        match self.start {
            Start::Serving { instance, .. } | Start::Settled { instance } | Start::Down { instance } => Some(instance),
            Start::UnderWay | Start::Failed(_) => None,
        }
    }

    fn fail(&mut self, culprit: InstanceId, reason: &str) {
        self.start = Start::Failed(StartFailure {
            culprit,
            reason: reason.to_owned(),
            had_served: self.serving().is_some(),
        });
    }
}
