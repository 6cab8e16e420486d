//! The inputs and outputs of the pure machine: data only, without processes, sockets or clocks.

use std::fmt;

use reuse_common::{Policy, Share, limits::MAX_SLOTS};

use crate::{
    ids::{InstanceId, RequestId, SlotId, VersionId},
    states::ErrorKind,
    text::Text,
};

/// The most slots that an app may have, limited by the kernel program.
pub const MAX_WORKERS: u16 = MAX_SLOTS as u16;
const _: () = assert!(MAX_WORKERS as usize == MAX_SLOTS);

/// The configuration, given at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of slots to start, 1…256.
    pub workers: u16,
    /// Time that a new instance may take to become ready.
    pub ready_timeout_ms: u64,
    /// Time that connections may take to end: the default of the verb `drain`, and the grace period after the stop signal.
    pub drain_timeout_ms: u64,
    /// Time that a process without connections may take to exit after the stop signal, before it is killed.
    pub stop_timeout_ms: u64,
    /// Whether processes that only have connections get the stop signal when their time is over, before they are killed.
    pub rest_gets_signal: bool,
    /// Time that a new instance must have been ready before it replaces one that serves; 0: it replaces it at once.
    pub settle_ms: u64,
    /// Number of slots that a rollout replaces at the same time.
    pub surge: Surge,
    /// The first delay after a crash.
    pub backoff_min_ms: u64,
    /// The limit up to which the delay doubles.
    pub backoff_max_ms: u64,
    /// Number of exits or failed starts in a row after which a slot has failed, if none of the instances was active for `stable_ms`.
    pub crash_limit: u32,
    /// An instance that was active for this long proves its slot healthy: the crash count starts anew.
    pub stable_ms: u64,
    /// Seed of the backoff jitter.
    pub seed: u64,
    /// When a worker is declared hung, and what follows.
    pub hung: HungRules,
    /// When a worker is declared unhealthy; `None`: no health checks.
    pub health: Option<HealthRules>,
    /// What happens when every worker has failed.
    pub when_all_failed: WhenAllFailed,
}

impl Config {
    /// The part that may change.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            ready_timeout_ms: self.ready_timeout_ms,
            drain_timeout_ms: self.drain_timeout_ms,
            stop_timeout_ms: self.stop_timeout_ms,
            rest_gets_signal: self.rest_gets_signal,
            settle_ms: self.settle_ms,
            surge: self.surge,
            hung: self.hung,
            health: self.health,
        }
    }
}

/// What happens to an app whose workers have all failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllFailed {
    /// The app ends, so that its parent (a terminal, a service manager, a container runtime) notices and may start it again.
    Finish,
    /// Nobody watches the app, so it stays until a user starts its workers again or stops it, provided that a worker has served before.
    Stay,
}

/// The part of [`Config`] that may change while the app runs; the fields have the same meaning. Deadlines that are running already don't
/// change.
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

/// Number of slots that a rollout replaces at the same time, start-first. Each of them has one more instance meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surge {
    /// This many slots, at least 1.
    Workers(u16),
    /// This percentage of the app's slots, 1…100, rounded up as in Kubernetes' `maxSurge`.
    Percent(u8),
}

impl Surge {
    /// The number for an app with `slots` slots: at least 1.
    pub fn of(self, slots: usize) -> usize {
        let at_once = match self {
            Self::Workers(workers) => usize::from(workers),
            Self::Percent(percent) => (slots * usize::from(percent)).div_ceil(100),
        };
        at_once.max(1)
    }
}

impl fmt::Display for Surge {
    /// The form used on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers(workers) => workers.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Rules for workers that accept nothing while their queue is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HungRules {
    /// Time after which a worker is declared hung, or longer if that is normal for it; 0: never.
    pub hung_after_ms: u64,
    /// Time from when a worker is declared hung (or unhealthy) until its queue is moved to others.
    pub rescue_after_ms: u64,
    /// Time from when a worker is declared hung until it is replaced; `None`: never.
    pub replace_after_ms: Option<u64>,
    /// Highest percentage (0…100) of the active workers that are withdrawn for a fault at the same time; rounded down, and never all of
    /// them.
    pub at_most_percent: u8,
}

/// How many checks in a row decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthRules {
    /// Number of failures after which a worker is unhealthy: it is withdrawn, rescued and replaced.
    pub fails: u32,
    /// Number of successes after which it is healthy again.
    pub passes: u32,
}

