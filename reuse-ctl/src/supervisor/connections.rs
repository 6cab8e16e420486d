//! Connections of the controller's own to single workers, while they are under way: proofs that an inherited listener is served, questions
//! whether a worker is ready, wake-up probes, health checks, and requests that a person makes of one worker.
//!
//! The program is told of each before it is opened, and forgets it as soon as both ends are established. A second descriptor of it is
//! kept here meanwhile: nobody else can get its port as long as the program knows it.

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

/// So many connections that ended here are remembered for each instance. Further ones are taken for clients' own.
pub(crate) const REMEMBERED_ABANDONED: usize = 64;

/// The listener's address, and the connection's own.
type Ends = (SocketAddr, SocketAddr);

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// To see whether somebody serves the inherited listener on this address.
    Prove(SocketAddr),
    /// To see whether a worker that starts answers as `--ready` wants.
    AskReady,
    /// To see when a hung worker accepts again.
    WakeProbe,
    /// To see whether a worker is healthy.
    Check,
    /// To ask it something, for a client of the API.
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

/// What has come of it.
#[derive(Debug)]
pub(crate) enum DirectedOutcome {
    /// Whether the server has accepted it.
    Proved(io::Result<()>),
    /// Else what came instead of the answer of a worker that is ready.
    AnsweredReady(Result<(), String>),
    /// The worker has closed it, or why it could not be opened.
    WakeProbeEnded(io::Result<()>),
    /// Else what is wrong with the worker.
    Checked(Result<(), String>),
    /// It could not be checked, for a reason of the controller's own: that says nothing of the worker.
    Unchecked(String),
    /// The answer.
    Got(Result<Got, RequestError>),
}

/// Those under way.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) last: u64,
    pub(crate) under_way: HashMap<Ticket, Connection>,
    /// Connections to each instance that ended here while they waited in its queue, where they go on waiting: the
    /// group's address, and both ends.
    pub(crate) abandoned: HashMap<InstanceId, Vec<(SocketAddr, Ends)>>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) to: InstanceId,
    pub(crate) purpose: Purpose,
    /// Where the worker listens, by the name of its group.
    pub(crate) addr: SocketAddr,
    pub(crate) ends: Ends,
    /// Until both ends are established.
    pub(crate) key: Option<DirectedKey>,
    pub(crate) _hold: OwnedFd,
    /// The task that does the work ends when this is dropped.
    pub(crate) _recall: oneshot::Sender<()>,
}

/// A connection of which the program knows, not opened yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) to: InstanceId,
    pub(crate) addr: SocketAddr,
    pub(crate) probe: Probe,
    pub(crate) hold: OwnedFd,
}

impl Connections {
    /// Whether one to this instance is under way whose purpose is such.
    pub(crate) fn has(&self, to: InstanceId, is_such: impl Fn(&Purpose) -> bool) -> bool {
        self.under_way
            .values()
            .any(|connection| connection.to == to && is_such(&connection.purpose))
    }

    /// How many are under way whose purpose is such.
    pub(crate) fn count(&self, is_such: impl Fn(&Purpose) -> bool) -> usize {
        self.under_way
            .values()
            .filter(|connection| is_such(&connection.purpose))
            .count()
    }

    /// What waited has been accepted, or moved.
    pub(crate) fn forget_abandoned(&mut self, to: InstanceId, is_meant: impl Fn(SocketAddr) -> bool) {
        if let Some(abandoned) = self.abandoned.get_mut(&to) {
            abandoned.retain(|&(addr, _)| !is_meant(addr));
            if abandoned.is_empty() {
                self.abandoned.remove(&to);
            }
        }
    }

    /// How many of those under way wait in the queues of this instance, whose purpose is such, on the addresses that are meant.
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

/// Whether the server has not accepted it yet.
pub(crate) fn waits(diag: &mut Diag, (server, client): Ends) -> bool {
    matches!(diag.server_side(server, client), Ok(ServerSide::Queued))
}

/// Whether an error of a connection says something of the worker: others are of the controller's own making, such as no descriptor or no
/// port that is free.
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
