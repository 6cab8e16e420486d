//! The look at all sockets. It tells the machine the loads that it waits for, makes up for lost notices, and handles parked connections and
//! listeners of other programs. It runs often while something waits for it, and otherwise once a second.

use super::{
    live::{BackgroundEvent, Live},
    moves::Moves,
    quiesce::Waiting,
};
use reuse_common::ids::Row;
use reuse_machine::{View, interface::Load};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

use crate::{
    base::{InstanceId, WorkerState},
    bpf::BpfError,
    group::{
        Groups,
        diag::{Diag, DiagError, Family, Listener, Queue},
        discover,
    },
};

/// Interval of looks while something waits for loads.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Interval of looks while moments without a request in flight are short.
const HURRIED_LOOK_EVERY: Duration = Duration::from_millis(4);

/// The pause after a look is this many times as long as the look.
const LOOK_SHARE: u32 = 4;

/// Interval of looks when nothing waits.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// State between looks.
#[derive(Debug)]
pub(crate) struct Sockets {
    next_look: Instant,
    /// Members that were missing in the last list of listeners.
    unseen: Vec<u64>,
    /// Listeners in our groups that belong to none of our workers, by cookie, and their process once that is known.
    strangers: BTreeMap<u64, (SocketAddr, Option<String>)>,
    /// Whether a program for the next group is being loaded.
    loading_spare: bool,
    /// Whether to look more often than usual.
    hurries: bool,
}

impl Sockets {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next_look: now,
            unseen: Vec::new(),
            strangers: BTreeMap::new(),
            loading_spare: false,
            hurries: false,
        }
    }

    /// When to look next.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Something that a look finds may have changed.
    pub(crate) fn look_now(&mut self) {
        self.next_look = Instant::now();
    }

    /// The same, but not at once: it takes a moment.
    pub(crate) fn look_soon(&mut self) {
        self.next_look = self.next_look.min(Instant::now() + LOOK_EVERY);
    }

    /// A look begins now: plans the next, by whether something waits for what is seen.
    pub(crate) fn begin_look(&mut self, waiting: bool, now: Instant) {
        let pause = match (waiting, std::mem::take(&mut self.hurries)) {
            (false, _) => IDLE_LOOK_EVERY,
            (true, false) => LOOK_EVERY,
            (true, true) => HURRIED_LOOK_EVERY,
        };
        self.next_look = now + pause;
    }

    /// On a machine with very many sockets a look takes long, `took`: the task has other things to do, too.
    pub(crate) fn put_off(&mut self, took: Duration) {
        self.next_look = self.next_look.max(Instant::now() + took * LOOK_SHARE);
    }

    /// The next look hurries if all that is in the way of stop signals is fleeting.
    pub(crate) fn set_hurries(&mut self, waiting: &HashMap<InstanceId, Waiting>) {
        let mut in_the_way = waiting.values().filter(|waiting| waiting.connections > 0).peekable();
        self.hurries = in_the_way.peek().is_some() && in_the_way.all(|waiting| waiting.is_fleeting);
    }

    /// Members that were not seen now nor at the look before. Twice: the first list may be older than the listener.
    pub(crate) fn gone(&mut self, unseen: Vec<u64>) -> Vec<u64> {
        let before = std::mem::replace(&mut self.unseen, unseen.clone());
        unseen.into_iter().filter(|cookie| before.contains(cookie)).collect()
    }

    /// Finds listeners of others on the addresses of the groups, and has it looked up whose they are.
    pub(crate) fn look_for_strangers(
        &mut self,
        listeners: &[Queue],
        groups: &Groups,
        live: &HashMap<InstanceId, Live>,
        diag: &mut Diag,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) {
        let candidates: HashMap<u64, (SocketAddr, Queue)> = groups
            .others(listeners)
            .into_iter()
            .filter_map(|other| Some((other.cookie, (groups.joined_by(other.addr)?, *other))))
            .collect();
        self.strangers.retain(|cookie, _| candidates.contains_key(cookie));
        for (cookie, (addr, candidate)) in candidates {
            if self.strangers.contains_key(&cookie) {
                continue;
            }
            let Some(listener) = listener(candidate, diag).filter(|listener| !is_ours(listener, live)) else {
                continue;
            };
            self.strangers.insert(cookie, (addr, None));
            let background_events = background_events.clone();
            // Whose it is takes a walk through all of /proc.
            tokio::task::spawn_blocking(move || {
                let who = discover::owner_of_inode(listener.inode);
                let who = who.map(|(pid, command)| format!("{pid} ({command})"));
                drop(background_events.blocking_send(BackgroundEvent::StrangerNamed(cookie, addr, who)));
            });
        }
    }

    /// It was looked up who has this listener. Returns what people are told.
    pub(crate) fn on_stranger(&mut self, cookie: u64, addr: SocketAddr, who: Option<String>) -> String {
        let process = who.as_ref().map(|who| format!("process {who}"));
        let told = format!(
            "{} listens on {addr} as well; it gets no connection while workers are published",
            process.as_deref().unwrap_or("a process that is gone")
        );
        if let Some((_, name)) = self.strangers.get_mut(&cookie) {
            *name = Some(who.unwrap_or_else(|| "a process that is gone".into()));
        }
        told
    }

    /// Has a program ready for the next group, so that the first listener on a new address is steered as soon as it is seen.
    /// Returns what loads it, beside the task.
    pub(crate) fn load_spare(
        &mut self,
        groups: &Groups,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) -> Option<impl FnOnce() + Send + use<>> {
        if self.loading_spare {
            return None;
        }
        let load = groups.spare_loader()?;
        self.loading_spare = true;
        let background_events = background_events.clone();
        Some(move || {
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
        })
    }

    /// The program is there, or can't be.
    pub(crate) fn on_spare(&mut self) {
        self.loading_spare = false;
    }

    /// Who listens on this address as well, as the last look found: `pid (command)`.
    pub(crate) fn strangers_on(&self, addr: SocketAddr) -> Vec<String> {
        let strangers = self.strangers.values().filter(|(theirs, _)| *theirs == addr);
        strangers.filter_map(|(_, who)| who.clone()).collect()
    }
}

