//! What the task does about [`connections`](crate::supervisor::connections).

use crate::supervisor::connections::*;
use crate::supervisor::{live::BackgroundEvent, task::Task};
use crate::{
    base::InstanceId,
    group::{Opened, Probe},
};
use reuse_common::settings::DirectedKey;
use std::{io, net::SocketAddr, time::Instant};
use tokio::sync::oneshot;

impl Task {
    /// Tells the program of a connection that is about to be made to the instance's listener on `addr`. Follow with
    /// [`direct`](Self::direct), which sees to it that the program forgets it.
    pub(crate) fn prepare_connection(&mut self, to: InstanceId, addr: SocketAddr) -> Result<Prepared, String> {
        let row = self.live.get(&to).ok_or("it has ended")?.row;
        let told = |error: io::Error| format!("a connection to {addr}: {error}");
        let probe = Probe::new(addr).map_err(told)?;
        let hold = probe.hold().map_err(told)?;
        self.groups
            .direct(probe.key(), Some(row))
            .map_err(|error| format!("a connection to {addr}: {error}"))?;
        Ok(Prepared { to, addr, probe, hold })
    }

    /// Opens a connection in the background, before `deadline` if there is one, and then does `work`, whose outcome comes back with
    /// [`on_over`](Self::on_over).
    pub(crate) fn direct<F>(
        &mut self,
        Prepared { to, addr, probe, hold }: Prepared,
        purpose: Purpose,
        deadline: Option<Instant>,
        work: impl FnOnce(io::Result<Opened>) -> F + Send + 'static,
    ) where
        F: Future<Output = DirectedOutcome> + Send,
    {
        self.connections.last += 1;
        let ticket = Ticket(self.connections.last);
        let (recall, recalled) = oneshot::channel();
        let connection = Connection {
            to,
            purpose,
            addr,
            ends: probe.ends(),
            key: Some(probe.key()),
            _hold: hold,
            _recall: recall,
        };
        self.connections.under_way.insert(ticket, connection);
        let background_events = self.background_events.clone();
        let opening = background_events.clone();
        let working = async move {
            let opened = open(probe, deadline).await;
            if opened.is_ok() {
                // The task is there as long as this has not been recalled.
                drop(opening.send(BackgroundEvent::Established(ticket)).await);
            }
            work(opened).await
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = recalled => {}
                outcome = working => drop(background_events.send(BackgroundEvent::Over(ticket, outcome)).await),
            }
        });
    }

    /// Both ends are established: the program needs not know it any more.
    pub(crate) fn on_established(&mut self, ticket: Ticket) {
        if let Some(connection) = self.connections.under_way.get_mut(&ticket)
            && let Some(key) = connection.key.take()
        {
            self.forget_key(key);
        }
    }

    /// Something has come of a connection that was not recalled meanwhile.
    pub(crate) fn on_over(&mut self, ticket: Ticket, outcome: DirectedOutcome) {
        let Some((to, purpose)) = self.take_connection(ticket) else {
            return;
        };
        match (purpose, outcome) {
            (Purpose::Prove(addr), DirectedOutcome::Proved(result)) => self.on_proved(to, addr, result),
            (Purpose::AskReady, DirectedOutcome::AnsweredReady(result)) => self.on_ready_answer(to, result),
            (Purpose::Check, DirectedOutcome::Checked(result)) => self.on_checked(to, result),
            (Purpose::Check, DirectedOutcome::Unchecked(problem)) => {
                tracing::warn!(instance = to.0, problem, "not checked")
            }
            (Purpose::Get(questioner), DirectedOutcome::Got(result)) => questioner.answer(result),
            // A wake-up probe that is still wanted is renewed at the next look.
            (Purpose::WakeProbe, DirectedOutcome::WakeProbeEnded(Err(error))) if !is_workers_doing(error.kind()) => {
                self.on_no_wake_probe(to, &error.to_string());
            }
            (Purpose::WakeProbe, _) => {}
            (purpose, outcome) => debug_assert!(false, "{outcome:?} came of {purpose:?}"),
        }
    }

    /// How many of the controller's own connections wait in the queues of this instance: those that have ended here, and those whose purpose is
    /// such; on the addresses that are meant.
    pub(crate) fn own_in_queue(
        &mut self,
        to: InstanceId,
        is_such: impl Fn(&Purpose) -> bool,
        is_meant: impl Fn(SocketAddr) -> bool,
    ) -> u32 {
        let mut queued = self.connections.waiting(&mut self.diag, to, is_such, &is_meant);
        if let Some(abandoned) = self.connections.abandoned.get_mut(&to) {
            abandoned.retain(|&(_, ends)| waits(&mut self.diag, ends));
            let meant = abandoned.iter().filter(|&&(addr, _)| is_meant(addr)).count();
            queued += u32::try_from(meant).unwrap_or(u32::MAX);
        }
        queued
    }

    /// Takes all connections to this instance back whose purpose is such: what they would find out would be wrong.
    pub(crate) fn recall(&mut self, to: InstanceId, is_such: impl Fn(&Purpose) -> bool, why: &str) {
        for ticket in self.connections.tickets(to, is_such) {
            let Some((_, purpose)) = self.take_connection(ticket) else {
                continue;
            };
            match purpose {
                Purpose::Get(questioner) => questioner.refuse(why),
                // That it was taken back says nothing of the worker.
                Purpose::Prove(_) | Purpose::AskReady | Purpose::WakeProbe | Purpose::Check => {}
            }
        }
    }

    /// Its end, and that of the task behind it.
    fn take_connection(&mut self, ticket: Ticket) -> Option<(InstanceId, Purpose)> {
        let connection = self.connections.under_way.remove(&ticket)?;
        if waits(&mut self.diag, connection.ends) {
            let abandoned = self.connections.abandoned.entry(connection.to).or_default();
            if abandoned.len() < REMEMBERED_ABANDONED {
                abandoned.push((connection.addr, connection.ends));
            }
        }
        if let Some(key) = connection.key {
            // Before its socket is closed: whoever gets the port next is a stranger.
            self.forget_key(key);
        }
        Some((connection.to, connection.purpose))
    }

    fn forget_key(&mut self, key: DirectedKey) {
        if let Err(error) = self.groups.direct(key, None) {
            tracing::warn!("{error}");
        }
    }
}
