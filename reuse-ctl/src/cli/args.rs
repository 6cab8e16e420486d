//! The grammar of the command line, and nothing else: no file, process or socket is looked at here.
//!
//! Names and numbers that need a better error message than clap's (`--policy`, `--workers`, `scale`) are kept as text and checked where
//! they are resolved.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use humantime::parse_duration;

pub use crate::app::arguments::{Global, Run};

const EXAMPLES: &str = "\
Examples:
  sudo reuse-ctl demo                         see what it does; nothing else is needed
  sudo reuse-ctl run --workers 4 -- ./server  four processes of any server on one port
  reuse-ctl status --watch                    who is active, connections, queue, share
  reuse-ctl drain 2                           returns when nothing is left on worker 2
  reuse-ctl reload                            replace every worker, losing no connection

Exit codes: 0 done, 1 failed, 2 usage, 3 no such app or worker, 4 a deadline passed";

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
    /// Roll the canary's command out to all workers, --surge at a time; if one fails, all go back
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
    Try(Try),
    Demo(Demo),
}

/// Test the kernel features that reuse-ctl uses, and print what is lost without each
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Check whether an outgoing connection could take this service port, too
    #[arg(long = "port", value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
}

/// Start a server once, watch how it starts, serves and ends, and print how to run it
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sudo reuse-ctl try -- node server.js
  sudo reuse-ctl try --slow-path /report --port 8080 -- gunicorn -b :8080 app:app
  sudo reuse-ctl try --stop-signal QUIT -- nginx -g 'daemon off;'

It sends the server some requests, and the stop signal while they are under way. Exit code 1 when the server can't be served: it never gets ready, or
its port is taken. Nothing is left behind.")]
pub struct Try {
    /// Path that is requested with GET
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Path whose answer takes a second or more; it is requested before the stop signal is sent
    #[arg(long, value_name = "PATH")]
    pub slow_path: Option<String>,
    /// Port that clients use [default: the lowest on which the server listens]
    #[arg(short, long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Run the server as this user [default: the user who called sudo]
    #[arg(long)]
    pub user: Option<String>,
    /// Time that the server has to begin to listen
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub ready_timeout: Duration,
    /// Signal that asks the server to end [default: SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Time that the server has to end before it is killed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub stop_timeout: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Make the apps of a file run as it says: start what is missing, change what differs, leave the rest alone
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sudo reuse-ctl apply -f reuse.toml
  sudo reuse-ctl apply -f reuse.toml --env production --dry-run
  sudo reuse-ctl apply --app web                only this one of reuse.toml

A new command, folder or environment is rolled out as `reload` does: if it never gets ready, or dies while it is rolled out, the old
version goes on. Apps that the file does not name are left alone. What belongs to the start of an app (--listen, --user…) is refused
before anything is changed.")]
pub struct Apply {
    /// File that describes the apps
    #[arg(short, long, value_name = "FILE", default_value = "reuse.toml")]
    pub file: PathBuf,
    /// Add the variables of its [env.NAME]
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Let new processes listen on another address than the old ones, even if the file does not say so
    #[arg(long)]
    pub new_address: bool,
}

/// Print a systemd unit for an app
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl unit -f /srv/web/reuse.toml | sudo tee /etc/systemd/system/web.service
  reuse-ctl unit -f reuse.toml --name api --env production
  reuse-ctl unit -- --workers 4 --policy sticky -- node server.js      the arguments of `run`")]
pub struct Unit {
    /// File that describes the app
    #[arg(short, long, value_name = "FILE", conflicts_with = "run")]
    pub file: Option<PathBuf>,
    /// Add the variables of the file's [env.NAME] (with --file)
    #[arg(long, value_name = "NAME", requires = "file")]
    pub env: Option<String>,
    /// Name of the app, if the file has several (with --file)
    #[arg(long, value_name = "APP", requires = "file")]
    pub name: Option<String>,
    /// Arguments of `reuse-ctl run`
    #[arg(last = true, required_unless_present = "file", value_name = "ARGUMENTS OF run")]
    pub run: Vec<OsString>,
}

/// Check a file for `run -f` and `apply`, and print what is in it; every error is shown at its place
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// File that describes the apps
    #[arg(short, long, value_name = "FILE", default_value = "reuse.toml")]
    pub file: PathBuf,
    /// Add the variables of its [env.NAME]
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
    /// Name of the app [default: that of package.json, or the folder's]
    #[arg(long, value_name = "APP")]
    pub name: Option<String>,
    /// The command and its arguments [default: guessed from what is in the folder]
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Show the workers: state, connections, queue, share
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Draw the table anew every second, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
}

/// Withdraw workers from new connections, and wait until nothing is left on them
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl drain 2
  reuse-ctl drain 0 1 --timeout 5m
  reuse-ctl drain 2 --no-wait")]
pub struct Drain {
    /// Numbers of the workers
    #[arg(required = true, value_name = "ID", value_parser = worker_id)]
    pub ids: Vec<u16>,
    /// Time to wait; the workers stay withdrawn after that [default: the app's --drain-timeout]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Return as soon as they are withdrawn
    #[arg(long)]
    pub no_wait: bool,
    /// Drain even the last active worker
    #[arg(long)]
    pub force: bool,
}

