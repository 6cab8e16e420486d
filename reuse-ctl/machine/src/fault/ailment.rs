//! The two kinds of fault, hung and unhealthy. An instance may have both.

use crate::ids::Millis;
use crate::states::FaultKind;

/// At least one of the two.
#[derive(Debug)]
pub(super) enum Ailment {
    Hung(Symptom),
    Unhealthy(Symptom),
    Both { hung: Symptom, unhealthy: Symptom },
}

#[derive(Debug)]
pub(crate) struct Symptom {
    pub(crate) since: Millis,
    /// Follows the worker's name.
    pub(crate) reason: String,
}

impl Ailment {
    pub(super) fn new(kind: FaultKind, symptom: Symptom) -> Self {
        match kind {
            FaultKind::Hung => Self::Hung(symptom),
            FaultKind::Unhealthy => Self::Unhealthy(symptom),
        }
    }

    /// The kind to show. Hung takes precedence, because it says more than failed checks.
    pub(super) fn kind(&self) -> FaultKind {
        match self {
            Self::Hung(_) | Self::Both { .. } => FaultKind::Hung,
            Self::Unhealthy(_) => FaultKind::Unhealthy,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Hung(symptom) | Self::Unhealthy(symptom) | Self::Both { hung: symptom, .. } => &symptom.reason,
        }
    }

    pub(super) fn symptom(&self, kind: FaultKind) -> Option<&Symptom> {
        match (self, kind) {
            (Self::Hung(hung) | Self::Both { hung, .. }, FaultKind::Hung) => Some(hung),
            (Self::Unhealthy(unhealthy) | Self::Both { unhealthy, .. }, FaultKind::Unhealthy) => Some(unhealthy),
            (Self::Hung(_), FaultKind::Unhealthy) | (Self::Unhealthy(_), FaultKind::Hung) => None,
        }
    }

    /// Adds a kind of fault. A kind that it has already stays unchanged.
    pub(super) fn and(self, kind: FaultKind, symptom: Symptom) -> Self {
        match (self, kind) {
            (Self::Hung(hung), FaultKind::Unhealthy) => Self::Both {
                hung,
                unhealthy: symptom,
            },
            (Self::Unhealthy(unhealthy), FaultKind::Hung) => Self::Both {
                hung: symptom,
                unhealthy,
            },
            (same, _) => same,
        }
    }

    /// Removes a kind of fault.
    ///
    /// # Errors
    /// Returns itself if no other kind is left.
    pub(super) fn without(self, kind: FaultKind) -> Result<Self, Self> {
        match (self, kind) {
            (Self::Both { unhealthy, .. }, FaultKind::Hung) => Ok(Self::Unhealthy(unhealthy)),
            (Self::Both { hung, .. }, FaultKind::Unhealthy) => Ok(Self::Hung(hung)),
            (other @ Self::Hung(_), FaultKind::Unhealthy) | (other @ Self::Unhealthy(_), FaultKind::Hung) => Ok(other),
            (ended, _) => Err(ended),
        }
    }
}
