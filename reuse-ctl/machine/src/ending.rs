//! How an instance is drained, and how it is stopped.

use crate::ids::Millis;
use crate::interface::{Audience, Config, Load};

/// How long handshakes are waited for. An unanswered handshake lives for a minute, and it is unknown which instance it belongs to.
const HANDSHAKE_PATIENCE_MS: u64 = 1000;

/// Connections that a withdrawn instance has not accepted after this time are moved to others, and again each time it is over.
const QUEUE_PATIENCE_MS: u64 = 1000;

/// When an instance was withdrawn, and what was observed *since then*: earlier observations are useless, since a connection may have
/// arrived in between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Withdrawal {
    at: Millis,
    seen: Option<Load>,
    /// When the rest of the queue is to be moved to others.
    queue_until: Millis,
}

impl Withdrawal {
    pub(super) fn begin(at: Millis) -> Self {
        Self {
            at,
            seen: None,
            queue_until: at.plus(QUEUE_PATIENCE_MS),
        }
    }

    /// For an instance that doesn't accept: its queue is moved to others at once.
    pub(super) fn of_a_hung_one(now: Millis) -> Self {
        Self {
            queue_until: now,
            ..Self::begin(now)
        }
    }

    /// Whether to move the rest of the queue to others now; if so, counts it as done. An instance that has not emptied its queue for a
    /// second, although nothing new arrives, is hung or slow, and others are not.
    pub(super) fn takes_from_queue(&mut self, now: Millis) -> bool {
        let due = self.queue_until <= now && self.seen.is_some_and(|load| load.queue > 0);
        if due {
            self.queue_until = now.plus(QUEUE_PATIENCE_MS);
        }
        due
    }

    pub(super) fn observed(&mut self, load: Load) {
        self.seen = Some(load);
    }

    pub(super) fn seen(&self) -> Option<Load> {
        self.seen
    }

    /// Whether nothing is left and nothing new arrives: the end of a drain.
    pub(super) fn is_empty(&self, now: Millis) -> bool {
        self.handshakes_are_over(now) && self.seen.is_some_and(|load| load.connections == 0)
    }

    /// Whether connections are left, none of them with a request in flight as far as known. A closer look may then allow the stop signal.
    fn is_idle(&self, now: Millis) -> bool {
        self.handshakes_are_over(now)
            && self
                .seen
                .is_some_and(|load| load.connections > 0 && load.in_flight == 0)
    }

    fn handshakes_are_over(&self, now: Millis) -> bool {
        let patient = now.since(self.at) < HANDSHAKE_PATIENCE_MS;
        self.seen
            .is_some_and(|load| load.queue == 0 && (load.handshakes == 0 || !patient))
    }

    /// When `condition` becomes true by the passing of time alone, if ever.
    pub(super) fn due(&self, condition: fn(&Self, Millis) -> bool) -> Option<Millis> {
        let end = self.at.plus(HANDSHAKE_PATIENCE_MS);
        condition(self, end).then_some(end)
    }
}

/// The three stages of stopping an instance.
///
/// 1. *Emptying*: the instance is withdrawn. It gets the stop signal as soon as its queue is empty and no request is in flight (and, if it
///    has no connection at all, handshakes are over or a second has passed). What a server does with the signal is unknown: many have a
///    handler and still drop their requests. Connections without a request in flight are not waited for. This stage lasts for the grace
///    period at most.
/// 2. *Terminated*: the instance has got the stop signal and should end by itself. While it has connections it may take the grace period,
///    counted from the signal; if the grace period was used up before the signal, `stop_timeout_ms`. Without connections it may take
///    `stop_timeout_ms`, counted from the signal or from the end of the last connection, whichever is later. When the main process and the
///    other servers have ended, processes that only have connections may keep them for as long. After that they get the signal as well, and
///    `stop_timeout_ms`, unless `rest_gets_signal` says that no other process gets it.
/// 3. *Killed*: time is over, or the servers have ended and the other processes have no connections.
///
/// So the worst case is twice the grace period plus twice `stop_timeout_ms`. The usual case is a few milliseconds: the server has answered
/// its requests, and closes its connections when told to stop.
///
/// An instance that is not named in an observation keeps the load last seen, so one that could not be looked at is not taken for an idle
/// one.
#[derive(Debug)]
pub(super) enum Ending {
    Emptying {
        withdrawal: Withdrawal,
        /// The end of the grace period.
        deadline: Millis,
        grace_ms: u64,
    },
    Terminated {
        /// Until when connections may remain.
        connections_until: Millis,
        /// Since when there are no connections.
        idle_since: Option<Millis>,
        servers: Servers,
    },
    Killed,
}

/// The main process of an instance, and the other processes that got the stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Servers {
    Live,
    /// They have ended. Other processes may have connections.
    HaveEnded,
    /// The other processes have got the signal too.
    AllWereTold,
}

impl Ending {
    pub(super) fn empty(withdrawal: Withdrawal, grace_ms: u64, now: Millis) -> Self {
        Self::Emptying {
            withdrawal,
            deadline: now.plus(grace_ms),
            grace_ms,
        }
    }

    /// Starts with the signal, for an instance without known connections.
    pub(super) fn terminate(grace_ms: u64, now: Millis) -> Self {
        Self::Terminated {
            connections_until: now.plus(grace_ms),
            idle_since: Some(now),
            servers: Servers::Live,
        }
    }

