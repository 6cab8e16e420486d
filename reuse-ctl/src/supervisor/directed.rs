//! Connections that the controller itself opens to single workers: to prove that an inherited listener is served, to ask whether a worker
//! is ready, wake-up probes, health checks, and requests of users to one worker.
//!
//! The BPF program is told of each connection before it is opened, and forgets it as soon as both ends are established. A second descriptor
//! of the connection is kept here meanwhile, so that no other connection can get its port while the program knows it.

use super::{asks::Questioner, live::BackgroundEvent, worker_http::RequestError};
use crate::{
    base::InstanceId,
    group::{
        DirectedConnection, Groups, Opened,
        diag::{Diag, ServerSide},
    },
    wire::Got,
};
use reuse_common::{ids::Row, settings::DirectedKey};
use std::{collections::HashMap, io, net::SocketAddr, os::fd::OwnedFd, time::Instant};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout_at,
};

/// Number of abandoned connections that are remembered for each instance. Further ones count as connections of clients.
const REMEMBERED_ABANDONED: usize = 64;

/// The listener's address, and the connection's local address.
type Ends = (SocketAddr, SocketAddr);

/// Identifies a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DirectedId(u64);

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// To see whether the inherited listener on this address is served.
    Prove(SocketAddr),
    /// To see whether a starting worker answers as `--ready` requires.
    AskReady,
    /// To see when a hung worker accepts again.
    WakeProbe,
    /// To see whether a worker is healthy.
    Check,
    /// To send a request to the worker for a client of the API.
    Get(Questioner),
}

impl Purpose {
    pub(crate) const fn is_proof(&self) -> bool {
        matches!(self, Self::Prove(_))
    }

    pub(crate) const fn is_question(&self) -> bool {
        matches!(self, Self::AskReady)
    }

    pub(crate) const fn is_wake_probe(&self) -> bool {
        matches!(self, Self::WakeProbe)
    }

    pub(crate) const fn is_check(&self) -> bool {
        matches!(self, Self::Check)
    }

    pub(crate) const fn is_get(&self) -> bool {
        matches!(self, Self::Get(_))
    }
}

/// The outcome of a connection.
#[derive(Debug)]
pub(crate) enum DirectedOutcome {
    /// Whether the server has accepted it.
    Proved(io::Result<()>),
    /// If the worker is not ready: what came instead of the expected answer.
    AnsweredReady(Result<(), String>),
    /// The worker has closed it, or the error if it could not be opened.
    WakeProbeEnded(io::Result<()>),
    /// If the worker is unhealthy: what is wrong.
    Checked(Result<(), String>),
    /// The check could not be made, for a reason of the controller's own that says nothing about the worker.
    Unchecked(String),
    /// The worker's answer.
    Got(Result<Got, RequestError>),
}

/// The connections in progress.
#[derive(Debug)]
pub(crate) struct DirectedConnections {
    last: u64,
    under_way: HashMap<DirectedId, Connection>,
    /// Connections that ended here while they waited in an instance's queue, where they still wait: the group's address, and both ends.
    abandoned: HashMap<InstanceId, Vec<(SocketAddr, Ends)>>,
    background_events: mpsc::Sender<BackgroundEvent>,
}

#[derive(Debug)]
struct Connection {
    to: InstanceId,
    purpose: Purpose,
    /// The worker's address, as the group is named.
    addr: SocketAddr,
    ends: Ends,
    /// Set until both ends are established.
    key: Option<DirectedKey>,
    _hold: OwnedFd,
    /// Dropping it ends the task that does the work.
    _recall: oneshot::Sender<()>,
}

/// A connection that the BPF program knows and that is not opened yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    to: InstanceId,
    addr: SocketAddr,
    connection: DirectedConnection,
    hold: OwnedFd,
}

impl DirectedConnections {
    pub(crate) fn new(background_events: mpsc::Sender<BackgroundEvent>) -> Self {
        Self {
            last: 0,
            under_way: HashMap::new(),
            abandoned: HashMap::new(),
            background_events,
        }
    }

