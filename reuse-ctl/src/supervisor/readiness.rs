//! When an instance is ready: its listeners are there, in every group that it has to serve.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::time::timeout_at;

use super::{
    connections::{Aim, Outcome},
    interface::{Input, InstanceId},
    live::Live,
    task::Task,
};
use crate::options::ReadyKind;

/// How long one proof that an inherited listener is served waits for the server to accept. The start's deadline bounds all of them together.
const PROOF_PATIENCE: Duration = Duration::from_secs(2);

impl Task {
    /// Tells the machine when an instance has become ready, or has lost its last listener.
    pub(super) fn judge(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        if live.pid().is_none() {
            return;
        }
        let served = self.groups.served_by(live.row);
        if live.ready && served.is_empty() {
            self.live.get_mut(&id).expect("looked up above").ready = false;
            self.feed(Input::Unready {
                instance: id,
                reason: "its listener is gone".into(),
            });
        } else if !live.ready && !served.is_empty() && self.is_announced(live) && self.missing(id).is_empty() {
            self.become_ready(id);
        }
    }

    /// Whether it has said that it is ready, if it is to say so.
    fn is_announced(&self, live: &Live) -> bool {
        match self.template.ready {
            ReadyKind::Ipc => live.announced_ready,
            ReadyKind::Listener | ReadyKind::Notify | ReadyKind::Http(_) => true,
        }
    }

    /// Where the instance should listen and does not, in words.
    pub(super) fn missing(&self, id: InstanceId) -> Vec<String> {
        let Some(live) = self.live.get(&id) else {
            return Vec::new();
        };
        let served = self.groups.served_by(live.row);
        let ports = &self.template.ports;
        let ports = ports
            .iter()
            .filter(|port| !served.iter().any(|addr| addr.port() == **port))
            .map(|port| format!("port {port}"));
        let others = self.expected(id);
        let others = others
            .difference(&served)
            .filter(|addr| !self.template.ports.contains(&addr.port()))
            .map(ToString::to_string);
        ports.chain(others).collect()
    }

    /// The addresses that the instance has to serve: those of `--listen`, those of the instance that it replaces, or else
    /// those that all published instances have in common.
    fn expected(&self, id: InstanceId) -> BTreeSet<SocketAddr> {
        let mut expected: BTreeSet<SocketAddr> = self.template.listen.iter().copied().collect();
        let Some(live) = self.live.get(&id) else {
            return expected;
        };
        let ready = || {
            self.live
                .iter()
                .filter(|(other, other_live)| **other != id && other_live.ready)
        };
        let predecessor = ready().find(|(_, other)| other.slot == live.slot);
        if let Some((_, predecessor)) = predecessor {
            expected.extend(self.groups.served_by(predecessor.row));
        } else {
            let common = ready()
                .map(|(_, other)| self.groups.served_by(other.row))
                .reduce(|a, b| &a & &b);
            expected.extend(common.unwrap_or_default());
        }
        expected
    }

    fn become_ready(&mut self, id: InstanceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        // An inherited listener listens before its server runs: only an accepted connection shows that somebody serves it.
        let unproved = self.template.listen.iter().find(|addr| !live.accepted.contains(addr));
        match unproved.copied() {
            Some(addr) => self.prove(id, addr),
            None => {
                (live.ready, live.was_ready) = (true, true);
                self.feed(Input::Ready { instance: id });
            }
        }
    }

    /// Has the server behind an inherited listener accept a connection, unless one is under way.
    fn prove(&mut self, id: InstanceId, addr: SocketAddr) {
        if self.connections.has(id, Aim::is_proof) {
            return;
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        live.problem = Some(format!(
            "it does not accept from the listener on {addr} that it inherited"
        ));
        if let Err(problem) = self.begin_proof(id, addr)
            && let Some(live) = self.live.get_mut(&id)
        {
            live.problem = Some(problem);
        }
    }

    fn begin_proof(&mut self, id: InstanceId, addr: SocketAddr) -> Result<(), String> {
        let live = self.live.get(&id).ok_or("it has ended")?;
        let cookie = self
            .groups
            .directed_listener(live.row, addr)
            .ok_or("its inherited listener is gone")?;
        let way = self.way_to(id, addr)?;
        let deadline = Instant::now() + PROOF_PATIENCE;
        self.direct(way, Aim::Prove(addr), Some(deadline), move |opened| async move {
            let accepted = async { opened?.accepted(cookie).await };
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody accepted the connection");
            let proved = timeout_at(deadline.into(), accepted).await.map_err(late).flatten();
            Outcome::Proved(proved)
        });
        Ok(())
    }

    pub(super) fn on_proved(&mut self, id: InstanceId, addr: SocketAddr, result: io::Result<()>) {
        let Some(live) = self.live.get_mut(&id) else { return };
        match result {
            Ok(()) => {
                live.accepted.push(addr);
                live.problem = None;
                self.judge(id);
            }
            // Tried again at the next look, until the start's own deadline ends it.
            Err(error) => tracing::debug!(%addr, %error, "not accepted yet"),
        }
    }
}