/// Everything that can happen to the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Spawn every slot. Sent once, as the first input.
    Start,
    /// A request of a user or a script.
    Request {
        /// Echoed in the reply.
        id: RequestId,
        /// The request.
        command: Command,
    },
    /// The process of an [`Effect::Spawn`] is running.
    Spawned {
        /// The instance.
        instance: InstanceId,
        /// The pid of its main process.
        pid: u32,
    },
    /// The process of an [`Effect::Spawn`] could not be started; nothing of it exists.
    SpawnFailed {
        /// The instance.
        instance: InstanceId,
        /// The reason, in one line.
        reason: String,
    },
    /// The instance listens in every group that it must serve, so it may be published.
    Ready {
        /// The instance.
        instance: InstanceId,
    },
    /// The instance is running but its last listener is gone, so it can't be chosen. `Ready` follows if it listens again.
    Unready {
        /// The instance.
        instance: InstanceId,
        /// The reason, in one line.
        reason: String,
    },
    /// The load of the live instances. Leaves out an instance that lingers at an address that the app leaves, and one whose listeners were not
    /// all seen.
    Observed(Vec<(InstanceId, Load)>),
    /// The accept queues of the live instances that have listeners. Sent every few milliseconds while there is
    /// traffic, and while an instance has a queue or is probed. A gap of more than half of `hung_after_ms` counts as a sleep of the
    /// controller, and hardly adds to a stall.
    Watched(Vec<(InstanceId, Backlog)>),
    /// The result of a health check. Sent only for instances that are ready and not being stopped.
    Checked {
        /// The instance.
        instance: InstanceId,
        /// If it failed, the reason, which follows "its health check failed: ".
        outcome: Result<(), String>,
    },
    /// The process of an [`Effect::TerminateIfIdle`] has got its stop signal: no request was in flight.
    Terminated {
        /// The instance.
        instance: InstanceId,
    },
    /// The main process, and every other process that got the stop signal, have ended; other processes of the instance go on. Any other end
    /// of a main process is an [`Input::Exited`].
    ServersEnded {
        /// The instance.
        instance: InstanceId,
        /// Established connections of the remaining processes.
        connections: u32,
    },
    /// The main process has ended and nothing of the instance is left (its cgroup was killed and is empty).
    Exited {
        /// The instance.
        instance: InstanceId,
        /// How the main process ended.
        exit: Exit,
        /// The connections cut by the end of the instance.
        cut: Cut,
    },
    /// An instance that is being stopped goes on serving for a while, at an address that the app leaves. Nobody should wait for its end.
    Lingers {
        /// The instance.
        instance: InstanceId,
    },
    /// Time has passed: [`next_deadline`](super::Machine::next_deadline) is reached.
    Tick,
    /// The controller got Ctrl-C or SIGTERM. The first means `stop`, the second kills.
    Interrupt,
}

/// The load of one instance, according to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Established connections, accepted or not.
    pub connections: u32,
    /// Those of `connections` that are not accepted yet.
    pub queue: u32,
    /// Handshakes under way on the ports of the app: the kernel doesn't tell which instance they are for. Looked for only when an instance that
    /// is being stopped has no connection left; 0 otherwise.
    pub handshakes: u32,
    /// Those of `connections` that the stop signal must wait for: with a request in flight, or what may be one. Set only for an instance
    /// that is being stopped.
    pub in_flight: u32,
}

/// Connections that an instance's processes closed too early, after the instance was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Those with a request in flight.
    pub in_flight: u32,
    /// Others that were open when the instance was killed.
    pub open: u32,
}

impl Cut {
    /// The total.
    pub const fn connections(self) -> u32 {
        self.in_flight.saturating_add(self.open)
    }

    /// What was added since `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            in_flight: self.in_flight.saturating_sub(earlier.in_flight),
            open: self.open.saturating_sub(earlier.open),
        }
    }

    /// The sum of both.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            in_flight: self.in_flight.saturating_add(other.in_flight),
            open: self.open.saturating_add(other.open),
        }
    }
}

