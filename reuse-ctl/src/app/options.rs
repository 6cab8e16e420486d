//! The options of an app, checked as far as that is possible without looking at the machine.
//!
//! The command line and the configuration file both end up here ([`resolve`](crate::app::resolve::resolve)); the supervisor knows
//! nothing else.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use reuse_common::Policy;

use crate::process::cgroup_limits::LimitOptions;
use crate::process::variables::EnvironmentOptions;
use crate::{
    app::AppSpec,
    process::{known_servers, stop_plan::KillMode},
};
use reuse_machine::interface::{HealthRules, HungRules, Surge};

/// The options of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// The app's name: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Number of slots, 1…256.
    pub workers: u16,
    /// The policy by which workers are chosen.
    pub policy: Policy,
    /// The service ports; empty: every TCP port that a worker binds.
    pub ports: Vec<u16>,
    /// The listeners to hand over. Their ports are not 0.
    pub listen: Vec<SocketAddr>,
    /// What happens to connections while nobody is published.
    pub when_empty: WhenEmpty,
    /// The user that workers run as; `None`: the user who called sudo, else the caller.
    pub user: Option<String>,
    /// When a worker is ready.
    pub ready: ReadyOptions,
    /// How workers are stopped.
    pub stop: StopOptions,
    /// How new instances replace old ones.
    pub rollout: RolloutOptions,
    /// When workers count as hung, and what happens then.
    pub hung: HungRules,
    /// How workers are checked; `None`: no checks.
    pub health: Option<HealthOptions>,
    /// When workers are replaced although they are well.
    pub recycle: RecycleOptions,
    /// The resource limits of one worker.
    pub limits: LimitOptions,
    /// Where output goes.
    pub logs: LogOptions,
    /// The workers' environment.
    pub environment: EnvironmentOptions,
    /// The group whose members may also use the control socket.
    pub control_group: Option<String>,
    /// The options of the policy `sticky`.
    pub sticky: StickyOptions,
    /// Verbosity: 0: events of workers; 1: more; 2: also the decisions of the kernel program.
    pub verbosity: u8,
    /// Whether the controller was left in the background by `--detach`.
    pub detached: bool,
    /// Whether workers stay away from every port on which another program listens (`try`).
    pub alone: bool,
    /// The working folder; `None`: the current one.
    pub cwd: Option<PathBuf>,
    /// The command and its arguments; never empty.
    pub command: Vec<OsString>,
    /// The options that the controller was started with, so that clients can ask what a change would take. Filled in just before the
    /// supervisor starts; [`AppSpec::resolve`] leaves it empty, so that two ways to say the same compare equal.
    pub spec: AppSpec,
}

/// What happens to new connections while no worker is active
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenEmpty {
    #[expect(missing_docs, reason = "clap would show it as help, and make the help twice as long")]
    Park,
    #[expect(missing_docs, reason = "as above")]
    Refuse,
}

/// When a worker is ready, and how long that may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyOptions {
    /// The condition besides having a listener.
    pub kind: ReadyKind,
    /// Time that a worker may take. Its start has failed after that.
    pub timeout: Duration,
}

/// A command that is still running after this time counts as started: most broken ones end sooner.
pub const STARTED_AFTER: Duration = Duration::from_secs(1);

/// `--ready`. A worker must also have a listener, except with `Started`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyKind {
    /// No further condition.
    Listener,
    /// It sent `"ready"` over the Node IPC channel (`process.send('ready')`).
    Ipc,
    /// It sent `READY=1` to `NOTIFY_SOCKET` (sd_notify).
    Notify,
    /// The command has run for [`STARTED_AFTER`]. It need not listen.
    Started,
    /// It answers GET of this path with a status from 200 to 399.
    Http(String),
}

/// How a worker is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOptions {
    /// Time that connections have to end.
    pub drain_timeout: Duration,
    /// The signal that asks the worker to end.
    pub signal: Signal,
    /// Which processes get the signal; `None`: those that need it, see [`crate::process::stop_plan`].
    pub kill_mode: Option<KillMode>,
    /// Whether the worker is asked by the message `"shutdown"` over the IPC channel instead, if it has the channel open.
    pub message: bool,
    /// When the worker is asked; `None`: depends on what is known about the server.
    pub when: Option<StopWhen>,
    /// Time that a worker without connections has to end.
    pub timeout: Duration,
}

/// When a worker that is being ended gets its stop signal
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StopWhen {
    #[expect(missing_docs, reason = "clap would show it as help, and make the help twice as long")]
    InFlightDone,
    #[expect(missing_docs, reason = "as above")]
    AtOnce,
    #[expect(missing_docs, reason = "as above")]
    Closed,
}

impl StopWhen {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlightDone => "in-flight-done",
            Self::AtOnce => "at-once",
            Self::Closed => "closed",
        }
    }
}

/// How new instances replace old ones that serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutOptions {
    /// Time for which a new instance must have been ready before it replaces the old one; may be zero.
    pub settle: Duration,
    /// Number of workers that are replaced at the same time.
    pub surge: Surge,
}

impl StopOptions {
    /// A one-line suggestion of a better stop signal, if `command` is a server known to drop requests on this one.
    pub fn suggestion(&self, command: &[OsString]) -> Option<String> {
        if self.message {
            return None;
        }
        known_servers::suggestion(command, self.signal)
    }
}

/// How the health of workers is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthOptions {
    /// The kind of check.
    pub check: HealthCheck,
    /// Interval between checks of one worker, at least 10 ms.
    pub interval: Duration,
    /// Timeout of one check.
    pub timeout: Duration,
    /// How many failed or passed checks decide.
    pub rules: HealthRules,
}

/// `--health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// The worker accepts a connection.
    Tcp,
    /// The worker answers GET of this path with a status from 200 to 399.
    Http(String),
}

/// When a worker is replaced, start-first, although it is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecycleOptions {
    /// It uses more memory than this, in bytes.
    pub max_memory_bytes: Option<u64>,
    /// It is older than this, plus or minus a tenth.
    pub max_age: Option<Duration>,
    /// It has accepted more connections than this, plus or minus a tenth.
    pub max_connections: Option<u64>,
    /// All workers are replaced, as by `reload`, at these times: five fields (minute, hour, day, month, weekday), or six with seconds
    /// first.
    pub cron: Option<String>,
    /// All workers are replaced when one of these files or folders changes; `None`: nothing is watched.
    pub watch: Option<WatchOptions>,
}

/// `--watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Files and folders, relative to the working folder; never empty.
    pub paths: Vec<PathBuf>,
    /// Globs of ignored paths, relative to the working folder.
    pub ignore: Vec<String>,
    /// Time without a further change before the workers are replaced.
    pub delay: Duration,
}

/// Where the workers' output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Files or the journal.
    pub target: LogTarget,
    /// A log file larger than this, in bytes, is rotated.
    pub max_bytes: u64,
    /// Number of rotated files that are kept of each log.
    pub keep: u16,
}

/// Where the workers' output goes
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogTarget {
    #[expect(missing_docs, reason = "clap would show it as help, and make the help twice as long")]
    File,
    #[expect(missing_docs, reason = "as above")]
    Journald,
}

/// What `sticky` remembers of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StickyOptions {
    /// Number of leading bits of an IPv4 address that identify a client, 1…32.
    pub prefix4: u8,
    /// Number of leading bits of an IPv6 address that identify a client, 1…128.
    pub prefix6: u8,
    /// A client is forgotten after this time without a connection.
    pub ttl: Duration,
    /// Maximum number of remembered clients.
    pub capacity: u32,
}