    /// Number of connections that the stop signal waits for, as last observed.
    pub(super) fn in_flight(&self) -> Option<u32> {
        match self {
            Self::Emptying { withdrawal, .. } => Some(withdrawal.seen?.in_flight),
            Self::Terminated { .. } | Self::Killed => None,
        }
    }

    /// Whether a closer look may allow the stop signal.
    pub(super) fn is_idle(&self, now: Millis) -> bool {
        match self {
            Self::Emptying { withdrawal, .. } => withdrawal.is_idle(now),
            Self::Terminated { .. } | Self::Killed => false,
        }
    }

    /// The stage after a closer look has allowed the signal and it was sent.
    pub(super) fn signalled_when_idle(&self, now: Millis) -> Option<Self> {
        match self {
            Self::Emptying { grace_ms, .. } => Some(Self::Terminated {
                connections_until: now.plus(*grace_ms),
                idle_since: None,
                servers: Servers::Live,
            }),
            Self::Terminated { .. } | Self::Killed => None,
        }
    }

    /// The signalled processes have ended, and others have this many connections.
    pub(super) fn servers_ended(&mut self, connections: u32, now: Millis) {
        if let Self::Terminated {
            idle_since, servers, ..
        } = self
        {
            *servers = Servers::HaveEnded;
            *idle_since = (connections == 0).then_some(now);
        }
    }

    /// The processes that get the stop signal when this stage begins.
    pub(super) fn audience(&self) -> Option<Audience> {
        match self {
            Self::Terminated {
                servers: Servers::AllWereTold,
                ..
            } => Some(Audience::Everyone),
            Self::Terminated {
                servers: Servers::Live | Servers::HaveEnded,
                ..
            } => Some(Audience::Servers),
            Self::Emptying { .. } | Self::Killed => None,
        }
    }

    /// See [`Withdrawal::takes_from_queue`].
    pub(super) fn takes_from_queue(&mut self, now: Millis) -> bool {
        match self {
            Self::Emptying { withdrawal, .. } => withdrawal.takes_from_queue(now),
            Self::Terminated { .. } | Self::Killed => false,
        }
    }

    pub(super) fn observed(&mut self, load: Load, now: Millis) {
        match self {
            Self::Emptying { withdrawal, .. } => withdrawal.observed(load),
            Self::Terminated { idle_since, .. } if load.connections > 0 => *idle_since = None,
            Self::Terminated { idle_since, .. } => *idle_since = idle_since.or(Some(now)),
            Self::Killed => {}
        }
    }

    /// Shortens the grace period to `grace_ms` from now. Never lengthens it.
    pub(super) fn hasten(&mut self, grace_ms: u64, now: Millis) {
        let end = now.plus(grace_ms);
        match self {
            Self::Emptying {
                deadline,
                grace_ms: grace,
                ..
            } => {
                *deadline = end.min(*deadline);
                *grace = grace_ms.min(*grace);
            }
            Self::Terminated { connections_until, .. } => *connections_until = end.min(*connections_until),
            Self::Killed => {}
        }
    }

    /// The next stage, if it is due.
    pub(super) fn next(&self, config: &Config, now: Millis) -> Option<Self> {
        match self {
            Self::Emptying {
                withdrawal,
                deadline,
                grace_ms,
            } => {
                let out_of_time = *deadline <= now;
                let still_ms = if out_of_time { config.stop_timeout_ms } else { *grace_ms };
                let busy = withdrawal.seen.is_some_and(|load| load.connections > 0);
                (out_of_time || withdrawal.is_empty(now)).then(|| Self::Terminated {
                    connections_until: now.plus(still_ms),
                    idle_since: (!busy).then_some(now),
                    servers: Servers::Live,
                })
            }
            Self::Terminated { servers, .. } => {
                self.deadline(config).filter(|deadline| *deadline <= now)?;
                Some(match (servers, self.is_connected()) {
                    (Servers::HaveEnded, true) if config.rest_gets_signal => Self::Terminated {
                        connections_until: now.plus(config.stop_timeout_ms),
                        idle_since: None,
                        servers: Servers::AllWereTold,
                    },
                    (Servers::Live | Servers::HaveEnded | Servers::AllWereTold, _) => Self::Killed,
                })
            }
            Self::Killed => None,
        }
    }

    /// When the next stage is due if nothing new is observed.
    pub(super) fn deadline(&self, config: &Config) -> Option<Millis> {
        match self {
            Self::Emptying {
                withdrawal, deadline, ..
            } => {
                let settled = withdrawal.due(Withdrawal::is_empty);
                Some(settled.map_or(*deadline, |settled| settled.min(*deadline)))
            }
            Self::Terminated {
                idle_since: Some(since),
                servers,
                ..
            } => Some(match servers {
                Servers::Live => since.plus(config.stop_timeout_ms),
                // The remaining processes have no connections, and nothing else will end them.
                Servers::HaveEnded | Servers::AllWereTold => *since,
            }),
            Self::Terminated {
                connections_until,
                idle_since: None,
                ..
            } => Some(*connections_until),
            Self::Killed => None,
        }
    }

    pub(super) fn servers_have_ended(&self) -> bool {
        matches!(
            self,
            Self::Terminated {
                servers: Servers::HaveEnded | Servers::AllWereTold,
                ..
            }
        )
    }

    fn is_connected(&self) -> bool {
        matches!(self, Self::Terminated { idle_since: None, .. })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Emptying { .. } => "emptying",
            Self::Terminated { .. } => "terminated",
            Self::Killed => "killed",
        }
    }
}
