//! What one run simulates.

use reuse_common::{Policy, Share};

use crate::law::{Arrivals, Law};
use crate::queue_watch::QueueWatch;
use crate::variant::Tuning;

/// Who decides where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chooser {
    /// The kernel without a program: the connection's hash scaled to the number of sockets, which is a uniformly random choice.
    Plain,
    /// A policy of ours.
    By(Policy),
}

impl Chooser {
    /// All, plain first.
    pub(crate) const ALL: [Self; 5] = [
        Self::Plain,
        Self::By(Policy::Hash),
        Self::By(Policy::RoundRobin),
        Self::By(Policy::LeastLoaded),
        Self::By(Policy::Sticky),
    ];

    /// What a person calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain `SO_REUSEPORT`",
            Self::By(Policy::Hash) => "hash",
            Self::By(Policy::RoundRobin) => "round-robin",
            Self::By(Policy::LeastLoaded) => "least-loaded",
            Self::By(Policy::Sticky) => "sticky",
        }
    }
}

/// How a worker serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Server {
    /// It accepts at once and has more processor time than it needs; connections last so long.
    Ample { lasts: Law },
    /// It accepts a connection only when it has answered the one before (prefork, one thread).
    Serial { service: Law },
    /// An event loop: it accepts all that wait whenever a request is done, and answers requests one after the other. A connection sends
    /// on average so many requests (geometric), with time to think between them.
    Loop { service: Law, requests: f64, think: Law },
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Population {
    /// Every connection is a new client's.
    Strangers,
    /// So many clients; the n-th comes about in proportion to 1/n^`skew` (not 1).
    Zipf { clients: u32, skew: f64 },
    /// So many clients, equally often, each from the same port every time.
    Ports { clients: u32 },
}

/// SYNs from made-up addresses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flood {
    /// Per second.
    pub(crate) rate: f64,
    /// The kernel has run out of room for handshakes and answers with SYN cookies: the program runs again on the final ACK.
    pub(crate) cookies: bool,
}

/// Something that is done to a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// It does nothing for so long, nanoseconds.
    Freeze(u16, u64),
    /// It is not to be chosen any more.
    Withdraw(u16),
    /// It may be chosen again.
    Publish(u16),
    /// Another instance takes over; the old one serves what it has.
    Replace(u16),
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) workers: u16,
    /// What the last slot gets, if that is fixed.
    pub(crate) canary: Option<Share>,
    pub(crate) chooser: Chooser,
    pub(crate) tuning: Tuning,
    pub(crate) server: Server,
    pub(crate) arrivals: Arrivals,
    pub(crate) population: Population,
    /// How many connections are opened.
    pub(crate) connections: u64,
    /// From SYN to the end of the handshake.
    pub(crate) round_trip: Law,
    /// An accept queue holds so many; what comes then is refused.
    pub(crate) backlog: u32,
    pub(crate) flood: Option<Flood>,
    /// When what is done, in nanoseconds, in any order.
    pub(crate) script: Vec<(u64, Act)>,
    /// Absent: nobody looks at the queues.
    pub(crate) watch: Option<QueueWatch>,
    /// The first worker takes so many times as long for everything.
    pub(crate) first_is_slower: u64,
    /// Whether the delays are kept over time.
    pub(crate) timeline: bool,
}

impl Setup {
    /// `workers` serving strangers under `chooser`, everything else usual.
    pub(crate) fn new(workers: u16, chooser: Chooser, server: Server, arrivals: Arrivals, connections: u64) -> Self {
        Self {
            seed: 0,
            workers,
            canary: None,
            chooser,
            tuning: Tuning::REAL,
            server,
            arrivals,
            population: Population::Strangers,
            connections,
            round_trip: Law::Exponential(0.001),
            backlog: 4096,
            flood: None,
            script: Vec::new(),
            watch: match server {
                // Nothing ever waits there.
                Server::Ample { .. } => None,
                _ => Some(QueueWatch::LOOKS_ONLY),
            },
            first_is_slower: 1,
            timeline: false,
        }
    }

    /// How long connections arrive, about; seconds.
    pub(crate) fn expected_length(&self) -> f64 {
        self.connections as f64 / self.arrivals.rate()
    }
}

/// The arrival rate at which `workers` are busy to this degree (0…1).
pub(crate) fn rate_for(workers: u16, service: Law, utilisation: f64) -> f64 {
    f64::from(workers) * utilisation / service.mean()
}
