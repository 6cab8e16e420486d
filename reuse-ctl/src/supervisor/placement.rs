//! Where an instance listens, and where it should: on the ports that were named, on what it inherited, and where those before it do.

use super::{
    live::Live,
    moves::Moves,
    new_address::{ServedAt, missing},
    template::Template,
};
use crate::{
    app::options::{ReadyKind, STARTED_AFTER},
    base::InstanceId,
    group::Groups,
};
use std::{collections::HashMap, net::SocketAddr};

/// What that is read off. It changes nothing.
#[derive(Clone, Copy)]
pub(crate) struct Placement<'a> {
    pub(crate) live: &'a HashMap<InstanceId, Live>,
    pub(crate) groups: &'a Groups,
    pub(crate) template: &'a Template,
    pub(crate) moves: &'a Moves,
}

/// How an instance stands by its listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerState {
    /// It does not run, or has nothing that can be judged.
    Unknown,
    /// It was ready, and its last listener is gone.
    Lost,
    /// It listens wherever it should, and was not ready so far.
    Complete,
    /// It listens.
    Listens,
}

impl Placement<'_> {
    pub(crate) fn listener_state(&self, id: InstanceId) -> ListenerState {
        let Some(live) = self.live.get(&id).filter(|live| live.pid().is_some()) else {
            return ListenerState::Unknown;
        };
        match self.groups.served_by(live.row).is_empty() {
            true if live.ready && live.listens => ListenerState::Lost,
            true => ListenerState::Unknown,
            false if !live.ready && self.missing(id).is_empty() => ListenerState::Complete,
            false => ListenerState::Listens,
        }
    }

    /// Whether it can be ready now although it listens nowhere. A worker that says itself that it is ready, or needs only to run, need not
    /// listen anywhere (it may work off a queue, or talk to others by messages), unless it has to serve what its predecessor serves, or a
    /// port was asked for.
    pub(crate) fn is_complete_without_listener(&self, id: InstanceId) -> bool {
        self.live.get(&id).is_some_and(|live| {
            self.need_not_listen(live) && live.announced_ready && live.pid().is_some() && !live.ready && !live.listens
        }) && self.missing(id).is_empty()
    }

    /// Where the instance should listen and does not, in words.
    pub(crate) fn missing(&self, id: InstanceId) -> Vec<String> {
        let Some(live) = self.live.get(&id) else {
            return Vec::new();
        };
        let served = self.groups.served_by(live.row);
        let named = &self.template.options(live.version).ports;
        // Where each has a port of its own, which of them is whose is for the app to know.
        let ports: &[u16] = if self.template.version(live.version).variables.give_own_ports() {
            &[]
        } else {
            named
        };
        let ports = ports
            .iter()
            .filter(|port| !served.iter().any(|addr| addr.port() == **port))
            .map(|port| format!("port {port}"));
        let inherited = self.template.listen.iter().filter(|addr| !served.contains(addr));
        let inherited = inherited.filter(|addr| !named.contains(&addr.port()));
        let others = self.lost(id);
        let others = inherited.chain(others.iter().filter(|addr| !self.template.listen.contains(addr)));
        ports.chain(others.map(ToString::to_string)).collect()
    }

    /// Where those before it listen and it does not, although it should. With `--port` nothing but those ports is asked for.
    pub(crate) fn lost(&self, id: InstanceId) -> Vec<SocketAddr> {
        let Some(live) = self.live.get(&id) else {
            return Vec::new();
        };
        let own = ServedAt {
            addresses: self.groups.served_by(live.row),
            told: live.told.clone(),
        };
        if !self.template.options(live.version).ports.is_empty() {
            return Vec::new();
        }
        if !self
            .live
            .iter()
            .any(|(other, live)| self.serves_beside(id, *other, live))
        {
            // Nobody serves: there is nothing to take away from clients.
            return Vec::new();
        }
        let before = self.before(id);
        let missing = before.iter().map(|before| missing(before, &own, live.may_move));
        // One of these places is enough; where it serves none of them, the first is what is told.
        missing.min_by_key(|missing| !missing.is_empty()).unwrap_or_default()
    }

    /// Where the instance that it replaces listens, and where the last published one of its slot did: that may have crashed while one before
    /// it still ends. If it replaces none: the latter, and where all other ready instances listen, unless each has a port of its own, or need
    /// not listen. While an app moves these are two places. Empty: it is the first.
    pub(crate) fn before(&self, id: InstanceId) -> Vec<ServedAt> {
        let Some(live) = self.live.get(&id) else {
            return Vec::new();
        };
        let place = |other: &Live| ServedAt {
            addresses: self.groups.served_by(other.row),
            told: other.told.clone(),
        };
        let last = self.moves.last_served(live.slot).cloned();
        if let Some(predecessor) = self.predecessor(id).and_then(|id| self.live.get(&id)) {
            return [place(predecessor)].into_iter().chain(last).collect();
        }
        if self.template.version(live.version).variables.give_own_ports() || self.need_not_listen(live) {
            return Vec::new();
        }
        let others = self
            .live
            .iter()
            .filter(|(other, other_live)| self.serves_beside(id, **other, other_live));
        let shared = others.map(|(_, other)| place(other)).reduce(|a, b| ServedAt {
            addresses: &a.addresses & &b.addresses,
            told: a.told.or(&b.told),
        });
        last.into_iter().chain(shared).collect()
    }

    /// Whether `other` is ready, and not only there for the address that the app has left.
    fn serves_beside(&self, id: InstanceId, other: InstanceId, live: &Live) -> bool {
        other != id && live.ready && !self.moves.lingers(other)
    }

    /// The ready instance whose place it takes.
    pub(crate) fn predecessor(&self, id: InstanceId) -> Option<InstanceId> {
        let slot = self.live.get(&id)?.slot;
        let is_it = |(other, live): &(&InstanceId, &Live)| live.slot == slot && self.serves_beside(id, **other, live);
        // Of several the others are on their way out.
        self.live.iter().filter(is_it).map(|(other, _)| *other).max()
    }

    /// What an instance that listens as it should has still not said, for a person.
    pub(crate) fn unannounced(&self, id: InstanceId) -> Option<String> {
        let live = self.live.get(&id).filter(|live| !live.announced_ready)?;
        if self.groups.served_by(live.row).is_empty() || !self.missing(id).is_empty() {
            return None;
        }
        let what = match &self.template.options(live.version).ready.kind {
            ReadyKind::Listener => return None,
            ReadyKind::Ipc => "has not said \"ready\" over its channel (process.send('ready'))".to_owned(),
            ReadyKind::Notify => "has not said READY=1 to its NOTIFY_SOCKET".to_owned(),
            ReadyKind::Started => format!("has not run for {} s", STARTED_AFTER.as_secs()),
            ReadyKind::Http(path) => format!("has not answered GET {path}"),
        };
        Some(format!("it listens, but {what}"))
    }

    /// Whether it can be ready without a listener.
    fn need_not_listen(&self, live: &Live) -> bool {
        match self.template.options(live.version).ready.kind {
            ReadyKind::Ipc | ReadyKind::Notify | ReadyKind::Started => true,
            ReadyKind::Listener | ReadyKind::Http(_) => false,
        }
    }
}
