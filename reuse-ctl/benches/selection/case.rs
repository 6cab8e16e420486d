//! What is measured, and counted.

use reuse_common::Policy;

/// Who chooses, in which situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// A program of two instructions.
    Empty,
    /// It selects, without a look at anything.
    Blind,
    Hash,
    RoundRobin,
    LeastLoaded,
    /// The client is recorded.
    StickyHit,
    /// The client has never been seen.
    StickyNew,
}

impl Case {
    pub(crate) const ALL: [Self; 7] = [
        Self::Empty,
        Self::Blind,
        Self::Hash,
        Self::RoundRobin,
        Self::LeastLoaded,
        Self::StickyHit,
        Self::StickyNew,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Blind => "a blind choice",
            Self::Hash => "hash",
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::StickyHit => "sticky, known client",
            Self::StickyNew => "sticky, new client",
        }
    }

    pub(crate) fn policy(self) -> Policy {
        match self {
            // Any but sticky, so that `track` records nobody.
            Self::Empty | Self::Blind | Self::Hash => Policy::Hash,
            Self::RoundRobin => Policy::RoundRobin,
            Self::LeastLoaded => Policy::LeastLoaded,
            Self::StickyHit | Self::StickyNew => Policy::Sticky,
        }
    }
}
