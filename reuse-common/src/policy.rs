//! The four policies by name.

/// How a worker is chosen for a new connection. The numbers are the ones that the kernel program reads.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// By a hash of the connection's addresses and ports.
    Hash = 0,
    /// Each worker in turn.
    RoundRobin = 1,
    /// The worker with the smallest load: connections, recent selections and its queue.
    LeastLoaded = 2,
    /// The worker that the client had last.
    Sticky = 3,
}

impl Policy {
    /// Every policy, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Hash, Self::RoundRobin, Self::LeastLoaded, Self::Sticky];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::Sticky => "sticky",
        }
    }

    /// Whether the policy compares loads, so that selections must count before they become connections.
    pub const fn weighs_loads(self) -> bool {
        match self {
            Self::Hash | Self::RoundRobin => false,
            Self::LeastLoaded | Self::Sticky => true,
        }
    }

    /// Whether the policy reads the length of the workers' queues.
    pub const fn reads_queues(self) -> bool {
        match self {
            Self::Hash | Self::RoundRobin | Self::Sticky => false,
            Self::LeastLoaded => true,
        }
    }

    /// The policy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}
