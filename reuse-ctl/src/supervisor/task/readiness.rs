//! When an instance is ready: its listeners are there, in every group that it has to serve, and it has said or shown what `--ready` wants.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::time::{sleep_until, timeout_at};

use crate::supervisor::{
    connections::{Connections, DirectedOutcome, Purpose},
    live::{BackgroundEvent, Live},
    new_address::{Place, missing},
    request,
    task::Task,
};
use crate::{
    app::options::{ReadyKind, STARTED_AFTER},
    base::InstanceId,
    group::Opened,
};
use reuse_machine::interface::Input;

/// How long one question may take that is to be answered when the worker is ready. The next is asked no earlier than [`ASK_EVERY`]
/// after it began. The start's deadline bounds all of them together.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// See [`ASK_PATIENCE`].
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long one proof that an inherited listener is served waits for the server to accept. The start's deadline bounds all of them together.
const PROOF_PATIENCE: Duration = Duration::from_secs(2);

impl Task {
    /// Tells the machine when an instance has become ready, or has lost its last listener.
    pub(crate) fn judge(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        if live.pid().is_none() {
            return;
        }
        let served = self.groups.served_by(live.row);
        if live.ready && live.listens && served.is_empty() {
            self.live.get_mut(&id).expect("looked up above").ready = false;
            self.feed(Input::Unready {
                instance: id,
                reason: "its listener is gone".into(),
            });
        } else if !served.is_empty() {
            let live = self.live.get_mut(&id).expect("looked up above");
            live.listens = true;
            if !live.ready && self.missing(id).is_empty() {
                self.become_ready(id);
            } else {
                self.judge_move_again(id);
            }
        }
    }

    /// The same, right after a look at all sockets: what is not seen then does not listen. A worker that says itself that it is ready, or needs only to run, need not
    /// listen anywhere (it may work off a queue, or talk to others by messages), unless it has to serve what its predecessor serves, or a
    /// port was asked for.
    pub(crate) fn judge_after_look(&mut self, id: InstanceId) {
        self.judge(id);
        let Some(live) = self.live.get(&id) else { return };
        if self.need_not_listen(live)
            && live.announced_ready
            && live.pid().is_some()
            && !live.ready
            && !live.listens
            && self.missing(id).is_empty()
        {
            if self.health.is_some() {
                let slot = live.slot;
                self.announcer
                    .console
                    .warn(&format!("worker {slot} listens nowhere: its health can't be checked"));
            }
            self.become_ready(id);
        }
    }

    /// Whether it can be ready without a listener.
    fn need_not_listen(&self, live: &Live) -> bool {
        match self.template.options(live.version).ready.kind {
            ReadyKind::Ipc | ReadyKind::Notify | ReadyKind::Started => true,
            ReadyKind::Listener | ReadyKind::Http(_) => false,
        }
    }

    /// Its command runs. If no more is wanted of it than that this lasts, that will be known in a moment.
    pub(crate) fn on_started(&self, id: InstanceId) {
        let is_wanted = |live: &Live| self.template.options(live.version).ready.kind == ReadyKind::Started;
        if self.live.get(&id).is_some_and(is_wanted) {
            let background_events = self.background_events.clone();
            tokio::spawn(async move {
                tokio::time::sleep(STARTED_AFTER).await;
                // Nobody is there any more when the app has ended.
                drop(background_events.send(BackgroundEvent::Settled(id)).await);
            });
        }
    }

