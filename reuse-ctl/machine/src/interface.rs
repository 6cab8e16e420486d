//! What goes into the pure machine and what comes out of it: data only, no process, socket or clock.

use std::fmt;

use reuse_common::{Policy, Share, limits::MAX_SLOTS};

use crate::{
    ids::{InstanceId, RequestId, SlotId, VersionId},
    states::ErrorKind,
    text::Text,
};

/// The most slots that an app may have: the kernel program has room for no more.
pub const MAX_WORKERS: u16 = MAX_SLOTS as u16;
const _: () = assert!(MAX_WORKERS as usize == MAX_SLOTS);

/// What the machine is told once, at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many slots to start, 1…256.
    pub workers: u16,
    /// How long a new instance may take to become ready.
    pub ready_timeout_ms: u64,
    /// How long connections may take to end: the default of the verb `drain`, and the grace after the stop signal.
    pub drain_timeout_ms: u64,
    /// How long a process without connections may take to exit after the stop signal, before it is killed.
    pub stop_timeout_ms: u64,
    /// Whether processes that only have connections get the stop signal when their time is over, before they are killed.
    pub rest_gets_signal: bool,
    /// How long an instance that is ready must live before it takes the place of one that serves; 0: it takes it at once.
    pub settle_ms: u64,
    /// How many slots a roll-out replaces at the same time.
    pub surge: Surge,
    /// Crash restart: first delay, and the bound it doubles up to.
    pub backoff_min_ms: u64,
    /// See `backoff_min_ms`.
    pub backoff_max_ms: u64,
    /// So many exits or failed starts in a row, none of them active for `stable_ms`, make a slot failed.
    pub crash_limit: u32,
    /// An instance that was active this long proves its slot healthy: the crash count starts anew.
    pub stable_ms: u64,
    /// Seed of the backoff jitter.
    pub seed: u64,
    /// When a worker is called hung, and what is done about it.
    pub hung: HungRules,
    /// When a worker is called unhealthy; absent: no health checks.
    pub health: Option<HealthRules>,
    /// What becomes of the app when every worker has failed.
    pub when_all_failed: WhenAllFailed,
}

/// What becomes of an app whose workers have all failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllFailed {
    /// It ends, so that whoever started it (a terminal, a service manager, a container runtime) sees that and may start it again.
    Finish,
    /// It stays until somebody starts its workers again or stops it, provided that a worker has served before: nobody watches it.
    Stay,
}

/// The part of [`Config`] that may change while the app runs; each means there what it means here. What is waited for already keeps the
/// deadline that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Config` describes every field")]
pub struct Rules {
    pub ready_timeout_ms: u64,
    pub drain_timeout_ms: u64,
    pub stop_timeout_ms: u64,
    pub rest_gets_signal: bool,
    pub settle_ms: u64,
    pub surge: Surge,
    pub hung: HungRules,
    pub health: Option<HealthRules>,
}

/// How many slots a roll-out replaces at the same time, start-first. Each has an instance more meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surge {
    /// So many, 1 or more.
    Workers(u16),
    /// So many percent of the app's slots, rounded up, as Kubernetes does with its `maxSurge`: 1…100.
    Percent(u8),
}

impl Surge {
    /// Of an app with so many slots: at least 1.
    pub fn of(self, slots: usize) -> usize {
        let at_once = match self {
            Self::Workers(workers) => usize::from(workers),
            Self::Percent(percent) => (slots * usize::from(percent)).div_ceil(100),
        };
        at_once.max(1)
    }
}

impl fmt::Display for Surge {
    /// As it is said on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers(workers) => workers.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What is done about a worker whose queue is not empty while it accepts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HungRules {
    /// It is called hung after so long, or longer if that is normal for it; 0: never.
    pub hung_after_ms: u64,
    /// So long after it was called hung (or unhealthy), what is queued on it is moved to others.
    pub rescue_after_ms: u64,
    /// So long after it was called hung, it is replaced; absent: never.
    pub replace_after_ms: Option<u64>,
    /// At most so many percent of the active workers (rounded down, and never all) are withdrawn for a fault at once, 0…100.
    pub at_most_percent: u8,
}