    /// Tells the program of a connection that is about to be made to the listener on `addr` of the instance with this row. Follow with
    /// [`direct`](Self::direct), which sees to it that the program forgets it.
    ///
    /// # Errors
    /// In words: there is no port or descriptor for it, or no room in the program's map.
    pub(crate) fn prepare(groups: &mut Groups, to: InstanceId, row: Row, addr: SocketAddr) -> Result<Prepared, String> {
        let told = |error: io::Error| format!("a connection to {addr}: {error}");
        let connection = DirectedConnection::new(addr).map_err(told)?;
        let hold = connection.hold().map_err(told)?;
        groups
            .direct(connection.key(), Some(row))
            .map_err(|error| format!("a connection to {addr}: {error}"))?;
        Ok(Prepared {
            to,
            addr,
            connection,
            hold,
        })
    }

    /// Opens a connection in the background, before `deadline` if there is one, and then does `work`, whose outcome comes back as
    /// [`BackgroundEvent::Over`].
    pub(crate) fn direct<F>(
        &mut self,
        Prepared {
            to,
            addr,
            connection,
            hold,
        }: Prepared,
        purpose: Purpose,
        deadline: Option<Instant>,
        work: impl FnOnce(io::Result<Opened>) -> F + Send + 'static,
    ) where
        F: Future<Output = DirectedOutcome> + Send,
    {
        self.last += 1;
        let id = DirectedId(self.last);
        let (recall, recalled) = oneshot::channel();
        let entry = Connection {
            to,
            purpose,
            addr,
            ends: connection.ends(),
            key: Some(connection.key()),
            _hold: hold,
            _recall: recall,
        };
        self.under_way.insert(id, entry);
        let background_events = self.background_events.clone();
        let opening = background_events.clone();
        let working = async move {
            let opened = open(connection, deadline).await;
            if opened.is_ok() {
                // The task is there as long as this has not been recalled.
                drop(opening.send(BackgroundEvent::Established(id)).await);
            }
            work(opened).await
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = recalled => {}
                outcome = working => drop(background_events.send(BackgroundEvent::Over(id, outcome)).await),
            }
        });
    }

    /// Both ends are established: the program needs not know it any more.
    pub(crate) fn established(&mut self, id: DirectedId, groups: &mut Groups) {
        let connection = self.under_way.get_mut(&id);
        if let Some(key) = connection.and_then(|connection| connection.key.take()) {
            forget_key(groups, key);
        }
    }

    /// Its end, and that of the task behind it: whom it was to, and what for. Absent: it was recalled meanwhile.
    pub(crate) fn take(
        &mut self,
        id: DirectedId,
        groups: &mut Groups,
        diag: &mut Diag,
    ) -> Option<(InstanceId, Purpose)> {
        let connection = self.under_way.remove(&id)?;
        if waits(diag, connection.ends) {
            let abandoned = self.abandoned.entry(connection.to).or_default();
            if abandoned.len() < REMEMBERED_ABANDONED {
                abandoned.push((connection.addr, connection.ends));
            }
        }
        if let Some(key) = connection.key {
            // Before its socket is closed: whoever gets the port next is a stranger.
            forget_key(groups, key);
        }
        Some((connection.to, connection.purpose))
    }

    /// Takes all connections to this instance back whose purpose is such: what they would find out would be wrong.
    pub(crate) fn recall(
        &mut self,
        to: InstanceId,
        is_such: impl Fn(&Purpose) -> bool,
        why: &str,
        groups: &mut Groups,
        diag: &mut Diag,
    ) {
        for id in self.ids(to, is_such) {
            let Some((_, purpose)) = self.take(id, groups, diag) else {
                continue;
            };
            match purpose {
                Purpose::Get(questioner) => questioner.refuse(why),
                // That it was taken back says nothing of the worker.
                Purpose::Prove(_) | Purpose::AskReady | Purpose::WakeProbe | Purpose::Check => {}
            }
        }
    }

    /// How many of the controller's own connections wait in the queues of this instance: those that have ended here, and those whose purpose is
    /// such; on the addresses that are meant.
    pub(crate) fn own_in_queue(
        &mut self,
        diag: &mut Diag,
        to: InstanceId,
        is_such: impl Fn(&Purpose) -> bool,
        is_meant: impl Fn(SocketAddr) -> bool,
    ) -> u32 {
        let mut queued = self.waiting(diag, to, is_such, &is_meant);
        if let Some(abandoned) = self.abandoned.get_mut(&to) {
            abandoned.retain(|&(_, ends)| waits(diag, ends));
            let meant = abandoned.iter().filter(|&&(addr, _)| is_meant(addr)).count();
            queued += u32::try_from(meant).unwrap_or(u32::MAX);
        }
        queued
    }

    /// Whether one to this instance is under way whose purpose is such.
    pub(crate) fn has(&self, to: InstanceId, is_such: impl Fn(&Purpose) -> bool) -> bool {
        self.under_way
            .values()
            .any(|connection| connection.to == to && is_such(&connection.purpose))
    }

    /// Number of connections in progress with such a purpose.
    pub(crate) fn count(&self, is_such: impl Fn(&Purpose) -> bool) -> usize {
        self.under_way
            .values()
            .filter(|connection| is_such(&connection.purpose))
            .count()
    }

    /// Forgets abandoned connections that have been accepted or moved.
    pub(crate) fn forget_abandoned(&mut self, to: InstanceId, is_meant: impl Fn(SocketAddr) -> bool) {
        if let Some(abandoned) = self.abandoned.get_mut(&to) {
            abandoned.retain(|&(addr, _)| !is_meant(addr));
            if abandoned.is_empty() {
                self.abandoned.remove(&to);
            }
        }
    }

    /// Number of connections in progress with such a purpose that wait in this instance's queues, on the selected addresses.
    pub(crate) fn waiting(
        &self,
        diag: &mut Diag,
        to: InstanceId,
        is_such: impl Fn(&Purpose) -> bool,
        is_meant: impl Fn(SocketAddr) -> bool,
    ) -> u32 {
        let theirs = self.under_way.values();
        let theirs = theirs.filter(|known| known.to == to && is_such(&known.purpose) && is_meant(known.addr));
        let waiting = theirs.filter(|known| waits(diag, known.ends)).count();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    fn ids(&self, to: InstanceId, is_such: impl Fn(&Purpose) -> bool) -> Vec<DirectedId> {
        let mut ids: Vec<DirectedId> = self
            .under_way
            .iter()
            .filter(|(_, connection)| connection.to == to && is_such(&connection.purpose))
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }
}

