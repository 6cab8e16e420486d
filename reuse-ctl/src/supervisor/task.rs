//! The one owner of all mutable state.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reuse_common::notice::{Notice, NoticeKind};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{broadcast, mpsc, oneshot},
    time::sleep_until,
};

use super::{
    console::Console,
    core::Core,
    diagnosis::{Failures, address_of, owner, unsteerable},
    interface::{Command, Input, InstanceId, Load, Millis, RequestId},
    live::{self, Happening, Live, Process},
    setup::Template,
    status::UsageMeter,
};
use crate::{
    api::{
        Ask,
        types::{Event, Reply, WorkerState},
    },
    bpf::Notices,
    group::{
        Appeared, Groups,
        diag::{Diag, Listener},
    },
    process::{logs, usage},
};

/// How often loads are looked at while something waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How often logs are looked at.
const BOUND_LOGS_EVERY: Duration = Duration::from_secs(10);

/// So many addresses that an instance tried to bind are kept, for the case that it fails.
const REMEMBERED_BINDS: usize = 16;

/// How often the sockets are looked at when nothing waits: parked connections, strangers.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everything that the controller knows and may change.
pub(super) struct Task {
    pub(super) core: Core,
    pub(super) template: Template,
    pub(super) groups: Groups,
    pub(super) diag: Diag,
    pub(super) live: HashMap<InstanceId, Live>,
    pub(super) console: Console,
    pub(super) meter: UsageMeter,
    pub(super) happenings: mpsc::Sender<Happening>,
    pub(super) started: Instant,
    pub(super) finished: Option<Finished>,
    /// The last reason why a worker failed, and what it had written: what `run` ends with when all have.
    pub(super) last_failure: Option<(String, Vec<String>)>,
    pub(super) failures: Failures,
    /// Strangers that were told of.
    strangers: Vec<u64>,
    /// Members that the last list of listeners did not have.
    unseen: Vec<u64>,
    logs_bounded: Instant,
    announced: bool,
    pub(super) events: broadcast::Sender<Event>,
    replies: HashMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    /// Inputs that carrying out an effect has led to.
    pub(super) inputs: VecDeque<Input>,
    next_look: Instant,
}

/// The app is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    /// Because every worker has failed.
    pub(super) failed: bool,
}

impl Task {
    pub(super) fn new(
        core: Core,
        template: Template,
        groups: Groups,
        diag: Diag,
        console: Console,
        events: broadcast::Sender<Event>,
    ) -> (Self, mpsc::Receiver<Happening>) {
        let (happenings, happened) = mpsc::channel(64);
        let now = Instant::now();
        let task = Self {
            core,
            template,
            groups,
            diag,
            live: HashMap::new(),
            console,
            meter: UsageMeter::default(),
            happenings,
            started: now,
            finished: None,
            last_failure: None,
            failures: Failures::default(),
            strangers: Vec::new(),
            unseen: Vec::new(),
            logs_bounded: now,
            announced: false,
            events,
            replies: HashMap::new(),
            next_request: 0,
            inputs: VecDeque::new(),
            next_look: now,
        };
        (task, happened)
    }

    /// Runs until the machine says that nothing is left.
    pub(super) async fn run(
        &mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut notices: Notices,
        mut happened: mpsc::Receiver<Happening>,
        mut signals: Signals,
    ) -> Finished {
        self.feed(Input::Start);
        let mut blind = false;
        loop {
            if let Some(finished) = self.finished {
                return finished;
            }
            let wake = self.wake_at();
            tokio::select! {
                biased;
                asked = signals.any() => self.on_signal(asked),
                Some(happening) = happened.recv() => self.on_happening(happening),
                seen = notices.next(), if !blind => match seen {
                    Ok(seen) => seen.iter().for_each(|notice| self.on_notice(notice)),
                    Err(error) => {
                        // Without notices nothing new can be steered: better to end than to go on blind.
                        blind = true;
                        self.console.warn(&format!("the kernel's notices can't be read any more ({error}): stopping"));
                        self.on_signal(Asked::ToStop);
                    }
                },
                Some(ask) = asks.recv() => self.on_ask(ask),
                () = sleep_until(wake.into()) => self.on_time(),
            }
        }
    }