    /// It has said that it is ready, or has run for long enough. Where it listens may not be known yet: the notice of that is still on its way.
    pub(crate) fn announce_ready(&mut self, id: InstanceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.announced_ready = true;
        self.judge(id);
        if self.live.get(&id).is_some_and(|live| !live.ready) {
            self.look_now();
        }
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
        let own = Place {
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
    pub(crate) fn before(&self, id: InstanceId) -> Vec<Place> {
        let Some(live) = self.live.get(&id) else {
            return Vec::new();
        };
        let place = |other: &Live| Place {
            addresses: self.groups.served_by(other.row),
            told: other.told.clone(),
        };
        let last = self.moves.place_of(live.slot).cloned();
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
        let shared = others.map(|(_, other)| place(other)).reduce(|a, b| Place {
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

    fn become_ready(&mut self, id: InstanceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        // An inherited listener listens before its server runs: only an accepted connection shows that somebody serves it.
        let unproved = self.template.listen.iter().find(|addr| !live.accepted.contains(addr));
        if let Some(addr) = unproved.copied() {
            return self.prove(id, addr);
        }
        match &self.template.options(live.version).ready.kind {
            ReadyKind::Ipc | ReadyKind::Notify | ReadyKind::Started if !live.announced_ready => return,
            ReadyKind::Http(path) if !live.announced_ready => {
                let path = path.clone();
                return self.ask_whether_ready(id, &path);
            }
            ReadyKind::Listener | ReadyKind::Ipc | ReadyKind::Notify | ReadyKind::Started | ReadyKind::Http(_) => {}
        }
        (live.ready, live.was_ready) = (true, true);
        // Whatever was wrong with an earlier one explains nothing from now on.
        self.last_failure = None;
        self.feed(Input::Ready { instance: id });
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

    /// Asks the instance, unless a question is under way.
    fn ask_whether_ready(&mut self, id: InstanceId, path: &str) {
        if self.connections.has(id, Purpose::is_question) {
            return;
        }
        // Else it is asked again at the next look.
        if let Err(problem) = self.begin_question(id, path)
            && let Some(live) = self.live.get_mut(&id)
        {
            live.problem = Some(problem);
        }
    }

    fn begin_question(&mut self, id: InstanceId, path: &str) -> Result<(), String> {
        let row = self.live.get(&id).ok_or("it has ended")?.row;
        let addr = *self.groups.served_by(row).first().ok_or("it does not listen")?;
        let prepared = Connections::prepare(&mut self.groups, id, row, addr)?;
        let began = Instant::now();
        let deadline = began + ASK_PATIENCE;
        let path = path.to_owned();
        self.connections
            .direct(prepared, Purpose::AskReady, Some(deadline), move |opened| async move {
                let asked = timeout_at(deadline.into(), answer_of(opened, &path)).await;
                let answered = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ASK_PATIENCE.as_secs())));
                if answered.is_err() {
                    sleep_until((began + ASK_EVERY).into()).await;
                }
                DirectedOutcome::AnsweredReady(
                    answered.map_err(|problem| format!("it listens, but GET {path} on {addr}: {problem}")),
                )
            });
        Ok(())
    }

    pub(crate) fn on_ready_answer(&mut self, id: InstanceId, answered: Result<(), String>) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.announced_ready = answered.is_ok();
        live.problem = answered.err();
        self.judge(id);
    }

    /// Has the server behind an inherited listener accept a connection, unless one is under way.
    fn prove(&mut self, id: InstanceId, addr: SocketAddr) {
        if self.connections.has(id, Purpose::is_proof) {
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
        let row = self.live.get(&id).ok_or("it has ended")?.row;
        let cookie = self
            .groups
            .directed_listener(row, addr)
            .ok_or("its inherited listener is gone")?;
        let prepared = Connections::prepare(&mut self.groups, id, row, addr)?;
        let deadline = Instant::now() + PROOF_PATIENCE;
        self.connections.direct(
            prepared,
            Purpose::Prove(addr),
            Some(deadline),
            move |opened| async move {
                let accepted = async { opened?.accepted(cookie).await };
                let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody accepted the connection");
                let proved = timeout_at(deadline.into(), accepted).await.map_err(late).flatten();
                DirectedOutcome::Proved(proved)
            },
        );
        Ok(())
    }

    pub(crate) fn on_proved(&mut self, id: InstanceId, addr: SocketAddr, result: io::Result<()>) {
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

/// Else what came instead.
pub(crate) async fn answer_of(opened: io::Result<Opened>, path: &str) -> Result<(), String> {
    let opened = opened.map_err(|error| error.to_string())?;
    let host = opened.target();
    match request::status(opened.into_stream(), host, path).await {
        Ok(200..=399) => Ok(()),
        Ok(status) => Err(format!("status {status}")),
        Err(error) => Err(error.to_string()),
    }
}
