//! The task that owns all mutable state: the machine, and the components, which do not know it.
//!
//! It only routes. What comes in goes to the component that it is about, or to the machine; what a component returns is fed to the machine,
//! announced, answered, or passed to another component. Requests come in by `asks.rs` and `apply.rs`, what other tasks and threads report by
//! `background_events.rs`; `effects.rs` carries out what the machine says. This file has the loop, the looks that it makes by itself, and the
//! feeding of the machine.

mod apply;
mod asks;
mod background_events;
mod effects;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::sleep_until,
};

use crate::supervisor::{
    all_failed::Outlook,
    announcer::Announcer,
    apply::Applying,
    console::Console,
    diagnosis::{Diagnoses, LastOutput},
    directed::DirectedConnections,
    faults::WakeProbes,
    health::Health,
    left_out::LeftOutListeners,
    live::{BackgroundEvent, Live},
    logs::Logs,
    lookups::{Lookups, stopped},
    messages::Messages,
    moves::Moves,
    ports::Guards,
    queue_watch::{QueueLook, QueueWatch},
    quiesce::Quiesce,
    recycle::{Due, Recycle},
    recycle_files::Files,
    service_manager::ServiceManager,
    signals::{SignalMeaning, SignalRequests, Signals},
    sockets::{self, Sockets, all_queues},
    status::UsageMeter,
    template::Template,
};
use crate::{
    app::options::{HealthOptions, RecycleOptions},
    base::{InstanceId, Millis, RequestId, WorkerState},
    bpf::Notices,
    group::{
        Groups,
        diag::{Diag, Queue},
    },
    process::freeze::Freezer,
    supervisor::handle::Ask,
    wire::{Event, Reply},
};
use reuse_machine::{
    Machine, View, count,
    interface::{Backlog, Input, Load},
};

/// Everything that the controller knows and may change.
pub(crate) struct Task {
    machine: Machine,
    template: Template,
    groups: Groups,
    /// Dropped after the groups.
    guards: Guards,
    diag: Diag,
    live: HashMap<InstanceId, Live>,
    connections: DirectedConnections,
    wake_probes: WakeProbes,
    queue_watch: QueueWatch,
    health: Option<Health>,
    recycle: Recycle,
    sockets: Sockets,
    left_out: LeftOutListeners,
    quiesce: Quiesce,
    freezer: Freezer,
    /// When it ends it shows the last lines.
    logs: Logs,
    announcer: Announcer,
    messages: Messages,
    meter: Arc<Mutex<UsageMeter>>,
    background_events: mpsc::Sender<BackgroundEvent>,
    finished: Option<Finished>,
    diagnoses: Diagnoses,
    replies: HashMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    signalled: SignalRequests,
    applying: Option<Applying>,
    lookups: Lookups,
    service: ServiceManager,
    outlook: Outlook,
    moves: Moves,
    /// Inputs that carrying out an effect has led to.
    inputs: VecDeque<Input>,
    /// What goes on beside the task and uses what belongs to the app by name.
    beside: JoinSet<()>,
    started: Instant,
    announced: bool,
}

/// How workers are looked after.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// 0: hung workers are not looked for.
    pub(crate) hung_after_ms: u64,
    /// Absent: no checks.
    pub(crate) health: Option<HealthOptions>,
    pub(crate) logs: Logs,
    /// When workers are replaced that are well.
    pub(crate) recycle: RecycleOptions,
    /// What `--watch` watches.
    pub(crate) files: Option<Files>,
    pub(crate) service: ServiceManager,
    /// They hold the ports of `--port`.
    pub(crate) guards: Guards,
}

/// The app is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Because every worker has failed.
    pub(crate) failed: bool,
}

