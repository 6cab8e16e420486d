//! The outcomes of the select program. Each has its own counter per group.

/// The outcome of one run.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The policy chose a worker for a new connection.
    Chosen = 0,
    /// The controller directed the connection.
    Directed = 1,
    /// No instance was published, or all listeners that were tried had just closed: the connection went to the backstop.
    Parked = 2,
    /// As for `Parked`, and the app refuses connections then; or the connection was directed to a worker that has closed its listener.
    Refused = 3,
    /// A queued connection or a handshake was moved off a closing listener.
    Migrated = 4,
    /// No listener could be selected, so the kernel's own hash decides.
    Fallback = 5,
}

impl Verdict {
    /// Every verdict, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Chosen,
        Self::Directed,
        Self::Parked,
        Self::Refused,
        Self::Migrated,
        Self::Fallback,
    ];
}

/// One counter per verdict.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    counts: [u64; Verdict::ALL.len()],
}

impl VerdictCounts {
    /// How often this verdict was reached.
    pub const fn get(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }
}

const _: () = assert!(size_of::<VerdictCounts>() == 48);