/// Whether someone waits for its remaining connections.
fn is_ending(state: WorkerState) -> bool {
    match state {
        WorkerState::Draining | WorkerState::Stopping => true,
        WorkerState::Starting
        | WorkerState::Active
        | WorkerState::Drained
        | WorkerState::BackingOff
        | WorkerState::Failed
        | WorkerState::Exited => false,
    }
}

pub(crate) fn all_queues(diag: &mut Diag) -> Result<Vec<Queue>, DiagError> {
    let mut queues = diag.queues(Family::V4, 0)?;
    queues.append(&mut diag.queues(Family::V6, 0)?);
    Ok(queues)
}

fn handshakes_on(diag: &mut Diag, addresses: &[SocketAddr]) -> u32 {
    let mut ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
        .iter()
        .filter_map(|&port| diag.handshakes(port).ok())
        .flat_map(HashMap::into_values)
        .sum()
}

/// What one look has seen, and what is to be made of it.
pub(crate) struct SeenLoads {
    /// The accept queues.
    pub(crate) queues: BTreeMap<Row, u32>,
    /// So many connections in the queues of these are the controller's own.
    pub(crate) own: HashMap<InstanceId, u32>,
    /// They are on their way out.
    pub(crate) ending: BTreeSet<InstanceId>,
    /// What is in the way of their stop signals.
    pub(crate) waiting: HashMap<InstanceId, Waiting>,
}

impl SeenLoads {
    /// What the machine is told of every instance that runs.
    pub(crate) fn loads(
        &self,
        live: &HashMap<InstanceId, Live>,
        moves: &Moves,
        groups: &Groups,
        diag: &mut Diag,
    ) -> Vec<(InstanceId, Load)> {
        let mut loads = Vec::with_capacity(live.len());
        let mut handshakes = None;
        for (&id, live) in live {
            if live.pid().is_none() || moves.lingers(id) {
                // One that lingers still gets connections: what it has now says nothing of its end.
                continue;
            }
            let queue = match self.queues.get(&live.row) {
                Some(&queue) => queue.saturating_sub(self.own.get(&id).copied().unwrap_or(0)),
                None if groups.is_listening(live.row) => {
                    // Not all of its listeners were seen; the next look will show them, or they are forgotten.
                    continue;
                }
                None => 0,
            };
            let is_ending = self.ending.contains(&id);
            let mut load = Load {
                connections: groups.load_of(live.row).established(),
                queue,
                handshakes: 0,
                in_flight: self.waiting.get(&id).map_or(0, |waiting| waiting.connections),
            };
            if is_ending && load.connections == 0 && load.queue == 0 {
                // Asked for only when nothing else is in the way: the kernel walks all of its connections for it.
                let addresses = groups.addresses();
                load.handshakes = *handshakes.get_or_insert_with(|| handshakes_on(diag, &addresses));
            }
            loads.push((id, load));
        }
        loads.sort_unstable_by_key(|(id, _)| *id);
        loads
    }
}

/// Those on their way out.
pub(crate) fn are_ending(view: &View) -> impl Iterator<Item = InstanceId> {
    let instances = view.slots.iter().flat_map(|slot| &slot.instances);
    instances
        .filter(|instance| is_ending(instance.state))
        .map(|instance| instance.id)
}

/// Those that are to get their stop signal, and have not.
pub(crate) fn untold(view: &View, live: &HashMap<InstanceId, Live>, moves: &Moves) -> Vec<InstanceId> {
    let instances = view.slots.iter().flat_map(|slot| &slot.instances);
    instances
        .filter(|instance| instance.state == WorkerState::Stopping)
        .map(|instance| instance.id)
        .filter(|id| live.get(id).is_some_and(|live| !live.was_told_to_end()) && !moves.lingers(*id))
        .collect()
}

/// Listeners of which no notice has come.
pub(crate) fn missed(listeners: &[Queue], groups: &Groups) -> Vec<Queue> {
    let others = groups.others(listeners).into_iter();
    others.filter(|other| groups.is_missed(other.cookie)).copied().collect()
}

/// The instance that has made this listener.
pub(crate) fn owner_of(missed: Queue, live: &HashMap<InstanceId, Live>, diag: &mut Diag) -> Option<InstanceId> {
    let listener = listener(missed, diag)?;
    let owner = live.iter().find(|(_, live)| live.has_made(&listener));
    owner.map(|(&id, _)| id)
}

/// All that the kernel tells of a listener.
fn listener(wanted: Queue, diag: &mut Diag) -> Option<Listener> {
    let listeners = diag.listeners_on(wanted.addr.port()).ok()?;
    listeners.into_iter().find(|listener| listener.cookie == wanted.cookie)
}

/// Whether a listener was made by one of the app's processes: it will be a member in a moment, or has just been one.
fn is_ours(listener: &Listener, live: &HashMap<InstanceId, Live>) -> bool {
    listener.cgroup.is_none() || live.values().any(|live| live.has_made(listener))
}