/// How many checks in a row decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthRules {
    /// So many failures make a worker unhealthy: it is withdrawn, rescued and replaced.
    pub fails: u32,
    /// So many successes make it healthy again.
    pub passes: u32,
}

/// Everything that can happen to the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Spawn every slot. Once, first.
    Start,
    /// A person or a script asks for something.
    Request {
        /// Echoed in the reply.
        id: RequestId,
        /// What is asked.
        command: Command,
    },
    /// The process of an [`Effect::Spawn`] runs.
    Spawned {
        /// Which.
        instance: InstanceId,
        /// Its main process.
        pid: u32,
    },
    /// The process of an [`Effect::Spawn`] could not be started; nothing of it exists.
    SpawnFailed {
        /// Which.
        instance: InstanceId,
        /// One line.
        reason: String,
    },
    /// Its listeners are there, in every group that it has to serve: it may be published.
    Ready {
        /// Which.
        instance: InstanceId,
    },
    /// It runs, but the last of its listeners is gone: it can't be chosen. `Ready` follows when one comes back.
    Unready {
        /// Which.
        instance: InstanceId,
        /// One line.
        reason: String,
    },
    /// What the kernel says of the live instances; every instance that has listeners is named.
    Observed(Vec<(InstanceId, Load)>),
    /// The accept queues of the live instances; every instance that has listeners is named. Comes every few milliseconds while there
    /// is traffic, and while an instance has something in its queue or is probed. Looks further apart than half of `hung_after_ms`
    /// are taken for a sleep of the controller: a stall hardly grows by them.
    Watched(Vec<(InstanceId, Backlog)>),
    /// A health check of this instance has come back. Only of instances that are ready and not on their way out.
    Checked {
        /// Which.
        instance: InstanceId,
        /// Else what is wrong, to follow "its health check failed: ".
        outcome: Result<(), String>,
    },
    /// The process of an [`Effect::TerminateIfIdle`] has got its stop signal: nothing was in flight.
    Terminated {
        /// Which.
        instance: InstanceId,
    },
    /// The main process, and whoever else got the stop signal, have ended; other processes of the instance go on. Every other end of a main
    /// process is an [`Input::Exited`].
    ServersEnded {
        /// Which.
        instance: InstanceId,
        /// Established connections that the others have.
        connections: u32,
    },
    /// The main process has ended and nothing of the instance is left (its cgroup was killed and is empty).
    Exited {
        /// Which.
        instance: InstanceId,
        /// How.
        exit: Exit,
        /// What its end has cost.
        cut: Cut,
    },
    /// An instance that is being ended serves on for a while, at an address that the app leaves: nobody is to wait for its end.
    Lingers {
        /// Which.
        instance: InstanceId,
    },
    /// From now on these rules hold.
    Ruled(Rules),
    /// Time passed: [`next_deadline`](super::Machine::next_deadline) is reached.
    Tick,
    /// Ctrl-C or SIGTERM to the controller. The first is `stop`, the second kills.
    Interrupt,
}

/// What the kernel says of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Established connections, accepted or not.
    pub connections: u32,
    /// Of these, not accepted yet.
    pub queue: u32,
    /// Handshakes under way in the groups of this instance; whose they are can't be seen.
    pub handshakes: u32,
    /// Of the established connections, those for which the stop signal has to wait: with a request in flight, or what may be one. Only
    /// told of an instance that is being ended.
    pub in_flight: u32,
}

/// Connections that the processes of an instance have ended before their time, after it was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// With a request in flight.
    pub in_flight: u32,
    /// Others that were open when it was killed.
    pub open: u32,
}

impl Cut {
    /// Both.
    pub const fn connections(self) -> u32 {
        self.in_flight.saturating_add(self.open)
    }

