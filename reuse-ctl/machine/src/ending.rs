//! How an instance is emptied, and how it is ended.

use crate::ids::Millis;
use crate::interface::{Audience, Config, Load};

/// An unanswered handshake lives for a minute, and whose it is can't be seen: none is waited for longer than this.
const HANDSHAKE_PATIENCE_MS: u64 = 1000;

/// What a withdrawn instance has not accepted by then is moved to others, and again after as long.
const QUEUE_PATIENCE_MS: u64 = 1000;

/// Since when an instance can't be chosen, and what was seen of it *since then*: what was seen before says nothing, as a
/// connection may have come in between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Withdrawal {
    at: Millis,
    seen: Option<Load>,
    /// When what is left in the queue is to be moved to others.
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

    /// Of an instance that does not accept: what is queued on it is moved to others at once.
    pub(super) fn of_a_hung_one(now: Millis) -> Self {
        Self {
            queue_until: now,
            ..Self::begin(now)
        }
    }

    /// Whether to move what is left in the queue to others now, and that this is done. Whoever has accepted nothing of it for a second, now
    /// that nothing new comes, hangs or is slow: others are not.
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

    /// Nothing comes any more and nothing is there: the end of a drain.
    pub(super) fn is_empty(&self, now: Millis) -> bool {
        self.is_settled(now) && self.seen.is_some_and(|load| load.connections == 0)
    }

    /// Connections are left, and as far as was seen nothing is in flight on them: a closer look may allow the stop signal.
    fn is_idle(&self, now: Millis) -> bool {
        self.is_settled(now)
            && self
                .seen
                .is_some_and(|load| load.connections > 0 && load.in_flight == 0)
    }

    fn is_settled(&self, now: Millis) -> bool {
        let patient = now.since(self.at) < HANDSHAKE_PATIENCE_MS;
        self.seen
            .is_some_and(|load| load.queue == 0 && (load.handshakes == 0 || !patient))
    }

    /// When `condition` comes true by the mere passing of time, if it does.
    pub(super) fn due(&self, condition: fn(&Self, Millis) -> bool) -> Option<Millis> {
        let end = self.at.plus(HANDSHAKE_PATIENCE_MS);
        condition(self, end).then_some(end)
    }
}

/// The three stages of ending an instance.
///
/// 1. *Emptying*: it is withdrawn. As soon as its queue is empty and no request is in flight (and, if it has no connection at all, the
///    handshakes are over or a second has passed), it gets the stop signal. What a server does with the signal is not known: many have a handler and drop what they
///    have. Connections on which nothing is in flight are not waited for. At most the grace is waited.
/// 2. *Terminated*: it has got the stop signal and should end by itself. While it has connections it may take the grace, counted
///    from the signal; if the grace was used up before the signal, then `stop_timeout_ms`. Without connections it may take
///    `stop_timeout_ms`, counted from the signal or from when the last connection was gone, whichever is later. When the main process
///    and the other servers have ended, processes that only have connections may keep them for as long; when time is over, they get the
///    signal as well, and `stop_timeout_ms`, unless `rest_gets_signal` says that nobody else gets it.
/// 3. *Killed*: out of time, or the servers have ended and nothing is connected to the others.
///
/// So at worst it takes twice the grace and twice `stop_timeout_ms`; and a few milliseconds in the usual case of a server that has
/// answered what it was asked, and closes its connections when told to stop.
///
/// An instance that is not named in an observation keeps the load that was seen last: a server that has closed its listener and
/// still serves its connections is not taken for an idle one.
#[derive(Debug)]
pub(super) enum Ending {
    Emptying {
        withdrawal: Withdrawal,
        /// The end of the grace.
        deadline: Millis,
        grace_ms: u64,
    },
    Terminated {
        /// Until when connections may remain.
        connections_until: Millis,
        /// Since when there is none.
        idle_since: Option<Millis>,
        servers: Servers,
    },
    Killed,
}

/// The main process of an instance, and the others that got the stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Servers {
    Live,
    /// Other processes may have connections.
    HaveEnded,
    /// The others were told, too.
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

    /// Straight to the signal: an instance that has no connections as far as is known.
    pub(super) fn terminate(grace_ms: u64, now: Millis) -> Self {
        Self::Terminated {
            connections_until: now.plus(grace_ms),
            idle_since: Some(now),
            servers: Servers::Live,
        }
    }

    /// Connections that the stop signal waits for, as they were seen last.
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

    /// The stage after the closer look has allowed the signal, and it was sent.
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

    /// Those that were told have ended, and others have so many connections.
    pub(super) fn servers_ended(&mut self, connections: u32, now: Millis) {
        if let Self::Terminated {
            idle_since, servers, ..
        } = self
        {
            *servers = Servers::HaveEnded;
            *idle_since = (connections == 0).then_some(now);
        }
    }

    /// Who gets the stop signal when this stage begins.
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

    /// Shortens the grace to `grace_ms` from now. Never lengthens it.
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

    /// The next stage, if it is time for it.
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

    /// When the next stage comes if nothing new is seen.
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
                // What is left serves nobody, and nobody is there to end it.
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