/// Give drained workers new connections again
#[derive(Debug, Clone, Args)]
pub struct Undrain {
    /// Numbers of the workers
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
    /// Numbers of the workers
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID", value_parser = worker_id)]
    pub ids: Vec<u16>,
    /// Replace every worker, --surge at a time
    #[arg(long)]
    pub all: bool,
    /// End the old process before the new one starts
    #[arg(long)]
    pub stop_first: bool,
    /// Let the new process listen on another address than the old one
    #[arg(long)]
    pub new_address: bool,
}

/// Replace every worker, --surge at a time; stop when one fails
#[derive(Debug, Clone, Args)]
pub struct Reload {
    /// End each old process before the new one starts
    #[arg(long)]
    pub stop_first: bool,
    /// Let the new processes listen on another address than the old ones; both are served meanwhile
    #[arg(long)]
    pub new_address: bool,
}

/// Change the number of workers
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl scale 8
  reuse-ctl scale +2
  reuse-ctl scale -1")]
pub struct Scale {
    /// Number of workers, or how many more or fewer
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    pub workers: String,
}

/// Show or change the policy by which workers are chosen
#[derive(Debug, Clone, Args)]
pub struct Policy {
    /// Name of the policy: hash, round-robin, least-loaded or sticky
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
    /// Number of the worker
    #[arg(value_parser = worker_id)]
    pub id: u16,
    /// Share of new connections, or `auto`: the policy divides what the weights leave
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
    /// Share of new connections that the canary gets
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    pub weight: String,
    /// Working folder of the canary [default: the current one]
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
    /// Number of the worker
    #[arg(value_parser = worker_id)]
    pub id: u16,
    /// Path and query of the request, like /debug?x=1
    pub path: String,
    /// Address of the app that is used [default: the first]
    #[arg(long, value_name = "ADDR:PORT")]
    pub addr: Option<SocketAddr>,
    /// Time that the request may take in all
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Turn a PM2 ecosystem file into a reuse.toml, and print what became of each of its options
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl import ecosystem.config.js > reuse.toml
  reuse-ctl import ecosystem.config.js --json

JavaScript is evaluated by your own node or bun. Nothing is started.")]
pub struct Import {
    /// Ecosystem file: ecosystem.config.js, .cjs, .mjs, .json, .yaml or .yml
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

It returns when the message is queued for the worker, not when the worker has read it.")]
pub struct Send {
    /// Number of the worker, or `all`: all that run
    #[arg(value_name = "ID|all", value_parser = recipient)]
    pub to: Recipient,
    /// Message in JSON; `-` reads it from the standard input
    #[arg(allow_negative_numbers = true)]
    pub message: String,
    /// Send the message as the data of PM2's packet about this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Take the message as text, not as JSON
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

/// Print events as they happen, until Ctrl-C
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  reuse-ctl events
  reuse-ctl events --bus                what workers say and write, too
  reuse-ctl events --json | jq 'select(.event == \"log:out\") | .packet.data'
  reuse-ctl events --json | jq 'select(.event == \"reuse:warning\") | .packet.message'

With --json each line is a packet of PM2's bus, {\"event\":NAME,\"packet\":{…}}, or what `events` shows without it:
{\"event\":\"reuse:WORD\",\"packet\":{\"at_ms\":…,\"worker\":2,\"pid\":411,\"event\":\"WORD\",\"message\":…}}")]
pub struct Events {
    /// Print PM2's bus: what happens to workers, their messages to nobody in particular, and their output; all other events as `reuse:…`
    #[arg(long)]
    pub bus: bool,
}

/// End the app and everything it made
#[derive(Debug, Clone, Args)]
pub struct Stop {
    /// Time that open connections have to end [default: the app's --drain-timeout]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Remove only what a controller that was killed has left behind; an app that runs is left alone
    #[arg(long)]
    pub leftovers: bool,
}

/// Print the output of the workers
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Number of the worker whose output is printed [default: all]
    #[arg(value_parser = whose_logs)]
    pub id: Option<Whose>,
    /// Print new lines, too, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Number of last lines of each worker [default: 20; with --since: all]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// Print only what was written since: 10m (ago), or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Print only the workers' standard error
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Print only the workers' standard output
    #[arg(long)]
    pub out: bool,
    /// Print when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
}

/// The ID of `logs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// `all`, or none.
    All,
    /// A worker's.
    Worker(u16),
    /// No number: it may be an app's name.
    Other(String),
}

fn whose_logs(text: &str) -> Result<Whose, std::convert::Infallible> {
    Ok(match worker_id(text) {
        Ok(id) => Whose::Worker(id),
        Err(_) if text == "all" => Whose::All,
        Err(_) => Whose::Other(text.to_owned()),
    })
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
    humantime::parse_rfc3339_weak(text).map(Since::At).map_err(|_| {
        format!("{text:?} is not a time: give an age like 10m, or a time in UTC like 2026-01-31T12:00:00Z")
    })
}

/// Show reuse-ctl at work: a small built-in server, a load, and all that can happen to workers
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Duration of the load, in seconds
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
