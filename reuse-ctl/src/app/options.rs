//! An app that is to run: everything a person said, checked as far as that goes without looking at the machine.
//!
//! Command line and configuration file both end here ([`cli::run::resolve`](crate::app::resolve::resolve)); the supervisor knows nothing else.

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

/// The app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// The app's name: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// How many slots, 1…256.
    pub workers: u16,
    /// How workers are chosen.
    pub policy: Policy,
    /// The service ports; empty: every TCP port that a worker binds.
    pub ports: Vec<u16>,
    /// The listeners to hand over, with ports other than 0.
    pub listen: Vec<SocketAddr>,
    /// What happens to connections while nobody is published.
    pub when_empty: WhenEmpty,
    /// Whom the workers run as; absent: the user behind sudo, else the caller.
    pub user: Option<String>,
    /// When a worker is ready.
    pub ready: ReadyOptions,
    /// How workers are ended.
    pub stop: StopOptions,
    /// How new instances take the place of old ones.
    pub rollout: RolloutOptions,
    /// What is done about hung workers.
    pub hung: HungRules,
    /// How workers are checked; absent: not at all.
    pub health: Option<HealthOptions>,
    /// When workers are replaced for other reasons than faults.
    pub recycle: RecycleOptions,
    /// What one worker may use.
    pub limits: LimitOptions,
    /// Where output goes.
    pub logs: LogOptions,
    /// What workers find in their environment.
    pub environment: EnvironmentOptions,
    /// The group that may use the control socket, too.
    pub control_group: Option<String>,
    /// The policy `sticky`.
    pub sticky: StickyOptions,
    /// 0: what happens to workers; 1: more; 2: also what the kernel program decides.
    pub verbosity: u8,
    /// Left in the background by `--detach`.
    pub detached: bool,
    /// Workers keep off every port on which anybody else listens (`try`).
    pub alone: bool,
    /// The working folder; absent: the current one.
    pub cwd: Option<PathBuf>,
    /// The command and its arguments; never empty.
    pub command: Vec<OsString>,
    /// What the controller was started with, for those who ask what it would take to change it. Filled in on the way to the supervisor;
    /// what [`AppSpec::resolve`] gives has none, so that two ways to say the same compare equal.
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
    /// What must have happened besides that it listens.
    pub kind: ReadyKind,
    /// How long a worker may take; when it is over the start has failed.
    pub timeout: Duration,
}

/// A command that is still there after so long has started: most that are broken end sooner.
pub const STARTED_AFTER: Duration = Duration::from_secs(1);

/// `--ready`. In every case the worker's listeners must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyKind {
    /// Nothing more.
    Listener,
    /// It sent `"ready"` over the Node IPC channel (`process.send('ready')`).
    Ipc,
    /// It sent `READY=1` to `NOTIFY_SOCKET` (sd_notify).
    Notify,
    /// Its command has run for [`STARTED_AFTER`]: it need not listen anywhere.
    Started,
    /// It answers GET of this path with a status from 200 to 399.
    Http(String),
}

/// How a worker is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOptions {
    /// How long connections may take to end.
    pub drain_timeout: Duration,
    /// Asks it to end.
    pub signal: Signal,
    /// Who gets the signal; absent: who needs it, see [`crate::process::stop_plan`].
    pub kill_mode: Option<KillMode>,
    /// It is asked by the message `"shutdown"` over the IPC channel instead, if it has the channel open.
    pub message: bool,
    /// When it is asked; absent: as the server is known to need it.
    pub when: Option<StopWhen>,
    /// How long a worker without connections may take to end.
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
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlightDone => "in-flight-done",
            Self::AtOnce => "at-once",
            Self::Closed => "closed",
        }
    }
}

/// How new instances take the place of old ones that serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutOptions {
    /// How long a new one that is ready must live before it does; zero: no time.
    pub settle: Duration,
    /// How many workers are replaced at the same time.
    pub surge: Surge,
}

impl StopOptions {
    /// One line that names a better stop signal, if `command` is a server known to drop requests on this one.
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
    /// What is asked.
    pub check: HealthCheck,
    /// Between two checks of one worker, 10 ms or more.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many decide.
    pub rules: HealthRules,
}

/// `--health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// It accepts a connection.
    Tcp,
    /// It answers GET of this path with a status below 400.
    Http(String),
}

/// When a worker is replaced, start-first, although nothing is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecycleOptions {
    /// It uses more memory than so many bytes.
    pub max_memory_bytes: Option<u64>,
    /// It is older than this, give or take a tenth.
    pub max_age: Option<Duration>,
    /// It has accepted more connections than this, give or take a tenth.
    pub max_connections: Option<u64>,
    /// All are replaced, as by `reload`, at these times: five fields (minute, hour, day, month, weekday), or six with seconds first.
    pub cron: Option<String>,
    /// All are replaced when something in these files or folders changes; absent: nothing is watched.
    pub watch: Option<WatchOptions>,
}

/// `--watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Files and folders, relative to the working folder; never empty.
    pub paths: Vec<PathBuf>,
    /// Globs of what does not count, relative to the working folder.
    pub ignore: Vec<String>,
    /// Changes are awaited to be over for so long.
    pub delay: Duration,
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// To what.
    pub target: LogTarget,
    /// A file above this is rotated.
    pub max_bytes: u64,
    /// So many rotated files are kept of each.
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
    /// A client that was not seen for so long is forgotten.
    pub ttl: Duration,
    /// How many clients are remembered at most.
    pub capacity: u32,
}