    /// What came after `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            in_flight: self.in_flight.saturating_sub(earlier.in_flight),
            open: self.open.saturating_sub(earlier.open),
        }
    }

    /// The sum of two.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            in_flight: self.in_flight.saturating_add(other.in_flight),
            open: self.open.saturating_add(other.open),
        }
    }
}

/// What an instance has taken from its accept queues, and what it has not. The count of the accepted is known only within bounds, because
/// queues and counters can't be read at the same instant; both bounds hold for the instant in which the queue was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Established connections that wait for accept(), that of an [`Effect::WakeProbe`] included.
    pub queue: u32,
    /// Connections accepted so far: at least.
    pub accepted_at_least: u64,
    /// At most.
    pub accepted_at_most: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `exit(n)`.
    Code(i32),
    /// By a signal.
    Signal(Signal),
}

/// A signal, with its name if it has one (`SIGKILL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the two parts need no more words")]
pub struct Signal {
    pub number: i32,
    pub name: Option<&'static str>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(Signal { name: Some(name), .. }) => write!(f, "killed by {name}"),
            Self::Signal(Signal { number, name: None }) => write!(f, "killed by signal {number}"),
        }
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Withdraw, then wait until nothing is left.
    Drain {
        /// Which slot.
        slot: SlotId,
        /// Absent: the configured one.
        timeout_ms: Option<u64>,
        /// Reply as soon as it is withdrawn.
        no_wait: bool,
        /// Even if it is the last active one.
        force: bool,
    },
    /// Publish again.
    Undrain {
        /// Which slot.
        slot: SlotId,
    },
    /// Replace the instance.
    Restart {
        /// Which slot.
        slot: SlotId,
        /// Old out before new in.
        stop_first: bool,
    },
    /// Restart every slot, [`Config::surge`] at a time, start-first. It stops when a new instance fails, before or after it has taken its
    /// place.
    Reload {
        /// Old out before new in, one slot after the other.
        stop_first: bool,
    },
    /// Roll this version out to all slots, [`Config::surge`] at a time, start-first; then it is the app's. When a new instance fails before
    /// that, those that have it go back.
    Adopt {
        /// Which.
        version: VersionId,
    },
    /// Change the number of slots.
    Scale(ScaleTarget),
    /// Change the policy.
    SetPolicy(Policy),
    /// Give a slot a fixed share of new connections, or (absent) let it share the rest with the others again.
    Weigh {
        /// Which slot.
        slot: SlotId,
        /// How much.
        share: Option<Share>,
    },
    /// Start one more slot, the last, on another version of the command, with a fixed share.
    Canary {
        /// How much it gets.
        share: Share,
        /// What it runs.
        version: VersionId,
    },
    /// Roll the canary's version to all slots, then remove the canary's. When a new instance fails, the slots go back and the canary stays.
    Promote,
    /// Remove the canary, and bring slots that could not be brought back by themselves back to the app's version.
    Abort,
    /// End everything.
    Stop {
        /// The grace; absent: the configured drain timeout.
        timeout_ms: Option<u64>,
    },
}

/// A published slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seated {
    /// Which.
    pub slot: SlotId,
    /// The instance that stands for it.
    pub instance: InstanceId,
    /// Its fixed share, if it has one.
    pub share: Option<Share>,
}

/// `scale 4`, `scale +2`, `scale -1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleTarget {
    /// So many.
    To(u16),
    /// So many more.
    Up(u16),
    /// So many fewer.
    Down(u16),
}

