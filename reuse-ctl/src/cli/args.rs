//! What may be written on the command line, and nothing else: no file, process or socket is looked at here.
//!
//! Names and numbers that need a friendlier refusal than clap's (`--policy`, `--workers`, `scale`) are kept as text and judged
//! where they are resolved.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{ArgAction, Args, Parser, Subcommand};
use humantime::parse_duration;

use super::sizes::{parse_bytes, parse_cores};
use crate::options::{LogTarget, WhenEmpty};

const EXAMPLES: &str = "\
Examples:
  sudo reuse-ctl demo                         see what it does; nothing else is needed
  sudo reuse-ctl run --workers 4 -- ./server  four processes of any server on one port
  reuse-ctl status --watch                    who is active, connections, queue, share
  reuse-ctl drain 2                           returns when nothing is left on worker 2
  reuse-ctl reload                            replace every worker, losing no connection

Exit codes: 0 done, 1 failed, 2 usage, 3 no such app or worker, 4 a deadline passed";

const FAULTS: &str = "Hung and unhealthy workers";

const STICKY: &str = "Policy sticky";

const ENDING: &str = "Starting and ending workers";

const RECYCLING: &str = "Replacing workers that are well";

const OUTPUT: &str = "Output of the workers";

const ENVIRONMENT: &str = "Environment of the workers";

/// Runs many processes of any server on one port; eBPF decides which of them gets a new connection
#[derive(Debug, Parser)]
#[command(name = "reuse-ctl", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help")]
    pub global: Global,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "clap would show it as help")]
    pub verb: Verb,
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

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the types' texts are shown as help")]
pub enum Verb {
    Run(Box<Run>),
    Apply(Apply),
    Check(Check),
    Init(Init),
    /// Print the JSON Schema of reuse.toml
    Schema,
    Unit(Unit),
    Status(Status),
    /// List the apps that run
    Ls,
    Drain(Drain),
    Undrain(Undrain),
    Restart(Restart),
    Reload(Reload),
    Scale(Scale),
    Policy(Policy),
    Weight(Weight),
    Canary(Canary),
    /// Roll the canary's command out to all workers, one after the other
    Promote,
    /// Remove the canary, and bring back what a failed promotion has changed
    Abort,
    Get(Get),
    Import(Import),
    Send(Send),
    Stop(Stop),
    Logs(Logs),
    Events(Events),
    Doctor(Doctor),
    Demo(Demo),
}

/// Try what the kernel can do, and say what is lost without it
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Look at this service port too: could an outgoing connection take it?
    #[arg(long = "port", value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
}

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
    /// when GET of this path is answered
    #[arg(help_heading = ENDING, long, value_name = "listener|ipc|notify|http:/PATH", default_value = "listener")]
    pub ready: String,
    /// How long a worker may take until it is ready; then its start has failed
    #[arg(help_heading = ENDING, long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub ready_timeout: Duration,
    /// Asks a worker to end [default: SIGTERM]
    #[arg(help_heading = ENDING, long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Ask by the message "shutdown" (process.on('message')) instead of the signal
    #[arg(help_heading = ENDING, long)]
    pub stop_message: bool,
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
    /// Replace all, one after the other, at these times: minute, hour, day, month, weekday; with seconds before them if there are six
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

/// Make the apps of a file run as it says: start what is missing, change what differs, leave the rest alone
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sudo reuse-ctl apply -f reuse.toml
  sudo reuse-ctl apply -f reuse.toml --env production --dry-run
  sudo reuse-ctl apply --app web                only this one of reuse.toml

A new command, folder or environment is rolled out as `reload` does: if it never gets ready, the old version goes on. Apps that the
file does not name are left alone. What belongs to the start of an app (--port, --user…) is refused before anything is changed.")]
pub struct Apply {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "reuse.toml")]
    pub file: PathBuf,
    /// With the variables of its [env.NAME]
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Print a systemd unit for an app
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl unit -f /srv/web/reuse.toml | sudo tee /etc/systemd/system/web.service
  reuse-ctl unit -f reuse.toml --name api --env production
  reuse-ctl unit -- --workers 4 --policy sticky -- node server.js      what stands behind `run`")]
