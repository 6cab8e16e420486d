//! Connections of the controller's own to single workers, while they are under way: proofs that an inherited listener is served, nudges,
//! health checks, and requests that a person makes of one worker.
//!
//! The program is told of each before it is opened, and forgets it as soon as both ends are established. A second descriptor of it is
//! kept here meanwhile: nobody else can get its port as long as the program knows it.

use std::{collections::HashMap, io, net::SocketAddr, os::fd::OwnedFd, time::Instant};

use reuse_common::settings::DirectedKey;
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    asks::Questioner,
    interface::{Input, InstanceId},
    live::Happening,
    request::RequestError,
    task::Task,
};
use crate::{
    api::types::Got,
    group::{
        Opened, Probe,
        diag::{Diag, ServerSide},
    },
};

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Aim {
    /// To see whether somebody serves the inherited listener on this address.
    Prove(SocketAddr),
    /// To see when a hung worker accepts again.
    Nudge,
    /// To see whether a worker is healthy.
    Check,
    /// To ask it something, for a client of the API.
    Get(Questioner),
}

impl Aim {
    pub(super) const fn is_proof(&self) -> bool {
        matches!(self, Self::Prove(_))
    }

    pub(super) const fn is_nudge(&self) -> bool {
        matches!(self, Self::Nudge)
    }

    pub(super) const fn is_check(&self) -> bool {
        matches!(self, Self::Check)
    }
}

/// What has come of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Whether the server has accepted it.
    Proved(io::Result<()>),
    /// It could not be opened, or the worker has closed it.
    NudgeEnded,
    /// Else what is wrong with the worker.
    Checked(Result<(), String>),
    /// The answer.
    Got(Result<Got, RequestError>),
}

/// Those under way.
#[derive(Debug, Default)]
pub(super) struct Connections {
    last: u64,
    under_way: HashMap<Ticket, Connection>,
    /// Connections to each instance that ended here while they waited in its queue, where they go on waiting.
    abandoned: HashMap<InstanceId, u64>,
}

#[derive(Debug)]
struct Connection {
    to: InstanceId,
    aim: Aim,
    /// The listener's address, and its own.
    ends: (SocketAddr, SocketAddr),
    /// Until both ends are established.
    key: Option<DirectedKey>,
    _hold: OwnedFd,
    /// The task that does the work ends when this is dropped.
    _recall: oneshot::Sender<()>,
}

/// A connection of which the program knows, not opened yet.
#[derive(Debug)]
pub(super) struct Way {
    to: InstanceId,
    probe: Probe,
    hold: OwnedFd,
}

impl Connections {
    /// Whether one to this instance is under way whose aim is such.
    pub(super) fn has(&self, to: InstanceId, is_such: impl Fn(&Aim) -> bool) -> bool {
        self.under_way
            .values()
            .any(|connection| connection.to == to && is_such(&connection.aim))
    }

    /// What waited has been accepted, or moved.
    pub(super) fn forget_abandoned(&mut self, to: InstanceId) {
        self.abandoned.remove(&to);
    }

    fn tickets(&self, to: InstanceId, is_such: impl Fn(&Aim) -> bool) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = self
            .under_way
            .iter()
            .filter(|(_, connection)| connection.to == to && is_such(&connection.aim))
            .map(|(&ticket, _)| ticket)
            .collect();
        tickets.sort_unstable();
        tickets
    }
}

impl Task {
    /// Tells the program of a connection that is about to be made to the instance's listener on `addr`. Follow with
    /// [`direct`](Self::direct), which sees to it that the program forgets it.
    pub(super) fn way_to(&mut self, to: InstanceId, addr: SocketAddr) -> Result<Way, String> {
        let row = self.live.get(&to).ok_or("it has ended")?.row;
        let told = |error: io::Error| format!("a connection to {addr}: {error}");
        let probe = Probe::new(addr).map_err(told)?;
        let hold = probe.hold().map_err(told)?;
        self.groups
            .direct(probe.key(), Some(row))
            .map_err(|error| format!("a connection to {addr}: {error}"))?;
        Ok(Way { to, probe, hold })
    }