/// What the machine wants done. Effects are carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a process; answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// For which slot.
        slot: SlotId,
        /// Under which id.
        instance: InstanceId,
        /// From which command.
        version: VersionId,
    },
    /// The complete set of what may be chosen, sorted by slot. Said whenever it changes.
    Publish(Vec<Seated>),
    /// Move what is queued on the instance to others: it is withdrawn, and somebody else is published.
    Rescue {
        /// From which.
        instance: InstanceId,
    },
    /// Open a connection of the controller's own to the instance, and keep it: when the instance accepts it, it lives again, and the next
    /// `Watched` shows it. Until [`Effect::StopWakeProbe`], or the instance's end. It may be said again after `StopWakeProbe`: a rescue
    /// takes the wake-up probe out of the queue, too.
    WakeProbe {
        /// To which.
        instance: InstanceId,
    },
    /// Close that connection.
    StopWakeProbe {
        /// Which.
        instance: InstanceId,
    },
    /// Send the stop signal.
    Terminate {
        /// To which.
        instance: InstanceId,
        /// Who in it.
        audience: Audience,
    },
    /// Hold the instance still, look at its connections once more, and send the stop signal to those who serve only if nothing is in flight.
    /// If it was sent, [`Input::Terminated`] says so. Else nothing has changed, and the next `Observed` shows what is in the way.
    TerminateIfIdle {
        /// To which.
        instance: InstanceId,
    },
    /// Kill the whole cgroup.
    Kill {
        /// Of which.
        instance: InstanceId,
    },
    /// Steer by this policy from now on.
    SetPolicy(Policy),
    /// Answer a request. Exactly one per request.
    Reply {
        /// Which.
        id: RequestId,
        /// What.
        outcome: Result<Done, Refusal>,
    },
    /// Something worth telling: logged, and sent to `events`.
    Note(Note),
    /// Nothing is left; the controller may clean up and exit.
    Finish {
        /// Whether it ends because every worker has failed (exit 1) rather than because it was asked to (exit 0).
        failed: bool,
    },
}

/// Which processes of an instance get the stop signal. None gets it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Those that serve; what `--kill-mode` says.
    Servers,
    /// Whoever is left: time is over for those that only have connections, too.
    Everyone,
}

/// A request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The slots that were changed.
    pub slots: Vec<SlotId>,
    /// One line for a person.
    pub message: String,
}

/// A request that was not, or not wholly, carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// One line: what is wrong.
    pub error: String,
    /// One line: what to do next.
    pub hint: Text,
    /// The slots that were changed all the same (a reload that stopped half way).
    pub slots: Vec<SlotId>,
    /// The instance that failed, if one did: its last output lines and what it listens on are added to the answer.
    pub culprit: Option<InstanceId>,
}

/// Something that happened to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which slot, if one is meant.
    pub slot: Option<SlotId>,
    /// Which instance, if one is meant.
    pub instance: Option<InstanceId>,
    /// The stable word of `events`.
    pub kind: NoteKind,
    /// One line for a person.
    pub message: Text,
}

/// The stable words of `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// A process was started.
    Spawned,
    /// Published.
    Active,
    /// Withdrawn by `drain`.
    Draining,
    /// Nothing is left on it.
    Drained,
    /// Withdrawn to be ended.
    Stopping,
    /// Ended.
    Exited,
    /// Connections were cut by its end.
    Cut,
    /// Will be started again after a delay.
    BackingOff,
    /// Will not be started again.
    Failed,
    /// No worker is left that runs or will be started again; the app stays.
    AllFailed,
    /// Has stopped accepting; withdrawn if that is allowed.
    Hung,
    /// Fails its health checks; withdrawn if that is allowed.
    Unhealthy,
    /// Accepts again, or passes its checks again.
    Recovered,
    /// A share, a canary or its end.
    Weighed,
    /// Is replaced although nothing is wrong with it.
    Recycled,
    /// The app listens on another address than before.
    Moved,
    /// The answer to a person's question "what went wrong".
    Warning,
}

impl NoteKind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spawned => "spawned",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Cut => "cut",
            Self::BackingOff => "backing_off",
            Self::Failed => "failed",
            Self::AllFailed => "all_failed",
            Self::Hung => "hung",
            Self::Unhealthy => "unhealthy",
            Self::Recovered => "recovered",
            Self::Weighed => "weighed",
            Self::Recycled => "recycled",
            Self::Moved => "moved",
            Self::Warning => "warning",
        }
    }
}
