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

const RECYCLING: &str = "Replacing workers that are well";

const OUTPUT: &str = "Output of the workers";

const ENVIRONMENT: &str = "Environment of the workers";

/// Start a command as a steered group of workers
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sudo reuse-ctl run --workers 4 -- bun server.ts
  sudo reuse-ctl run --workers max --policy sticky --port 8080 -d -- node server.js
  sudo reuse-ctl run --listen 0.0.0.0:443 --user www -- ./server
  sudo reuse-ctl run -f reuse.toml --env production")]
pub struct Run {
    /// Take command and options of one or more apps from this file (see `init`, `check`); options given here win over one app's
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// With --file: add the variables of its [env.NAME]
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    pub env: Option<String>,
    /// The app's name [default: the command's file name]; with --file: only this one of its apps
    #[arg(long, value_name = "APP")]
    pub name: Option<String>,
    /// How many workers, 1 to 256, or `max`: one per processor
    #[arg(long, value_name = "N|max", default_value = "1", allow_negative_numbers = true)]
    pub workers: String,
    /// hash, round-robin, least-loaded or sticky
    #[arg(long, default_value = "least-loaded")]
    pub policy: String,
    /// A port that the workers serve; may be given several times [default: every TCP port that a worker binds]
    #[arg(long = "port", value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Open this listener for the workers and hand it over as descriptor 3 (LISTEN_FDS); may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// What new connections do while no worker is active: wait for one, or be refused
    #[arg(long, value_enum, default_value = "park")]
    pub when_empty: WhenEmpty,
    /// Run the workers as this user [default: the user who called sudo]
    #[arg(long)]
    pub user: Option<String>,
    /// How long connections may take to end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// When a worker is ready, once it listens: at once (listener), after process.send('ready') (ipc), after READY=1 (notify), or
    /// when GET of this path is answered; started: when it has run for a second, for programs that serve no port
    #[arg(help_heading = ENDING, long, value_name = "listener|ipc|notify|started|http:/PATH", default_value = "listener")]
    pub ready: String,
    /// How long a worker may take until it is ready; then its start has failed
    #[arg(help_heading = ENDING, long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub ready_timeout: Duration,
    /// How long a new worker that is ready must live before it takes the place of the old one, which serves meanwhile; 0s: no time
    #[arg(help_heading = ENDING, long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub settle: Duration,
    /// How many workers are replaced at the same time, or how many percent of them, rounded up
    #[arg(help_heading = ENDING, long, value_name = "N|PERCENT", default_value = "25%", allow_negative_numbers = true)]
    pub surge: String,
    /// Asks a worker to end [default: SIGTERM]
    #[arg(help_heading = ENDING, long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Send the signal to the main process only (process, mixed), or to all processes at once (control-group) [default: to the main
    /// process, to those that listen, and to those in between, each once]
    #[arg(help_heading = ENDING, long, value_name = "process|mixed|control-group", value_enum, hide_possible_values = true)]
    pub kill_mode: Option<KillMode>,
    /// Ask by the message "shutdown" (process.on('message')) instead of the signal
    #[arg(help_heading = ENDING, long)]
    pub stop_message: bool,
    /// When a worker that is replaced or stopped gets the stop signal: when no request is in flight on its connections
    /// (in-flight-done), as soon as its accept queue is empty (at-once), or when all of its connections are closed (closed);
    /// after --drain-timeout in any case [default: in-flight-done; servers that are known to answer what they have read need only have read it]
    #[arg(help_heading = ENDING, long, value_enum, value_name = "in-flight-done|at-once|closed", hide_possible_values = true)]
    pub stop_when: Option<StopWhen>,
    /// How long a worker without connections may take to end before it is killed [default: 10s]
    #[arg(help_heading = ENDING, long, value_name = "TIME", value_parser = parse_duration)]
    pub stop_timeout: Option<Duration>,
    /// What apps made for PM2 expect: SIGINT, 1600ms to end, and its names in the environment
    #[arg(help_heading = ENDING, long)]
    pub pm2_compat: bool,
    /// Withdraw a worker that accepts nothing for so long while connections wait in its queue; 0s: never
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "50ms", value_parser = parse_duration)]
    pub hung_after: Duration,
    /// So long after that, move what waits in its queue to other workers
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "10ms", value_parser = parse_duration)]
    pub rescue_after: Duration,
    /// Replace a worker that has been hung for so long [default: never]
    #[arg(help_heading = FAULTS, long, value_name = "TIME", value_parser = parse_duration)]
    pub replace_hung_after: Option<Duration>,
    /// Withdraw at most so many percent of the workers at once, and never the last
    #[arg(help_heading = FAULTS, long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_hung: u8,
    /// Check that each worker accepts (tcp), or answers GET /PATH with a status below 400 [default: no checks]
    #[arg(help_heading = FAULTS, long, value_name = "tcp|/PATH")]
    pub health: Option<String>,
    /// The time between two checks of a worker
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub health_interval: Duration,
    /// How long a check may take
    #[arg(help_heading = FAULTS, long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub health_timeout: Duration,
    /// So many failed checks in a row make a worker unhealthy: it is withdrawn and replaced
    #[arg(help_heading = FAULTS, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub health_fails: u32,
    /// So many passed checks in a row make it healthy again
    #[arg(help_heading = FAULTS, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub health_passes: u32,
    /// Replace a worker that uses more memory: 300M
    #[arg(help_heading = RECYCLING, long, value_name = "SIZE", value_parser = parse_bytes)]
    pub max_memory: Option<u64>,
    /// Replace a worker that is older (give or take a tenth, so that they do not all go at once)
    #[arg(help_heading = RECYCLING, long, value_name = "TIME", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
    /// Replace a worker that has accepted more connections (give or take a tenth)
    #[arg(help_heading = RECYCLING, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_connections: Option<u64>,
    /// Replace all, as `reload` does, at these times: minute, hour, day, month, weekday; with seconds before them if there are six
    #[arg(help_heading = RECYCLING, long, value_name = "EXPRESSION")]
    pub cron: Option<String>,
    /// Replace all when this file or folder changes, for development; may be given several times
    #[arg(help_heading = RECYCLING, long, value_name = "PATH")]
    pub watch: Vec<PathBuf>,
    /// But not when this does; may be given several times [node_modules and what begins with a dot never count]
    #[arg(help_heading = RECYCLING, long, value_name = "GLOB", requires = "watch")]
    pub watch_ignore: Vec<String>,
    /// Wait until nothing has changed for so long
    #[arg(help_heading = RECYCLING, long, value_name = "TIME", default_value = "300ms", value_parser = parse_duration)]
    pub watch_delay: Duration,
    /// A worker may use so much memory at most, then the kernel ends it
    #[arg(help_heading = RECYCLING, long, value_name = "SIZE", value_parser = parse_bytes)]
    pub memory_limit: Option<u64>,
    /// A worker may use so many cores at most: 0.5
    #[arg(help_heading = RECYCLING, long, value_name = "CORES", value_parser = parse_cores)]
    pub cpu_limit: Option<u32>,
    /// To a file for each worker, or to the journal
    #[arg(help_heading = OUTPUT, long, value_enum, value_name = "file|journald", hide_possible_values = true, default_value = "file")]
    pub log: LogTarget,
    /// Rotate a log file that is larger
    #[arg(help_heading = OUTPUT, long, value_name = "SIZE", default_value = "32M", value_parser = parse_bytes)]
    pub log_size: u64,
    /// Keep so many rotated files of each
    #[arg(help_heading = OUTPUT, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub log_keep: u16,
    /// Run the command in this folder [default: the current one]
    #[arg(help_heading = ENVIRONMENT, long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Take variables from this file: NAME=VALUE lines; may be given several times, the last of a name counts
    #[arg(help_heading = ENVIRONMENT, long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Give each worker the next number in this variable, from FIRST on [default: from what it is, or 0]
    #[arg(help_heading = ENVIRONMENT, long, value_name = "NAME[=FIRST]")]
    pub increment_var: Option<String>,
    /// Add this to PORT from worker to worker, for apps whose workers do not share a port
    #[arg(help_heading = ENVIRONMENT, long, value_name = "N", default_value_t = 0)]
    pub port_step: u16,
    /// Let this group use the control socket, too
    #[arg(long, value_name = "GROUP")]
    pub control_group: Option<String>,
    /// So many leading bits of an IPv4 address are one client
    #[arg(help_heading = STICKY, long, value_name = "BITS", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub sticky_prefix4: u8,
    /// So many leading bits of an IPv6 address are one client
    #[arg(help_heading = STICKY, long, value_name = "BITS", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=128))]
    pub sticky_prefix6: u8,
    /// Forget a client that was not seen for so long
    #[arg(help_heading = STICKY, long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub sticky_ttl: Duration,
    /// Remember so many clients at most
    #[arg(help_heading = STICKY, long, value_name = "CLIENTS", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub sticky_capacity: u32,
    /// Return when all workers are active; the app goes on in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Log more; twice: also what the kernel program decides
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
    /// Which app is meant, when more than one runs
    #[arg(long, global = true, env = "REUSE_APP", hide_env_values = true, value_name = "NAME")]
    pub app: Option<String>,
    /// Answer in JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
}

/// `reuse-ctl run …` alone, for an app that is judged without the other verbs.
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