impl Task {
    pub(crate) fn new(
        machine: Machine,
        template: Template,
        groups: Groups,
        diag: Diag,
        console: Console,
        events: broadcast::Sender<Event>,
        upkeep: Upkeep,
    ) -> (Self, mpsc::Receiver<BackgroundEvent>) {
        let (background_events, happened) = mpsc::channel(64);
        let now = Instant::now();
        let policy = machine.view().policy;
        let messages = Messages::new(&template.app);
        let mut task = Self {
            machine,
            template,
            groups,
            guards: upkeep.guards,
            diag,
            live: HashMap::new(),
            connections: DirectedConnections::new(background_events.clone()),
            wake_probes: WakeProbes::default(),
            queue_watch: QueueWatch::new(upkeep.hung_after_ms),
            health: upkeep.health.map(Health::new),
            recycle: Recycle::new(&upkeep.recycle, upkeep.files, &background_events),
            sockets: Sockets::new(now),
            left_out: LeftOutListeners::default(),
            quiesce: Quiesce::default(),
            freezer: Freezer::default(),
            logs: upkeep.logs,
            announcer: Announcer::new(console, events, messages.bus.clone()),
            messages,
            meter: Arc::default(),
            lookups: Lookups::new(background_events.clone()),
            background_events,
            finished: None,
            diagnoses: Diagnoses::default(),
            replies: HashMap::new(),
            next_request: 0,
            signalled: SignalRequests::default(),
            applying: None,
            service: upkeep.service,
            outlook: Outlook::default(),
            moves: Moves::default(),
            inputs: VecDeque::new(),
            beside: JoinSet::new(),
            started: now,
            announced: false,
        };
        task.set_queue_watch(policy);
        (task, happened)
    }