    pub(super) fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).expect("not for 500 million years"))
    }

    fn wake_at(&self) -> Instant {
        let due = self
            .core
            .next_deadline()
            .map(|deadline| self.started + Duration::from_millis(deadline.0));
        due.map_or(self.next_look, |due| due.min(self.next_look))
    }

    /// Tells the machine, and carries out what it says and what follows from that.
    pub(super) fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            tracing::debug!(?input);
            let now = self.now();
            for effect in self.core.handle(input, now) {
                tracing::debug!(?effect);
                self.carry_out(effect);
            }
        }
        self.announce();
    }

    fn on_signal(&mut self, asked: Asked) {
        match asked {
            Asked::ToStop if self.core.view().stopping => {}
            Asked::ToStop | Asked::ByHand => self.feed(Input::Interrupt),
        }
    }

    fn on_time(&mut self) {
        if self.next_look <= Instant::now() {
            self.look();
        }
        if self.core.next_deadline().is_some_and(|deadline| deadline <= self.now()) {
            self.feed(Input::Tick);
        }
    }

    /// Looks at the sockets: what waits for loads is told them; parked connections and strangers are seen to.
    fn look(&mut self) {
        let waiting = self.something_waits();
        self.next_look = Instant::now() + if waiting { LOOK_EVERY } else { IDLE_LOOK_EVERY };
        let tended = self.groups.tend(self.template.ready_timeout);
        if let Err(error) = tended.and_then(|()| Ok(self.groups.prepare()?)) {
            self.console.warn(&error.to_string());
        }
        self.bound_logs();
        let listeners = match self.diag.listeners() {
            Ok(listeners) => listeners,
            Err(error) => return self.console.warn(&format!("the sockets can't be listed: {error}")),
        };
        if waiting {
            // Before anything that may withdraw an instance: for it, this list of queues would be too old.
            let loads = self.loads(&listeners);
            self.feed(Input::Observed(loads));
            // What it led to may be waited for in turn.
            if self.something_waits() {
                self.next_look = Instant::now() + LOOK_EVERY;
            }
        }
        self.reconcile(&listeners);
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            self.judge(id);
        }
        for (addr, listener) in self.groups.strangers(&listeners) {
            if self.is_ours(listener) || self.strangers.contains(&listener.cookie) {
                continue;
            }
            self.strangers.push(listener.cookie);
            let who = owner(listener);
            self.console.warn(&format!(
                "{who} listens on {addr} as well; it gets no connection while workers are published"
            ));
        }
    }

    /// Makes up for notices that were lost, or came while a descriptor was on its way to another number or process.
    fn reconcile(&mut self, listeners: &[Listener]) {
        for listener in listeners
            .iter()
            .filter(|listener| self.groups.is_missed(listener))
            .collect::<Vec<_>>()
        {
            let owner = self.live.iter().find(|(_, live)| live.has_made(listener));
            if let Some((&id, _)) = owner {
                self.on_listen(id, listener.cookie);
            }
        }
        // Twice unseen: the first list may be older than the listener.
        let unseen: Vec<u64> = self.groups.unseen(listeners).collect();
        let before = std::mem::replace(&mut self.unseen, unseen.clone());
        for cookie in unseen.into_iter().filter(|cookie| before.contains(cookie)) {
            self.on_close(cookie);
        }
    }

    /// Cuts logs that have grown too long, now and then and beside the work.
    fn bound_logs(&mut self) {
        if self.logs_bounded.elapsed() < BOUND_LOGS_EVERY {
            return;
        }
        self.logs_bounded = Instant::now();
        let logs: Vec<PathBuf> = self.live.values().map(|live| live.log.clone()).collect();
        tokio::task::spawn_blocking(move || {
            for log in logs {
                if let Err(error) = logs::bound(&log) {
                    tracing::warn!("{}: {error}", log.display());
                }
            }
        });
    }

    /// Whether a listener was made by one of the app's processes: it will be a member in a moment, or has just been one.
    pub(super) fn is_ours(&self, listener: &Listener) -> bool {
        listener.cgroup.is_none() || self.live.values().any(|live| live.has_made(listener))
    }

    fn something_waits(&self) -> bool {
        let view = self.core.view();
        view.slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .any(|instance| matches!(instance.state, WorkerState::Draining | WorkerState::Stopping))
            || (!self.template.listen.is_empty() && self.live.values().any(|live| !live.ready))
    }

    /// What the kernel says of every instance that runs.
    fn loads(&mut self, listeners: &[Listener]) -> Vec<(InstanceId, Load)> {
        let mut loads = Vec::with_capacity(self.live.len());
        let mut handshakes = None;
        for (&id, live) in &self.live {
            let Some(pid) = live.pid() else { continue };
            let mut load = Load {
                connections: self.groups.load_of(live.row).established(),
                queue: self.groups.queue_of(live.row, listeners),
                handshakes: 0,
                catches_stop_signal: usage::catches_signal(pid, self.template.stop_signal),
            };
            if load.connections == 0 && load.queue == 0 {
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

    fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => {
                let status = self.status();
                // The client has gone away; so be it, here and below.
                drop(reply.send(status));
            }
            Ask::Canary { .. } | Ask::Get { .. } => {}
            Ask::Command { command, reply } => {
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.replies.insert(id, reply);
                if matches!(
                    command,
                    Command::Drain { .. }
                        | Command::Stop { .. }
                        | Command::Restart { .. }
                        | Command::Reload { .. }
                        | Command::Scale(_)
                ) {
                    self.next_look = Instant::now();
                }
                self.feed(Input::Request { id, command });
            }
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        if let Some(waiting) = self.replies.remove(&id) {
            drop(waiting.send(reply));
        }
    }

    fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Spawned(id, running) => {
                let pid = running.pid;
                let Some(live) = self.live.get_mut(&id) else { return };
                live.process = Process::Running(running.handle);
                live::reap(id, running.child, Arc::clone(&live.cgroup), self.happenings.clone());
                self.feed(Input::Spawned { instance: id, pid });
                self.judge(id);
            }
            Happening::SpawnFailed(id, error) => {
                self.note_failure(id, format!("{error}; {}", error.hint()));
                self.bury(id);
                self.feed(Input::SpawnFailed {
                    instance: id,
                    reason: error.to_string(),
                });
            }
            Happening::Exited(id, exit) => {
                self.diagnose(id);
                self.bury(id);
                self.feed(Input::Exited { instance: id, exit });
            }
            Happening::Probed(id, probed) => self.on_probed(id, probed),
        }
    }

    /// A worker's socket is about to be bound, listens, or has closed.
    fn on_notice(&mut self, notice: &Notice) {
        let owner = self
            .live
            .iter()
            .find(|(_, live)| u32::from(live.row) == notice.instance)
            .map(|(&id, _)| id);
        let Some(id) = owner else { return };
        match NoticeKind::from_number(notice.kind) {
            Some(NoticeKind::Bind) => {
                if let Some(live) = self.live.get_mut(&id) {
                    let bind = address_of(notice);
                    if live.binds.len() < REMEMBERED_BINDS && !live.binds.contains(&bind) {
                        live.binds.push(bind);
                    }
                }
            }
            Some(NoticeKind::Listen) => self.on_listen(id, notice.cookie),
            Some(NoticeKind::Close) => {
                self.on_close(notice.cookie);
                self.judge(id);
            }
            Some(NoticeKind::Traffic) => {}
            None => tracing::warn!("a notice of unknown kind {}", notice.kind),
        }
    }

    fn on_listen(&mut self, id: InstanceId, cookie: u64) {
        let Some(live) = self.live.get_mut(&id) else { return };
        match self.groups.appeared(live.row, &live.pids(), cookie) {
            Ok(Appeared::Member(_)) => self.judge(id),
            // Closed again, or on its way to another descriptor: the next look finds it if it is still there.
            Ok(Appeared::Gone) => self.next_look = self.next_look.min(Instant::now() + LOOK_EVERY),
            Err(error) => {
                // It can't be steered, so it must not serve: to go on would hide connections from everybody.
                live.problem = Some(unsteerable(&error, cookie, &mut self.diag, self.template.identity.uid));
                live.kill();
            }
        }
    }

    fn on_close(&mut self, cookie: u64) {
        let cgroups: HashMap<u16, Arc<_>> = self
            .live
            .values()
            .map(|live| (live.row, Arc::clone(&live.cgroup)))
            .collect();
        let pids_of = |row: u16| {
            cgroups
                .get(&row)
                .and_then(|cgroup| cgroup.pids().ok())
                .unwrap_or_default()
        };
        if let Err(error) = self.groups.disappeared(cookie, pids_of) {
            self.console.warn(&error.to_string());
        }
    }

    /// Nothing of the instance is left: takes it out of every table.
    fn bury(&mut self, id: InstanceId) {
        let Some(live) = self.live.remove(&id) else { return };
        self.groups.unregister(live.row, live.cgroup.id());
        if let Err(error) = live.cgroup.remove() {
            tracing::warn!("{error}");
        }
    }

    /// Sends an event to whoever listens.
    pub(super) fn tell(&self, mut event: Event) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        event.at_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        drop(self.events.send(event));
    }

    /// Says once that everything is up.
    fn announce(&mut self) {
        let view = self.core.view();
        if self.announced || view.slots.iter().any(|slot| slot.state != WorkerState::Active) || view.slots.is_empty() {
            return;
        }
        self.announced = true;
        let addresses: Vec<String> = self.groups.addresses().iter().map(ToString::to_string).collect();
        let workers = view.slots.len();
        self.console.say(&format!(
            "{}: {workers} worker{} on {}, {}",
            self.template.app,
            if workers == 1 { "" } else { "s" },
            addresses.join(", "),
            view.policy.name(),
        ));
    }
}

fn handshakes_on(diag: &mut Diag, addresses: &[std::net::SocketAddr]) -> u32 {
    let mut ports: Vec<u16> = addresses.iter().map(std::net::SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
        .iter()
        .filter_map(|&port| diag.handshakes(port).ok())
        .flat_map(HashMap::into_values)
        .sum()
}

/// The signals that end the controller.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them.
    async fn any(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::ByHand,
            _ = self.terminate.recv() => Asked::ToStop,
            _ = self.hangup.recv() => Asked::ToStop,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Ctrl-C: once to stop, once more to kill.
    ByHand,
    /// To stop, however often it comes: a closing terminal and a service manager send several signals.
    ToStop,
}
