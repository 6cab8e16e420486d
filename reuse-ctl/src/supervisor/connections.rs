//! Connections that the controller itself opens to single workers: to prove that an inherited listener is served, to ask whether a worker
//! is ready, wake-up probes, health checks, and requests of users to one worker.
//!
//! The BPF program is told of each connection before it is opened, and forgets it as soon as both ends are established. A second descriptor
//! of the connection is kept here meanwhile, so that no other connection can get its port while the program knows it.

use super::{asks::Questioner, request::RequestError};
use crate::{
    base::InstanceId,
    group::{
        Opened, Probe,
        diag::{Diag, ServerSide},
    },
    wire::Got,
};
use reuse_common::settings::DirectedKey;
use std::{collections::HashMap, io, net::SocketAddr, os::fd::OwnedFd, time::Instant};
use tokio::{sync::oneshot, time::timeout_at};

/// Number of abandoned connections that are remembered for each instance. Further ones count as connections of clients.
pub(crate) const REMEMBERED_ABANDONED: usize = 64;

/// The listener's address, and the connection's local address.
type Ends = (SocketAddr, SocketAddr);

/// Identifies a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

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
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) last: u64,
    pub(crate) under_way: HashMap<Ticket, Connection>,
    /// Connections that ended here while they waited in an instance's queue, where they still wait: the group's address, and both ends.
    pub(crate) abandoned: HashMap<InstanceId, Vec<(SocketAddr, Ends)>>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) to: InstanceId,
    pub(crate) purpose: Purpose,
    /// The worker's address, as the group is named.
    pub(crate) addr: SocketAddr,
    pub(crate) ends: Ends,
    /// Set until both ends are established.
    pub(crate) key: Option<DirectedKey>,
    pub(crate) _hold: OwnedFd,
    /// Dropping it ends the task that does the work.
    pub(crate) _recall: oneshot::Sender<()>,
}

/// A connection that the BPF program knows and that is not opened yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) to: InstanceId,
    pub(crate) addr: SocketAddr,
    pub(crate) probe: Probe,
    pub(crate) hold: OwnedFd,
}

impl Connections {
    /// Whether a connection to this instance with such a purpose is in progress.
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

    pub(crate) fn tickets(&self, to: InstanceId, is_such: impl Fn(&Purpose) -> bool) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = self
            .under_way
            .iter()
            .filter(|(_, connection)| connection.to == to && is_such(&connection.purpose))
            .map(|(&ticket, _)| ticket)
            .collect();
        tickets.sort_unstable();
        tickets
    }
}

/// Whether the server has not accepted the connection yet.
pub(crate) fn waits(diag: &mut Diag, (server, client): Ends) -> bool {
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

pub(crate) async fn open(probe: Probe, deadline: Option<Instant>) -> io::Result<Opened> {
    let Some(deadline) = deadline else {
        return probe.open().await;
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout_at(deadline.into(), probe.open()).await.map_err(late)?
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