/// What an instance has accepted, and what waits in its accept queues. The number of accepted connections is only known within bounds,
/// because queues and counters can't be read at the same instant. Both bounds hold for the instant in which the queue was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Established connections that wait for accept(), including that of an [`Effect::WakeProbe`].
    pub queue: u32,
    /// Lower bound of the connections accepted so far.
    pub accepted_at_least: u64,
    /// Upper bound of the connections accepted so far.
    pub accepted_at_most: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `exit(n)`.
    Code(i32),
    /// Killed by a signal.
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

/// The commands that a request can contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Withdraw the instance, then wait until nothing is left on it.
    Drain {
        /// The slot.
        slot: SlotId,
        /// The timeout; `None`: the configured one.
        timeout_ms: Option<u64>,
        /// Reply as soon as the instance is withdrawn.
        no_wait: bool,
        /// Drain even the last active worker.
        force: bool,
    },
    /// Publish the instance again.
    Undrain {
        /// The slot.
        slot: SlotId,
    },
    /// Replace the instance.
    Restart {
        /// The slot.
        slot: SlotId,
        /// Stop the old instance before the new one starts.
        stop_first: bool,
    },
    /// Restart every slot, [`Config::surge`] at a time, start-first. Stops when a new instance fails, before or after it has taken the old
    /// one's place.
    Reload {
        /// Stop each old instance before its new one starts, one slot after the other.
        stop_first: bool,
    },
    /// Make the app what the plan says, step by step: see [`ApplyPlan`].
    Apply(ApplyPlan),
    /// Change the number of slots.
    Scale(ScaleTarget),
    /// Change the policy.
    SetPolicy(Policy),
    /// Give a slot a fixed share of new connections, or (`None`) remove its fixed share.
    Weigh {
        /// The slot.
        slot: SlotId,
        /// The share.
        share: Option<Share>,
    },
    /// Start one more slot, the last, with another version and a fixed share.
    Canary {
        /// The canary's share.
        share: Share,
        /// The canary's version.
        version: VersionId,
    },
    /// Roll the canary's version out to all slots, then remove the canary's slot. If a new instance fails, the slots go back and the canary
    /// stays.
    Promote,
    /// Remove the canary, and bring back slots that could not go back to the app's version by themselves.
    Abort,
    /// Stop the app.
    Stop {
        /// The grace period; `None`: the configured drain timeout.
        timeout_ms: Option<u64>,
    },
}

/// What `apply` changes, in the order of the fields; what is absent stays as it is. It stops at the first step that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyPlan {
    /// Replace the instances of all slots.
    pub rollout: Option<PlannedRollout>,
    /// The rules from then on.
    pub rules: Rules,
    /// Choose by another policy.
    pub policy: Option<Policy>,
    /// Have so many slots.
    pub workers: Option<u16>,
}

impl ApplyPlan {
    /// The steps that it has.
    pub fn steps(&self) -> impl Iterator<Item = ApplyStep> {
        [
            self.rollout.map(|_| ApplyStep::Rollout),
            Some(ApplyStep::Rules),
            self.policy.map(|_| ApplyStep::Policy),
            self.workers.map(|_| ApplyStep::Scale),
        ]
        .into_iter()
        .flatten()
    }
}

/// All slots are replaced, [`Config::surge`] at a time, start-first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRollout {
    /// By this version, which is the app's then; when a new instance fails before, those that have it go back. Absent: each slot by its
    /// own version, as in a reload.
    pub version: Option<VersionId>,
    /// The rules meanwhile, as instances of both versions may be started. When the rollout fails, those of before hold again.
    pub rules: Rules,
}

/// The steps of an [`ApplyPlan`], in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApplyStep {
    /// [`ApplyPlan::rollout`].
    Rollout,
    /// [`ApplyPlan::rules`].
    Rules,
    /// [`ApplyPlan::policy`].
    Policy,
    /// [`ApplyPlan::workers`].
    Scale,
}

/// A published slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The slot.
    pub slot: SlotId,
    /// The slot's published instance.
    pub instance: InstanceId,
    /// The slot's fixed share, if it has one.
    pub share: Option<Share>,
}

/// `scale 4`, `scale +2`, `scale -1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleTarget {
    /// Exactly this many.
    To(u16),
    /// This many more.
    Up(u16),
    /// This many fewer.
    Down(u16),
}

