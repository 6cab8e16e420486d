//! The look at all sockets. It tells the machine the loads that it waits for, makes up for lost notices, and handles parked connections and
//! listeners of other programs. It runs often while something waits for it, and otherwise once a second.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    base::WorkerState,
    group::diag::{Diag, DiagError, Family, Queue},
};

/// Interval of looks while something waits for loads.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Interval of looks while moments without a request in flight are short.
pub(crate) const HURRIED_LOOK_EVERY: Duration = Duration::from_millis(4);

/// The pause after a look is this many times as long as the look.
pub(crate) const LOOK_SHARE: u32 = 4;

/// Interval of looks when nothing waits.
pub(crate) const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// State between looks.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) next_look: Instant,
    /// Members that were missing in the last list of listeners.
    pub(crate) unseen: Vec<u64>,
    /// Listeners in our groups that belong to none of our workers, by cookie, and their process once that is known.
    pub(crate) strangers: BTreeMap<u64, (SocketAddr, Option<String>)>,
    /// Whether a program for the next group is being loaded.
    pub(crate) loading_spare: bool,
    /// Whether to look more often than usual.
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

    /// The other programs that listen on this address, according to the last look: `pid (command)`.
    pub(crate) fn strangers_on(&self, addr: SocketAddr) -> Vec<String> {
        let strangers = self.strangers.values().filter(|(theirs, _)| *theirs == addr);
        strangers.filter_map(|(_, who)| who.clone()).collect()
    }
}

/// Whether someone waits for its remaining connections.
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
