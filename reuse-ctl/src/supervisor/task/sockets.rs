//! What the task does about [`sockets`](crate::supervisor::sockets).

use crate::supervisor::sockets::*;
use crate::supervisor::{live::BackgroundEvent, task::Task};
use crate::{
    base::{InstanceId, WorkerState},
    bpf::{BpfError, GroupProgram},
    group::{
        diag::{Listener, Queue},
        discover,
    },
};
use reuse_machine::interface::{Input, Load};
use std::{collections::HashMap, net::SocketAddr, time::Instant};

impl Task {
    /// Something that a look finds may have changed.
    pub(crate) fn look_now(&mut self) {
        self.sockets.next_look = Instant::now();
    }

    /// The same, but not at once: it takes a moment.
    pub(crate) fn look_soon(&mut self) {
        self.sockets.next_look = self.sockets.next_look.min(Instant::now() + LOOK_EVERY);
    }

    pub(crate) fn look(&mut self) {
        let waiting = self.something_waits();
        let pause = match (waiting, std::mem::take(&mut self.sockets.hurries)) {
            (false, _) => IDLE_LOOK_EVERY,
            (true, false) => LOOK_EVERY,
            (true, true) => HURRIED_LOOK_EVERY,
        };
        let began = Instant::now();
        self.sockets.next_look = began + pause;
        self.queue_watch.wake_if_missed(&self.live, &self.groups);
        if let Err(error) = self.groups.tend(self.options().ready.timeout) {
            self.announcer.console.warn(&error.to_string());
        }
        // While something is left of an instance its connections may still move.
        if self.live.is_empty() {
            match self.outlook.give_up(began, &mut self.groups) {
                Ok(given_up) => given_up.into_iter().for_each(|message| self.warn(None, message)),
                Err(error) => self.announcer.console.warn(&error.to_string()),
            }
        }
        for id in self.moves.over(Instant::now()) {
            self.stop_lingering(id);
        }
        self.load_spare();
        let listeners = match all_queues(&mut self.diag) {
            Ok(listeners) => listeners,
            Err(error) => {
                return self
                    .announcer
                    .console
                    .warn(&format!("the sockets can't be listed: {error}"));
            }
        };
        if waiting {
            // Before anything that may withdraw an instance: for it, this list of queues would be too old.
            let loads = self.loads(&listeners);
            // On a machine with very many sockets a look takes long: the task has other things to do, too.
            self.sockets.next_look = self
                .sockets
                .next_look
                .max(Instant::now() + began.elapsed() * LOOK_SHARE);
            self.feed(Input::Observed(loads));
            // What it led to may be waited for in turn.
            if self.something_waits() {
                self.look_soon();
            }
        } else {
            self.release_all_but(&[]);
        }
        self.reconcile(&listeners);
        self.moves.remember_places(&self.live, &self.groups);
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            self.judge_after_look(id);
        }
        self.look_for_strangers(&listeners);
    }

    /// Makes up for notices that were lost, or came while a descriptor was on its way to another number or process.
    fn reconcile(&mut self, listeners: &[Queue]) {
        let others = self.groups.others(listeners);
        for missed in others
            .into_iter()
            .filter(|other| self.groups.is_missed(other.cookie))
            .copied()
            .collect::<Vec<_>>()
        {
            let owner = self.listener(missed).and_then(|listener| {
                self.live
                    .iter()
                    .find(|(_, live)| live.has_made(&listener))
                    .map(|(&id, _)| id)
            });
            if let Some(id) = owner {
                self.on_listen(id, missed.cookie);
            }
        }
        // Twice unseen: the first list may be older than the listener.
        let unseen = self.groups.unseen(listeners);
        let before = std::mem::replace(&mut self.sockets.unseen, unseen.clone());
        for cookie in unseen.into_iter().filter(|cookie| before.contains(cookie)) {
            self.on_close(cookie);
        }
    }

    /// All that the kernel tells of a listener.
    fn listener(&mut self, wanted: Queue) -> Option<Listener> {
        let listeners = self.diag.listeners_on(wanted.addr.port()).ok()?;
        listeners.into_iter().find(|listener| listener.cookie == wanted.cookie)
    }

    fn look_for_strangers(&mut self, listeners: &[Queue]) {
        let candidates: HashMap<u64, (SocketAddr, Queue)> = self
            .groups
            .others(listeners)
            .into_iter()
            .filter_map(|other| Some((other.cookie, (self.groups.joined_by(other.addr)?, *other))))
            .collect();
        self.sockets
            .strangers
            .retain(|cookie, _| candidates.contains_key(cookie));
        for (cookie, (addr, candidate)) in candidates {
            if self.sockets.strangers.contains_key(&cookie) {
                continue;
            }
            let Some(listener) = self.listener(candidate).filter(|listener| !self.is_ours(listener)) else {
                continue;
            };
            self.sockets.strangers.insert(cookie, (addr, None));
            let background_events = self.background_events.clone();
            // Whose it is takes a walk through all of /proc.
            tokio::task::spawn_blocking(move || {
                let who = discover::owner_of_inode(listener.inode);
                let who = who.map(|(pid, command)| format!("{pid} ({command})"));
                drop(background_events.blocking_send(BackgroundEvent::StrangerNamed(cookie, addr, who)));
            });
        }
    }

    pub(crate) fn on_stranger(&mut self, cookie: u64, addr: SocketAddr, who: Option<String>) {
        let process = who.as_ref().map(|who| format!("process {who}"));
        self.announcer.console.warn(&format!(
            "{} listens on {addr} as well; it gets no connection while workers are published",
            process.as_deref().unwrap_or("a process that is gone")
        ));
        if let Some((_, name)) = self.sockets.strangers.get_mut(&cookie) {
            *name = Some(who.unwrap_or_else(|| "a process that is gone".into()));
        }
    }

    /// Has a program ready for the next group, so that the first listener on a new address is steered as soon as it is seen.
    fn load_spare(&mut self) {
        if self.sockets.loading_spare {
            return;
        }
        let Some(load) = self.groups.spare_loader() else { return };
        self.sockets.loading_spare = true;
        let background_events = self.background_events.clone();
        self.go_on_beside(move || {
            let tell = move |loaded| drop(background_events.blocking_send(BackgroundEvent::SpareLoaded(loaded)));
            match load() {
                Ok(unverified) => {
                    let told = tell.clone();
                    // By a thread that ends with the process: on an overloaded machine the verifier takes many seconds, and an app that stops
                    // has no use for the program.
                    let verify = move || told(unverified.verify().map(Box::new));
                    if std::thread::Builder::new().name("verify".into()).spawn(verify).is_err() {
                        tell(Err(BpfError::Missing("thread for the verifier")));
                    }
                }
                Err(error) => tell(Err(error)),
            }
        });
    }

    pub(crate) fn on_spare(&mut self, loaded: Result<Box<GroupProgram>, BpfError>) {
        self.sockets.loading_spare = false;
        match loaded {
            Ok(spare) => self.groups.set_spare(*spare),
            Err(error) => self.announcer.console.warn(&error.to_string()),
        }
    }

    /// Whether a listener was made by one of the app's processes: it will be a member in a moment, or has just been one.
    fn is_ours(&self, listener: &Listener) -> bool {
        listener.cgroup.is_none() || self.live.values().any(|live| live.has_made(listener))
    }

    fn something_waits(&self) -> bool {
        let view = self.machine.view();
        view.slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .any(|instance| is_ending(instance.state))
            || (!self.template.listen.is_empty() && self.live.values().any(|live| !live.ready))
    }

    /// What the kernel says of every instance that runs.
    fn loads(&mut self, listeners: &[Queue]) -> Vec<(InstanceId, Load)> {
        let queues = self.groups.queues_among(listeners);
        let view = self.machine.view();
        let ending: Vec<InstanceId> = view
            .slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .filter(|instance| is_ending(instance.state))
            .map(|instance| instance.id)
            .collect();
        let untold: Vec<InstanceId> = view
            .slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .filter(|instance| instance.state == WorkerState::Stopping)
            .map(|instance| instance.id)
            .filter(|id| self.live.get(id).is_some_and(|live| !live.was_told_to_end()) && !self.moves.lingers(*id))
            .collect();
        self.release_all_but(&untold);
        let waiting = self.waiting(&untold);
        let mut in_the_way = waiting.values().filter(|waiting| waiting.connections > 0).peekable();
        self.sockets.hurries = in_the_way.peek().is_some() && in_the_way.all(|waiting| waiting.is_fleeting);
        let mut loads = Vec::with_capacity(self.live.len());
        let mut handshakes = None;
        let mut own = HashMap::new();
        for &id in &ending {
            // To end it, nothing of the controller's own is waited for.
            let queued = self.live.get(&id).and_then(|live| queues.get(&live.row));
            if queued.is_some_and(|&queued| queued > 0) {
                own.insert(
                    id,
                    self.connections.own_in_queue(&mut self.diag, id, |_| true, |_| true),
                );
            }
        }
        for (&id, live) in &self.live {
            if live.pid().is_none() || self.moves.lingers(id) {
                // One that lingers still gets connections: what it has now says nothing of its end.
                continue;
            }
            let queue = match queues.get(&live.row) {
                Some(&queue) => queue.saturating_sub(own.get(&id).copied().unwrap_or(0)),
                None if self.groups.is_listening(live.row) => {
                    // Not all of its listeners were seen; the next look will show them, or they are forgotten.
                    continue;
                }
                None => 0,
            };
            let is_ending = ending.contains(&id);
            let mut load = Load {
                connections: self.groups.load_of(live.row).established(),
                queue,
                handshakes: 0,
                in_flight: waiting.get(&id).map_or(0, |waiting| waiting.connections),
            };
            if is_ending && load.connections == 0 && load.queue == 0 {
                // Asked for only when nothing else is in the way: the kernel walks all of its connections for it.
                let diag = &mut self.diag;
                let addresses = self.groups.addresses();
                load.handshakes = *handshakes.get_or_insert_with(|| handshakes_on(diag, &addresses));
            }
            loads.push((id, load));
        }
        loads.sort_unstable_by_key(|(id, _)| *id);
        loads
    }
}