/// The actions that the machine decides on, to be carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a process. `Spawned` or `SpawnFailed` follows.
    Spawn {
        /// The slot.
        slot: SlotId,
        /// The new instance's id.
        instance: InstanceId,
        /// The version to start.
        version: VersionId,
    },
    /// The complete set of published slots, sorted by slot. Sent whenever it changes.
    Publish(Vec<Published>),
    /// Move the instance's queue to others. The instance is withdrawn, and another one is published.
    Rescue {
        /// The instance.
        instance: InstanceId,
    },
    /// Open a connection of the controller's own to the instance and keep it open, until [`Effect::StopWakeProbe`] or the instance's end.
    /// If the instance accepts it, it is alive, which the next `Watched` shows. May be sent again after `StopWakeProbe`: a rescue removes
    /// the wake-up probe from the queue as well.
    WakeProbe {
        /// The instance.
        instance: InstanceId,
    },
    /// Close the connection of [`Effect::WakeProbe`].
    StopWakeProbe {
        /// The instance.
        instance: InstanceId,
    },
    /// Send the stop signal.
    Terminate {
        /// The instance.
        instance: InstanceId,
        /// The processes that get it.
        audience: Audience,
    },
    /// Freeze the instance, look at its connections once more, and send the stop signal to its servers only if no request is in flight. If
    /// it was sent, [`Input::Terminated`] follows. Otherwise nothing has changed, and the next `Observed` shows the reason.
    TerminateIfIdle {
        /// The instance.
        instance: InstanceId,
    },
    /// Kill every process of the instance's cgroup.
    Kill {
        /// The instance.
        instance: InstanceId,
    },
    /// Use this policy from now on.
    SetPolicy(Policy),
    /// A step of an `apply` was carried out. The next one has begun, or the reply follows.
    Applied {
        /// The request that the `apply` is.
        id: RequestId,
        /// Which step.
        step: ApplyStep,
        /// What it did.
        done: Done,
    },
    /// Answer a request. There is exactly one answer per request.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        outcome: Result<Done, Refusal>,
    },
    /// An event to be logged and sent to `events`.
    Note(Note),
    /// Nothing is left; the controller may clean up and exit.
    Finish {
        /// Whether the app ends because every worker has failed (exit 1) or because it was told to (exit 0).
        failed: bool,
    },
}

/// Which processes of an instance get the stop signal. No process gets it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The processes that serve, according to `--kill-mode`.
    Servers,
    /// Every process that is left: time is over also for those that only have connections.
    Everyone,
}

/// A request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The slots that were changed.
    pub slots: Vec<SlotId>,
    /// What was done, in one line for the user.
    pub message: String,
}

/// A request that was not carried out, or not completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of error, which decides the exit code.
    pub kind: ErrorKind,
    /// What is wrong, in one line.
    pub error: String,
    /// What to do next, in one line.
    pub hint: Text,
    /// The slots that were changed anyway (by a reload that stopped half way).
    pub slots: Vec<SlotId>,
    /// The instance that failed, if one did. Its last output and its listeners are added to the answer.
    pub culprit: Option<InstanceId>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The slot, if the event is about one.
    pub slot: Option<SlotId>,
    /// The instance, if the event is about one.
    pub instance: Option<InstanceId>,
    /// The kind of event.
    pub kind: NoteKind,
    /// The text, in one line for the user.
    pub message: Text,
}

/// The kinds of events, with stable names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// A process was started.
    Spawned,
    /// An instance is published.
    Active,
    /// An instance was withdrawn by `drain`.
    Draining,
    /// Nothing is left on a drained instance.
    Drained,
    /// An instance was withdrawn in order to be stopped.
    Stopping,
    /// An instance has ended.
    Exited,
    /// Connections were cut by the end of an instance.
    Cut,
    /// A slot will be started again after a delay.
    BackingOff,
    /// A slot will not be started again.
    Failed,
    /// Every worker has failed and none will be started again; the app stays.
    AllFailed,
    /// An instance has stopped accepting. It is withdrawn if that is allowed.
    Hung,
    /// An instance fails its health checks. It is withdrawn if that is allowed.
    Unhealthy,
    /// An instance accepts again, or passes its checks again.
    Recovered,
    /// A share has changed, or a canary has started or ended.
    Weighed,
    /// An instance is replaced although it is well.
    Recycled,
    /// The app listens on another address than before.
    Moved,
    /// Something went wrong that a user should know.
    Warning,
}

impl NoteKind {
    /// The stable name.
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
