//! The four policies by name.

/// How a worker is chosen for a new connection. The numbers are what the kernel program reads.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// By the connection's addresses and ports.
    Hash = 0,
    /// One after the other.
    RoundRobin = 1,
    /// The one with the fewest connections.
    LeastLoaded = 2,
    /// The one that had this client last.
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

    /// Whether it compares loads, so that selections must count before they are connections.
    pub const fn weighs_loads(self) -> bool {
        match self {
            Self::Hash | Self::RoundRobin => false,
            Self::LeastLoaded | Self::Sticky => true,
        }
    }

    /// Whether it wants to know what waits in the workers' queues.
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
