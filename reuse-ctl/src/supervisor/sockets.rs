//! The look at all sockets. It tells the machine the loads that it waits for, makes up for lost notices, and deals with parked connections
//! and listeners of strangers. It happens often while something waits for it, and otherwise once a second.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    base::WorkerState,
    group::diag::{Diag, DiagError, Family, Queue},
};

/// How often loads are looked at while something waits for them.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How often while the moments in which no request is in flight are short.
pub(crate) const HURRIED_LOOK_EVERY: Duration = Duration::from_millis(4);

/// A look is followed by a pause that is so many times as long.
pub(crate) const LOOK_SHARE: u32 = 4;

/// How often the sockets are looked at when nothing waits.
pub(crate) const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the look at the sockets remembers.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) next_look: Instant,
    /// Members that the last list of listeners did not have.
    pub(crate) unseen: Vec<u64>,
    /// Listeners in our groups that belong to nobody of ours, by cookie, and who has them once that is known.
    pub(crate) strangers: BTreeMap<u64, (SocketAddr, Option<String>)>,
    /// Whether a program for the next group is being loaded.
    pub(crate) loading_spare: bool,
    /// Whether what waits is to be looked at more often than usual.
    pub(crate) hurries: bool,
}

impl Sockets {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next_look: now,
            unseen: Vec::new(),
            strangers: BTreeMap::new(),
            loading_spare: false,
            hurries: false,
        }
    }

    /// Who listens on this address as well, as the last look found: `pid (command)`.
    pub(crate) fn strangers_on(&self, addr: SocketAddr) -> Vec<String> {
        let strangers = self.strangers.values().filter(|(theirs, _)| *theirs == addr);
        strangers.filter_map(|(_, who)| who.clone()).collect()
    }
}

/// Whether what is left on it is waited for.
pub(crate) fn is_ending(state: WorkerState) -> bool {
    match state {
        WorkerState::Draining | WorkerState::Stopping => true,
        WorkerState::Starting
        | WorkerState::Active
        | WorkerState::Drained
        | WorkerState::BackingOff
        | WorkerState::Failed
        | WorkerState::Exited => false,
    }
}

pub(crate) fn all_queues(diag: &mut Diag) -> Result<Vec<Queue>, DiagError> {
    let mut queues = diag.queues(Family::V4, 0)?;
    queues.append(&mut diag.queues(Family::V6, 0)?);
    Ok(queues)
}

pub(crate) fn handshakes_on(diag: &mut Diag, addresses: &[SocketAddr]) -> u32 {
    let mut ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
        .iter()
        .filter_map(|&port| diag.handshakes(port).ok())
        .flat_map(HashMap::into_values)
        .sum()
}