fn forget_key(groups: &mut Groups, key: DirectedKey) {
    if let Err(error) = groups.direct(key, None) {
        tracing::warn!("{error}");
    }
}

/// Whether the server has not accepted the connection yet.
fn waits(diag: &mut Diag, (server, client): Ends) -> bool {
    matches!(diag.server_side(server, client), Ok(ServerSide::Queued))
}

/// Whether an error of a connection says something about the worker. Others are the controller's own, such as a lack of descriptors or
/// ports.
pub(crate) const fn is_workers_doing(error: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected, TimedOut, UnexpectedEof,
    };
    matches!(
        error,
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected | TimedOut | UnexpectedEof
    )
}

async fn open(connection: DirectedConnection, deadline: Option<Instant>) -> io::Result<Opened> {
    let Some(deadline) = deadline else {
        return connection.open().await;
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout_at(deadline.into(), connection.open()).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_worker_does_is_held_against_it() {
        for errno in [libc::ECONNREFUSED, libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT] {
            let error = io::Error::from_raw_os_error(errno);
            assert!(is_workers_doing(error.kind()), "{error}");
        }
        for errno in [
            libc::EMFILE,
            libc::ENFILE,
            libc::EADDRNOTAVAIL,
            libc::EADDRINUSE,
            libc::ENOBUFS,
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert!(!is_workers_doing(error.kind()), "{error}");
        }
    }
}