    /// Runs until the machine says that nothing is left.
    pub(crate) async fn run(
        &mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut notices: Notices,
        mut happened: mpsc::Receiver<BackgroundEvent>,
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
                Some(event) = happened.recv() => self.on_background_event(event),
                seen = notices.next(), if !blind => match seen {
                    Ok(seen) => seen.iter().for_each(|notice| self.on_notice(notice)),
                    Err(error) => {
                        // Without notices nothing new can be steered: better to end than to go on blind.
                        blind = true;
                        self.announcer.console.warn(&format!("the kernel's notices can't be read any more ({error}): stopping"));
                        self.on_signal(SignalMeaning::ToStop);
                    }
                },
                () = sleep_until(wake.into()) => self.on_time(),
                Some(ask) = asks.recv() => self.on_ask(ask),
            }
        }
    }

    /// Does what takes a while and uses what belongs to the app by name: its pins, its cgroups.
    fn go_on_beside(&mut self, work: impl FnOnce() + Send + 'static) {
        while self.beside.try_join_next().is_some() {}
        self.beside.spawn_blocking(work);
    }

    /// Waits until all of that is done: as soon as the app's lock is gone, another app may have its name.
    pub(crate) async fn come_to_rest(&mut self) {
        while self.beside.join_next().await.is_some() {}
    }

    /// Why the app has failed, if it has: the reason that a slot has, and the last failure with what that worker had written.
    pub(crate) fn last_words(&self) -> (Option<String>, Option<(String, LastOutput)>) {
        let reason = self.machine.view().slots.into_iter().find_map(|slot| slot.reason);
        (reason, self.diagnoses.last().cloned())
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).expect("not for 500 million years"))
    }

    /// When something is due next.
    fn wake_at(&self) -> Instant {
        let deadline = self.machine.next_deadline();
        let deadline = deadline.map(|deadline| self.started + Duration::from_millis(deadline.0));
        let check = self.health.as_ref().and_then(Health::due);
        [
            deadline,
            check,
            self.queue_watch.due(),
            self.recycle.due(),
            self.service.due(),
        ]
        .into_iter()
        .flatten()
        .fold(self.sockets.next_look(), Instant::min)
    }

    fn on_time(&mut self) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        // The queues first: they are what the machine's deadlines are about, and they can't wait.
        if is_due(self.queue_watch.due()) {
            self.look_at_queues();
        }
        if self
            .machine
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.now())
        {
            self.feed(Input::Tick);
        }
        self.service.watch(Instant::now());
        if let Some(health) = self.health.as_mut().filter(|health| is_due(health.due())) {
            health.check(&self.live, &self.template, &mut self.groups, &mut self.connections);
        }
        if is_due(self.recycle.due()) {
            match self.recycle.look() {
                Due::Nothing => {}
                Due::Judge => self.judge_workers(&HashMap::new()),
                Due::Measure => self.recycle.measure(&self.live, &self.background_events),
            }
        }
        if is_due(Some(self.sockets.next_look())) {
            self.poll_sockets();
        }
    }

    /// Looks at the queues, tells the machine and the kernel, and decides when to look next.
    fn look_at_queues(&mut self) {
        let look = self.queue_watch.look(&self.live, &mut self.groups, &mut self.diag);
        let QueueLook {
            watched,
            listeners,
            seen,
            began,
        } = match look {
            Ok(look) => look,
            Err(error) => {
                let console = &self.announcer.console;
                return console.warn(&format!("the queues can't be seen: {error}"));
            }
        };
        let told = watched.iter().map(|watched| {
            let (connections, diag) = (&mut self.connections, &mut self.diag);
            let queue = self
                .wake_probes
                .queue_to_tell(watched, &listeners, &self.groups, connections, diag);
            let backlog = Backlog {
                queue,
                ..watched.backlog
            };
            (watched.id, backlog)
        });
        let told = told.collect();
        self.feed(Input::Watched(told));
        self.renew_wake_probes();
        self.queue_watch
            .plan(seen, began, self.wake_probes.any(), &mut self.groups);
    }

    /// For [`Sockets::look_now`].
    fn look_now(&mut self) {
        self.sockets.look_now();
    }

    /// For [`Sockets::look_soon`].
    fn look_soon(&mut self) {
        self.sockets.look_soon();
    }

    /// Looks at all sockets, tells the machine the loads that it waits for, and does what is due now and then.
    fn poll_sockets(&mut self) {
        let waiting = self.something_waits();
        let began = Instant::now();
        self.sockets.begin_look(waiting, began);
        self.queue_watch.wake_if_missed(&self.live, &self.groups);
        if let Err(error) = self.groups.tend(self.options().ready.timeout) {
            self.announcer.console.warn(&error.to_string());
        }
        for (addr, connections) in self.groups.take_reset_parked() {
            let waited = count(connections, "connection");
            self.warn(
                None,
                format!("{waited} that waited at {addr} were reset: the app serves that port on all addresses now"),
            );
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
        if let Some(load) = self.sockets.load_spare(&self.groups, &self.background_events) {
            self.go_on_beside(load);
        }
        let listeners = match all_queues(&mut self.diag) {
            Ok(listeners) => listeners,
            Err(error) => {
                let console = &self.announcer.console;
                return console.warn(&format!("the sockets can't be listed: {error}"));
            }
        };
        if waiting {
            // Before anything that may withdraw an instance: for it, this list of queues would be too old.
            let loads = self.loads(&listeners);
            self.sockets.put_off(began.elapsed());
            self.feed(Input::Observed(loads));
            // What it led to may be waited for in turn.
            if self.something_waits() {
                self.look_soon();
            }
        } else {
            self.quiesce
                .release_all_but(&[], &self.live, &mut self.groups, &self.announcer.console);
        }
        self.reconcile(&listeners);
        self.moves.remember_served(&self.live, &self.groups);
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            self.judge_after_look(id);
        }
        self.sockets.look_for_strangers(
            &listeners,
            &self.groups,
            &self.live,
            &mut self.diag,
            &self.background_events,
        );
    }

    /// Makes up for notices that were lost, or came while a descriptor was on its way to another number or process.
    fn reconcile(&mut self, listeners: &[Queue]) {
        for missed in sockets::missed(listeners, &self.groups) {
            if !self.left_out.waits(missed.cookie)
                && let Some(id) = sockets::owner_of(missed, &self.live, &mut self.diag)
            {
                self.on_listen(id, missed.cookie);
            }
        }
        for cookie in self.sockets.gone(self.groups.unseen(listeners)) {
            self.on_close(cookie);
        }
    }

    fn something_waits(&self) -> bool {
        sockets::are_ending(&self.machine.view()).next().is_some()
            || (!self.template.listen.is_empty() && self.live.values().any(|live| !live.ready))
    }

    /// What the kernel says of every instance that runs.
    fn loads(&mut self, listeners: &[Queue]) -> Vec<(InstanceId, Load)> {
        let queues = self.groups.queues_among(listeners);
        let view = self.machine.view();
        let untold = sockets::untold(&view, &self.live, &self.moves);
        let (groups, console) = (&mut self.groups, &self.announcer.console);
        self.quiesce.release_all_but(&untold, &self.live, groups, console);
        let waiting = self
            .quiesce
            .waiting(&untold, &self.live, &self.template, groups, console);
        self.sockets.set_hurries(&waiting);
        let ending: BTreeSet<InstanceId> = sockets::are_ending(&view).collect();
        // To end one, nothing of the controller's own is waited for.
        let queued = ending.iter().filter(|id| {
            let live = self.live.get(id);
            live.is_some_and(|live| queues.get(&live.row).is_some_and(|&queued| queued > 0))
        });
        let own = queued.map(|&id| {
            let diag = &mut self.diag;
            (id, self.connections.own_in_queue(diag, id, |_| true, |_| true))
        });
        let own = own.collect();
        let seen = sockets::SeenLoads {
            queues,
            own,
            ending,
            waiting,
        };
        seen.loads(&self.live, &self.moves, &self.groups, &mut self.diag)
    }

    /// Tells the machine, and carries out what it says and what follows from that.
    fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.work_off();
    }

    /// The same, for what is queued already.
    fn work_off(&mut self) {
        let mut may_change_workers = false;
        while let Some(input) = self.inputs.pop_front() {
            tracing::debug!(?input);
            if let Input::Request { id, command } = &input {
                self.moves.begins(*id, command);
            }
            may_change_workers |= !matches!(
                input,
                Input::Watched(_) | Input::Observed(_) | Input::Checked { .. } | Input::Tick
            );
            let now = self.now();
            for effect in self.machine.handle(input, now) {
                tracing::debug!(?effect);
                may_change_workers = true;
                self.carry_out(effect);
            }
        }
        if may_change_workers {
            let view = self.machine.view();
            self.refresh_health(&view);
            self.queue_watch
                .set_fault(view.slots.iter().any(|slot| slot.fault.is_some()));
            self.messages.assign(&view, &self.live);
            self.outlook.follow(view.all_failed, Instant::now(), &mut self.groups);
            self.moves.forget_slots_from(view.slots.len());
            self.announce(&view);
            self.service.tell(&view);
            if view.stopping {
                for id in self.lookups.give_up() {
                    self.reply(id, stopped());
                }
            }
            self.take_pending();
        }
    }

    /// For [`Health::refresh`].
    fn refresh_health(&mut self, view: &View) {
        if let Some(health) = &mut self.health {
            health.refresh(view);
        }
    }

    /// Says once that everything is up, and again when it is after everybody had failed.
    fn announce(&mut self, view: &View) {
        self.announced &= !view.all_failed;
        if self.announced || view.slots.iter().any(|slot| slot.state != WorkerState::Active) || view.slots.is_empty() {
            return;
        }
        self.announced = true;
        let addresses: Vec<String> = self.groups.addresses().iter().map(ToString::to_string).collect();
        let workers = count(view.slots.len(), "worker");
        let app = &self.template.app;
        self.announcer.console.say(&if addresses.is_empty() {
            format!("{app}: {workers}, listening nowhere")
        } else {
            format!("{app}: {workers} on {}, {}", addresses.join(", "), view.policy.name())
        });
    }
}