pub struct Unit {
    /// The file that describes it
    #[arg(short, long, value_name = "FILE", conflicts_with = "run")]
    pub file: Option<PathBuf>,
    /// With --file: with the variables of its [env.NAME]
    #[arg(long, value_name = "NAME", requires = "file")]
    pub env: Option<String>,
    /// With --file: which of its apps, if it has several
    #[arg(long, value_name = "APP", requires = "file")]
    pub name: Option<String>,
    /// What would stand behind `reuse-ctl run`
    #[arg(last = true, required_unless_present = "file", value_name = "ARGUMENTS OF run")]
    pub run: Vec<OsString>,
}

/// Check a file for `run -f` and `apply`, and say what is in it; every error is shown at its place
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "reuse.toml")]
    pub file: PathBuf,
    /// With the variables of its [env.NAME]
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// Write a reuse.toml for the server in this folder
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl init
  reuse-ctl init --name web -- node server.js")]
pub struct Init {
    /// The app's name [default: that of package.json, or the folder's]
    #[arg(long, value_name = "APP")]
    pub name: Option<String>,
    /// The command and its arguments [default: guessed from what is in the folder]
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Show the workers: state, connections, queue, share
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Draw it anew every second, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
}

/// Take workers out of the choice, and wait until nothing is left on them
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl drain 2
  reuse-ctl drain 0 1 --timeout 5m
  reuse-ctl drain 2 --no-wait")]
pub struct Drain {
    /// The workers' numbers
    #[arg(required = true, value_name = "ID", value_parser = worker_id)]
    pub ids: Vec<u16>,
    /// How long to wait; the workers stay withdrawn after that [default: the app's --drain-timeout]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Return as soon as they are withdrawn
    #[arg(long)]
    pub no_wait: bool,
    /// Drain even the last active worker
    #[arg(long)]
    pub force: bool,
}

/// Put drained workers back into the choice
#[derive(Debug, Clone, Args)]
pub struct Undrain {
    /// The workers' numbers
    #[arg(required = true, value_name = "ID", value_parser = worker_id)]
    pub ids: Vec<u16>,
}

/// Replace workers: the new process is ready before the old one ends
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl restart 2
  reuse-ctl restart --all              the same as reload
  reuse-ctl restart 0 --stop-first     for servers that can't run twice; connections wait meanwhile")]
pub struct Restart {
    /// The workers' numbers
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID", value_parser = worker_id)]
    pub ids: Vec<u16>,
    /// Every worker, one after the other
    #[arg(long)]
    pub all: bool,
    /// End the old process before the new one starts
    #[arg(long)]
    pub stop_first: bool,
}

/// Replace every worker, one after the other; stops at the first that fails
#[derive(Debug, Clone, Args)]
pub struct Reload {
    /// End each old process before the new one starts
    #[arg(long)]
    pub stop_first: bool,
}

/// Change the number of workers
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl scale 8
  reuse-ctl scale +2
  reuse-ctl scale -1")]
pub struct Scale {
    /// So many, so many more, so many fewer
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    pub workers: String,
}

/// Show or change how workers are chosen
#[derive(Debug, Clone, Args)]
pub struct Policy {
    /// hash, round-robin, least-loaded or sticky
    pub name: Option<String>,
}

/// Give a worker a fixed share of new connections
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl weight 3 10%
  reuse-ctl weight 3 0.5%
  reuse-ctl weight 3 auto")]
pub struct Weight {
    /// The worker's number
    #[arg(value_parser = worker_id)]
    pub id: u16,
    /// Its share, or `auto`: what the fixed shares leave is steered by the policy
    #[arg(value_name = "PERCENT|auto", allow_hyphen_values = true)]
    pub weight: String,
}

/// Start one more worker on another command, with a fixed share of new connections
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl canary --weight 5% -- ./server-v2
  reuse-ctl canary --weight 1% --cwd /srv/next -- node server.js