    /// Opens a connection in the background, before `deadline` if there is one, and then does `work`, whose outcome comes back with
    /// [`on_over`](Self::on_over).
    pub(super) fn direct<F>(
        &mut self,
        Way { to, probe, hold }: Way,
        aim: Aim,
        deadline: Option<Instant>,
        work: impl FnOnce(io::Result<Opened>) -> F + Send + 'static,
    ) where
        F: Future<Output = Outcome> + Send,
    {
        self.connections.last += 1;
        let ticket = Ticket(self.connections.last);
        let (recall, recalled) = oneshot::channel();
        let connection = Connection {
            to,
            aim,
            ends: probe.ends(),
            key: Some(probe.key()),
            _hold: hold,
            _recall: recall,
        };
        self.connections.under_way.insert(ticket, connection);
        let happenings = self.happenings.clone();
        let opening = happenings.clone();
        let working = async move {
            let opened = open(probe, deadline).await;
            if opened.is_ok() {
                // The task is there as long as this has not been recalled.
                drop(opening.send(Happening::Established(ticket)).await);
            }
            work(opened).await
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = recalled => {}
                outcome = working => drop(happenings.send(Happening::Over(ticket, outcome)).await),
            }
        });
    }

    /// Both ends are established: the program needs not know it any more.
    pub(super) fn on_established(&mut self, ticket: Ticket) {
        if let Some(connection) = self.connections.under_way.get_mut(&ticket)
            && let Some(key) = connection.key.take()
        {
            self.forget_key(key);
        }
    }

    /// Something has come of a connection that was not recalled meanwhile.
    pub(super) fn on_over(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some((to, aim)) = self.take_connection(ticket) else {
            return;
        };
        match (aim, outcome) {
            (Aim::Prove(addr), Outcome::Proved(result)) => self.on_proved(to, addr, result),
            (Aim::Check, Outcome::Checked(result)) => self.on_checked(to, result),
            (Aim::Get(questioner), Outcome::Got(result)) => questioner.answer(result),
            // A nudge that is still wanted is renewed at the next look.
            (Aim::Nudge, _) => {}
            (aim, outcome) => debug_assert!(false, "{outcome:?} came of {aim:?}"),
        }
    }

    /// How many of the controller's own connections wait in the queues of this instance: those that have ended here, and those whose aim is
    /// such.
    pub(super) fn own_in_queue(&mut self, to: InstanceId, is_such: impl Fn(&Aim) -> bool) -> u64 {
        let theirs = self.connections.under_way.values();
        let mut queued = self.connections.abandoned.get(&to).copied().unwrap_or(0);
        for connection in theirs.filter(|connection| connection.to == to && is_such(&connection.aim)) {
            queued += u64::from(waits(&mut self.diag, connection));
        }
        queued
    }

    /// Takes all connections to this instance back whose aim is such: what they would find out would be wrong.
    pub(super) fn recall(&mut self, to: InstanceId, is_such: impl Fn(&Aim) -> bool, why: &str) {
        for ticket in self.connections.tickets(to, is_such) {
            let Some((_, aim)) = self.take_connection(ticket) else {
                continue;
            };
            match aim {
                // Not fed at once: this may be a part of carrying out another input.
                Aim::Check => self.inputs.push_back(Input::Checked {
                    instance: to,
                    outcome: Err(why.to_owned()),
                }),
                Aim::Get(questioner) => questioner.refuse(why),
                Aim::Prove(_) | Aim::Nudge => {}
            }
        }
    }

    /// Its end, and that of the task behind it.
    fn take_connection(&mut self, ticket: Ticket) -> Option<(InstanceId, Aim)> {
        let connection = self.connections.under_way.remove(&ticket)?;
        if waits(&mut self.diag, &connection) {
            *self.connections.abandoned.entry(connection.to).or_default() += 1;
        }
        if let Some(key) = connection.key {
            // Before its socket is closed: whoever gets the port next is a stranger.
            self.forget_key(key);
        }
        Some((connection.to, connection.aim))
    }

    fn forget_key(&mut self, key: DirectedKey) {
        if let Err(error) = self.groups.direct(key, None) {
            tracing::warn!("{error}");
        }
    }
}

/// Whether the server has not accepted it yet.
fn waits(diag: &mut Diag, connection: &Connection) -> bool {
    let (server, client) = connection.ends;
    matches!(diag.server_side(server, client), Ok(ServerSide::Queued))
}

async fn open(probe: Probe, deadline: Option<Instant>) -> io::Result<Opened> {
    let Some(deadline) = deadline else {
        return probe.open().await;
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout_at(deadline.into(), probe.open()).await.map_err(late)?
}
