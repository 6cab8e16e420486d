//! The options of `run`, which are also the keys of `reuse.toml`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use humantime::parse_duration;

use crate::{
    app::options::{LogTarget, StopWhen, WhenEmpty},
    base::sizes::{parse_bytes, parse_cores},
    process::stop_plan::KillMode,
};

const FAULTS: &str = "Hung and unhealthy workers";

const STICKY: &str = "Policy sticky";

const ENDING: &str = "Starting and ending workers";

const RECYCLING: &str = "Replacing healthy workers";

const OUTPUT: &str = "Output of the workers";

const ENVIRONMENT: &str = "Environment of the workers";

/// Start a command as a steered group of workers
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sudo reuse-ctl run --workers 4 -- bun server.ts
  sudo reuse-ctl run --workers max --policy sticky --port 8080 -d -- node server.js
  sudo reuse-ctl run --listen 0.0.0.0:443 --user www -- ./server
  sudo reuse-ctl run -f reuse.toml --env production

TIME is like 300ms, 30s or 1m30s; SIZE is like 300M or 1.5G.")]
pub struct Run {
    /// Read the command and the options of one or more apps from this file (see `init`, `check`); options given here override those of one app
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Add the variables of the file's [env.NAME] (with --file)
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    pub env: Option<String>,
    /// Name of the app [default: the command's file name]; with --file: start only the app of this name
    #[arg(long, value_name = "APP")]
    pub name: Option<String>,
    /// Number of workers, 1 to 256, or `max`: one per processor
    #[arg(long, value_name = "N|max", default_value = "1", allow_negative_numbers = true)]
    pub workers: String,
    /// Policy by which workers are chosen: hash, round-robin, least-loaded or sticky
    #[arg(long, default_value = "least-loaded")]
    pub policy: String,
    /// Port that the workers serve; may be given several times [default: every TCP port that a worker binds]
    #[arg(long = "port", value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Open this listener for the workers and hand it over as descriptor 3 (LISTEN_FDS); may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Treatment of new connections while no worker is active: they wait for one, or are refused
    #[arg(long, value_enum, default_value = "park")]
    pub when_empty: WhenEmpty,
    /// Run the workers as this user [default: the user who called sudo]
    #[arg(long)]
    pub user: Option<String>,
    /// Time that open connections have to end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// What makes a worker ready: it listens (listener); it listens and calls process.send('ready') (ipc), sends READY=1 (notify) or
    /// answers GET of this path; or it has run for a second, without a port (started)
    #[arg(help_heading = ENDING, long, value_name = "listener|ipc|notify|started|http:/PATH", default_value = "listener")]
    pub ready: String,
    /// Time that a worker has to become ready; its start has failed after that
    #[arg(help_heading = ENDING, long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub ready_timeout: Duration,
    /// Time that a new worker must have been ready before it takes the place of the old one, which serves meanwhile; 0s: no time
    #[arg(help_heading = ENDING, long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub settle: Duration,
    /// Number of workers that are replaced at the same time, or a percentage of all, rounded up
    #[arg(help_heading = ENDING, long, value_name = "N|PERCENT", default_value = "25%", allow_negative_numbers = true)]
    pub surge: String,
    /// Signal that asks a worker to end [default: SIGTERM]
    #[arg(help_heading = ENDING, long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Send the stop signal to the main process only (process, mixed), or to all processes at once (control-group) [default: to the
    /// main process, to those that listen, and to those in between, each once]
    #[arg(help_heading = ENDING, long, value_name = "process|mixed|control-group", value_enum, hide_possible_values = true)]
    pub kill_mode: Option<KillMode>,
    /// Send the message "shutdown" (process.on('message')) instead of the stop signal
    #[arg(help_heading = ENDING, long)]
    pub stop_message: bool,
    /// Moment when a worker that is replaced or stopped gets the stop signal: when no request is in flight on its connections
    /// (in-flight-done), as soon as its accept queue is empty (at-once), or when all of its connections are closed (closed);
    /// after --drain-timeout in any case [default: in-flight-done; for a server known to finish what it has read: once it has read every request]
    #[arg(help_heading = ENDING, long, value_enum, value_name = "in-flight-done|at-once|closed", hide_possible_values = true)]
    pub stop_when: Option<StopWhen>,
    /// Time that a worker without connections has to end before it is killed [default: 10s]
    #[arg(help_heading = ENDING, long, value_name = "TIME", value_parser = parse_duration)]
    pub stop_timeout: Option<Duration>,
    /// Do what apps made for PM2 expect: SIGINT, 1600ms to end, and PM2's names in the environment
    #[arg(help_heading = ENDING, long)]
    pub pm2_compat: bool,
    /// Time after which a worker is hung, and withdrawn, if it accepts nothing while connections wait in its queue; 0s: never
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "50ms", value_parser = parse_duration)]
    pub hung_after: Duration,
    /// Time from when a worker is found hung until the connections in its queue are moved to other workers
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "10ms", value_parser = parse_duration)]
    pub rescue_after: Duration,
    /// Time after which a worker that is still hung is replaced [default: never]
    #[arg(help_heading = FAULTS, long, value_name = "TIME", value_parser = parse_duration)]
    pub replace_hung_after: Option<Duration>,
    /// Highest percentage of the workers that is withdrawn at the same time; the last one never is
    #[arg(help_heading = FAULTS, long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_hung: u8,
    /// Check that each worker accepts (tcp), or answers GET /PATH with a status from 200 to 399 [default: no checks]
    #[arg(help_heading = FAULTS, long, value_name = "tcp|/PATH")]
    pub health: Option<String>,
    /// Time between two checks of a worker
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub health_interval: Duration,
    /// Time that a check may take
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub health_timeout: Duration,
    /// Number of consecutive failed checks after which a worker is unhealthy: it is withdrawn and replaced
    #[arg(help_heading = FAULTS, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub health_fails: u32,
    /// Number of consecutive passed checks after which a worker is healthy again
    #[arg(help_heading = FAULTS, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub health_passes: u32,
    /// Replace a worker that uses more memory than this, like 300M
    #[arg(help_heading = RECYCLING, long, value_name = "SIZE", value_parser = parse_bytes)]
    pub max_memory: Option<u64>,
    /// Replace a worker that is older than this (give or take a tenth, so that they do not all go at once)
    #[arg(help_heading = RECYCLING, long, value_name = "TIME", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
    /// Replace a worker that has accepted more connections than this (give or take a tenth)
    #[arg(help_heading = RECYCLING, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_connections: Option<u64>,
    /// Replace all workers, as `reload` does, at these times: minute, hour, day, month, weekday; six fields begin with seconds
    #[arg(help_heading = RECYCLING, long, value_name = "EXPRESSION")]
    pub cron: Option<String>,
    /// Replace all workers when this file or folder changes, for development; may be given several times
    #[arg(help_heading = RECYCLING, long, value_name = "PATH")]
    pub watch: Vec<PathBuf>,
    /// Ignore changes of what matches this pattern; may be given several times [node_modules and names that begin with a dot are always ignored]
    #[arg(help_heading = RECYCLING, long, value_name = "GLOB", requires = "watch")]
    pub watch_ignore: Vec<String>,
    /// Time without a further change before the workers are replaced
    #[arg(help_heading = RECYCLING, long, value_name = "TIME", default_value = "300ms", value_parser = parse_duration)]
    pub watch_delay: Duration,
    /// Memory that a worker may use at most; the kernel ends one that needs more
    #[arg(help_heading = RECYCLING, long, value_name = "SIZE", value_parser = parse_bytes)]
    pub memory_limit: Option<u64>,
    /// Number of cores that a worker may use at most, like 0.5
    #[arg(help_heading = RECYCLING, long, value_name = "CORES", value_parser = parse_cores)]
    pub cpu_limit: Option<u32>,
    /// Write the workers' output to a file for each worker, or to the journal
    #[arg(help_heading = OUTPUT, long, value_enum, value_name = "file|journald", hide_possible_values = true, default_value = "file")]
    pub log: LogTarget,
    /// Rotate a log file that is larger than this
    #[arg(help_heading = OUTPUT, long, value_name = "SIZE", default_value = "32M", value_parser = parse_bytes)]
    pub log_size: u64,
    /// Number of rotated files that are kept of each log
    #[arg(help_heading = OUTPUT, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub log_keep: u16,
    /// Run the command in this folder [default: the current one]
    #[arg(help_heading = ENVIRONMENT, long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Read variables from this file of NAME=VALUE lines; may be given several times: the last value of a name counts
    #[arg(help_heading = ENVIRONMENT, long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Give each worker the next number in this variable, from FIRST on [default: from its value, or 0]
    #[arg(help_heading = ENVIRONMENT, long, value_name = "NAME[=FIRST]")]
    pub increment_var: Option<String>,
    /// Number that is added to PORT from worker to worker, for apps whose workers do not share a port
    #[arg(help_heading = ENVIRONMENT, long, value_name = "N", default_value_t = 0)]
    pub port_step: u16,
    /// Let the members of this group use the control socket, too
    #[arg(long, value_name = "GROUP")]
    pub control_group: Option<String>,
    /// Number of leading bits of an IPv4 address that identify a client
    #[arg(help_heading = STICKY, long, value_name = "BITS", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub sticky_prefix4: u8,
    /// Number of leading bits of an IPv6 address that identify a client
    #[arg(help_heading = STICKY, long, value_name = "BITS", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=128))]
    pub sticky_prefix6: u8,
    /// Time after which a client that was not seen again is forgotten
    #[arg(help_heading = STICKY, long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub sticky_ttl: Duration,
    /// Number of clients that are remembered at most
    #[arg(help_heading = STICKY, long, value_name = "CLIENTS", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub sticky_capacity: u32,
    /// Return when all workers are active; the app goes on running in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Log more; given twice: also what the kernel program decides
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Set by `--detach` on the process it leaves in the background
    #[arg(long, hide = true)]
    pub detached: bool,
    /// Set by `try`: workers can't listen on a port on which anybody else does
    #[arg(long, hide = true)]
    pub alone: bool,
    /// Set on a controller that was started from a file: the variables of its workers are on its standard input, where nobody else can read them
    #[arg(long, hide = true)]
    pub variables_on_stdin: bool,
    /// The command and its arguments
    #[arg(
        last = true,
        required_unless_present = "file",
        conflicts_with = "file",
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// Options of every verb
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Name of the app, when more than one runs
    #[arg(long, global = true, env = "REUSE_APP", hide_env_values = true, value_name = "NAME")]
    pub app: Option<String>,
    /// Print answers and errors as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The command line `reuse-ctl run …` alone, to check an app without the other verbs.
#[derive(Debug, Parser)]
#[command(name = "reuse-ctl")]
pub(super) struct RunLine {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: RunVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum RunVerb {
    Run(Box<Run>),
}