It returns when the canary is active. Then `promote` rolls it out, `abort` takes it back.")]
pub struct Canary {
    /// Its share of new connections
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    pub weight: String,
    /// Its working folder [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Send one HTTP request to one worker, and print the body of its answer
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl get 2 /debug
  reuse-ctl get 2 /metrics --addr 127.0.0.1:9090

It reaches a drained or hung worker too. Exit code 1 when the status is 400 or more.")]
pub struct Get {
    /// The worker's number
    #[arg(value_parser = worker_id)]
    pub id: u16,
    /// What is asked for: /debug?x=1
    pub path: String,
    /// Which of the app's addresses [default: the first]
    #[arg(long, value_name = "ADDR:PORT")]
    pub addr: Option<SocketAddr>,
    /// How long it may take in all
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Turn a PM2 ecosystem file into a reuse.toml, and say what became of each of its options
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl import ecosystem.config.js > reuse.toml
  reuse-ctl import ecosystem.config.js --json

JavaScript is evaluated by your own node or bun. Nothing is started.")]
pub struct Import {
    /// ecosystem.config.js, .cjs, .mjs, .json, .yaml or .yml
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Send workers a message, as Node's child.send() does
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl send 2 '{\"flush\":true}'          process.on('message', (message) => …)
  reuse-ctl send all --topic config '{\"a\":1}'   PM2's packet: {\"id\":2,\"type\":\"process:msg\",\"topic\":\"config\",\"data\":{\"a\":1}}
  reuse-ctl send 2 --text 'hello'
  jq . config.json | reuse-ctl send all -

It returns when the message waits for the worker, not when that has read it.")]
pub struct Send {
    /// The worker's number, or all that run
    #[arg(value_name = "ID|all", value_parser = recipient)]
    pub to: Recipient,
    /// JSON; `-` reads it from the standard input
    #[arg(allow_negative_numbers = true)]
    pub message: String,
    /// Send it as the data of PM2's packet about this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// It is a text, not JSON
    #[arg(long)]
    pub text: bool,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// All workers that run.
    All,
    /// One worker.
    Worker(u16),
}

/// Show what happens, as it happens, until Ctrl-C
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl events
  reuse-ctl events --bus                what workers say and write, too
  reuse-ctl events --json | jq 'select(.event == \"log:out\") | .packet.data'

With --json each line is a packet of PM2's bus: {\"event\":NAME,\"packet\":{…}}")]
pub struct Events {
    /// PM2's bus: what happens to workers, what they say to nobody in particular, and what they write
    #[arg(long)]
    pub bus: bool,
}

/// End the app and everything it made
#[derive(Debug, Clone, Args)]
pub struct Stop {
    /// How long connections may take to end [default: the app's --drain-timeout]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Only clear away what a controller that was killed has left behind; an app that runs is left alone
    #[arg(long)]
    pub leftovers: bool,
}

/// Show what the workers have written
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Only this worker's
    #[arg(value_parser = worker_id)]
    pub id: Option<u16>,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// So many of the last lines of each worker [default: 20; with --since: all]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// Only what was written from then on: 10m (ago), or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Only what they wrote to their standard error
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Only what they wrote to their standard output
    #[arg(long)]
    pub out: bool,
    /// Say when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
}

/// `--since`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    #[expect(missing_docs, reason = "the names say it")]
    Ago(Duration),
    #[expect(missing_docs, reason = "as above")]
    At(SystemTime),
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    // Without a zone it is UTC, as everything that is shown.
    humantime::parse_rfc3339_weak(text)
        .map(Since::At)
        .map_err(|_| format!("{text:?} is no time: say how long ago, 10m, or when in UTC, 2026-01-31T12:00:00Z"))
}

/// See it at work: a small built-in server, a load, and all that can happen to workers
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// How long the load lasts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=600))]
    pub seconds: u64,
}

fn recipient(text: &str) -> Result<Recipient, &'static str> {
    match text {
        "all" => Ok(Recipient::All),
        number => worker_id(number).map(Recipient::Worker),
    }
}

fn worker_id(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "a worker is named by its number: 0, 1, …")
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
