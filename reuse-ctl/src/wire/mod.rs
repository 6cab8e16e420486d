//! Requests and replies on `control.sock`, as data. Fields may be added but never renamed, because scripts read them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::{
        AppSpec,
        difference::{Change, TakesEffect},
    },
    base::{ErrorKind, Failure, FaultKind, OutputOf, Text, Verb, WorkerState},
};

pub mod commands;
mod requests;
mod schema;
pub mod weight;

pub use requests::{
    CanaryRequest, DrainRequest, GetRequest, PolicyRequest, ReloadRequest, RestartRequest, ScaleRequest, SendRequest,
    SpecRequest, StopRequest, WeightRequest,
};

/// `GET /v1/status`, and `reuse-ctl status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The app's name.
    pub app: String,
    /// The name of the policy.
    pub policy: String,
    /// The controller's pid.
    pub pid: u32,
    /// Whole seconds since the controller started.
    pub uptime_s: u64,
    /// One per (protocol, address, port).
    pub groups: Vec<GroupStatus>,
    /// Connections for which the kernel's own hash decided, because the program could not. Should be 0.
    pub fallbacks: u64,
    /// Connections that reached a worker before the program was attached.
    pub unsteered: u64,
    /// `--drain-timeout` in milliseconds; absent if the controller doesn't report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_ms: Option<u64>,
    /// Why the app as a whole will not serve until a user intervenes, in one line: every worker has failed. The workers' own `reason` has
    /// the details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// One row per slot, in slot order.
    pub workers: Vec<WorkerStatus>,
}

/// The listeners of all workers on one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupStatus {
    /// `127.0.0.1:8080`, `[::]:8080`.
    pub addr: String,
    /// `tcp`.
    pub protocol: String,
    /// Handshakes that are not complete yet.
    pub handshakes: u32,
    /// Connections that wait at the backstop listener because no worker is published.
    pub parked: u32,
    /// How often the program has reached each verdict; cumulative.
    #[serde(default)]
    pub verdicts: Verdicts,
    /// Listeners in this group that belong to no worker, as `pid (command)`. Should be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<String>,
}

/// How often the select program has reached each verdict, for one group; cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdicts {
    /// The policy chose a worker.
    pub chosen: u64,
    /// The controller directed the connection to one worker.
    pub directed: u64,
    /// Nobody was published, or every listener that was tried had just closed: the connection waited at the backstop listener.
    pub parked: u64,
    /// The same, and `--when-empty refuse` is set; or the controller directed the connection to a worker that has closed its listener.
    pub refused: u64,
    /// A queued connection or a handshake was moved off a listener that closed.
    pub migrated: u64,
    /// The kernel's own hash decided.
    pub fallback: u64,
}

/// A slot and its instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStatus {
    /// The slot's number, 0…N-1.
    pub id: u16,
    /// The current instance's main process; null if no process runs.
    pub pid: Option<u32>,
    /// The state of the current instance, or of the slot if none runs.
    pub state: WorkerState,
    /// Whole seconds since the current instance started.
    pub uptime_s: u64,
    /// How many instances have replaced an earlier one, for any reason.
    pub restarts: u64,
    /// Established connections of all instances of the slot, including those still in an accept queue.
    pub connections: u32,
    /// Established connections that the server has not accepted yet.
    pub queue: u32,
    /// How often the program has chosen this slot.
    pub selected_total: u64,
    /// Connections that completed their handshake on this slot.
    pub established_total: u64,
    /// Connections that the server has accepted.
    pub accepted_total: u64,
    /// Connections moved here from a listener that closed.
    pub migrated_in_total: u64,
    /// Connections moved away when this slot's listener closed.
    pub migrated_out_total: u64,
    /// Connections that were cut when instances of the slot ended.
    #[serde(default)]
    pub cut_total: u64,
    /// Those of `cut_total` that had a request in flight.
    #[serde(default)]
    pub cut_in_flight_total: u64,
    /// CPU usage of all processes of the slot since the last look, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory of all processes of the slot, in bytes.
    pub memory_bytes: u64,
    /// Every live instance of the slot.
    pub instances: Vec<InstanceStatus>,
    /// Whether new connections may be steered to the slot now.
    #[serde(default)]
    pub published: bool,
    /// The fault of the current instance, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultStatus>,
    /// The slot's fixed share of new connections (`10%`), if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Whether the slot runs a canary's command.
    #[serde(default)]
    pub canary: bool,
    /// The worker's own status text (`STATUS=` to its `NOTIFY_SOCKET`), in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// Why the slot is failed or backing off, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A fault of an active worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultStatus {
    /// The kind of fault.
    pub kind: FaultKind,
    /// Milliseconds since it was noticed.
    pub for_ms: u64,
    /// Whether the worker is withdrawn for it. False if too many others are withdrawn, or if it is the last one.
    pub withdrawn: bool,
    /// The reason in one line, which follows the worker's name: `accepted nothing for 60 ms with 4 connections in its queue`.
    pub reason: String,
}

/// One process incarnation of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// The pid of its main process.
    pub pid: u32,
    /// The state of the instance.
    pub state: WorkerState,
    /// Established connections.
    pub connections: u32,
    /// Those of `connections` that are not accepted yet.
    pub queue: u32,
    /// Listeners of the instance that get no connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutStatus>,
}

/// Listeners of one instance on one address that get no connection, for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOutStatus {
    /// Where they listen.
    pub addr: String,
    /// How many they are.
    pub listeners: u32,
    /// Why, in one line.
    pub reason: String,
}

/// The header by which a worker's own answer differs from the controller's refusal. Its value is the worker's number.
pub const WORKER_HEADER: &str = "reuse-worker";

/// A worker's answer. The controller passes on status, content type and body unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The HTTP status, 100…999.
    pub status: u16,
    /// The `content-type` header, if it is text.
    pub content_type: Option<String>,
    /// The body, at most 16 MiB.
    pub body: Vec<u8>,
}

/// The answer to a request that changes something, and every refusal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Whether the request was carried out.
    pub ok: bool,
    /// What happened, in one line for a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further notes, one line each: `reload` names a better stop signal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The slots that were changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<u16>,
    /// Why the request failed, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do next, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where ` --app NAME` belongs in `hint` if several apps run, in bytes from its start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hint_app_at: Vec<usize>,
    /// The kind of error, which decides the CLI's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The last output lines of a worker that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// Who wrote these lines; absent: the worker alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_of: Option<OutputOf>,
    /// With `PUT /v1/spec`: every worker has failed, so all are started anew, whether or not anything differs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts_anew: bool,
    /// The differences found by `PUT /v1/spec`, and what became of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<OptionChange>,
}

/// `GET /v1/spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpecReply {
    /// Always true.
    pub ok: bool,
    /// The current specification, as set by `run`, `apply`, `promote`, `scale` or `policy`. Sending it to `PUT` changes nothing. Its
    /// variables may contain secrets.
    pub spec: AppSpec,
}

/// An option that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionChange {
    /// The option's name on the command line without the hyphens, or `command`, `environment`.
    pub option: String,
    /// The old value; absent if it is secret, or long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How it takes effect.
    pub takes_effect: TakesEffect,
    /// The same as `takes_effect`, by its older name.
    pub way: TakesEffect,
    /// Whether it has taken effect.
    pub done: bool,
}

impl OptionChange {
    /// What came of this difference.
    pub fn new(change: &Change, done: bool) -> Self {
        let (from, to) = change.values.clone().unzip();
        let Change {
            option, takes_effect, ..
        } = *change;
        Self {
            option: option.into(),
            from,
            to,
            takes_effect,
            way: takes_effect,
            done,
        }
    }
}

/// One line of `GET /v1/events` (server-sent, as JSON in `data:`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The slot concerned, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// The pid of the main process concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A stable word: `spawned`, `active`, `draining`, `drained`, `stopping`, `exited`, `failed`, `all_failed`, `backing_off`, `hung`,
    /// `unhealthy`, `rescued`, `recovered`, `weighed`, `recycled`, `moved`, `deaf`, `hearing`, `lost`, `cut`, `signal`, `warning`, …
    pub event: String,
    /// One line for a user.
    pub message: String,
}

/// One packet of PM2's bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// `process:event`, `process:msg`, `log:out`, `log:err`, or the `type` of a worker's own message. No control characters.
    pub name: String,
    /// JSON on one line.
    pub data: String,
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let (hint, hint_app_at) = failure.hint.into_halves();
        Self {
            kind: Some(failure.kind),
            error: Some(failure.error),
            hint: Some(hint),
            hint_app_at,
            output: failure.output,
            output_of: failure.output_of,
            workers: failure.workers.into(),
            ..Self::default()
        }
    }
}

impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        Self {
            kind: reply.kind.unwrap_or(ErrorKind::Failed),
            error: reply
                .error
                .unwrap_or_else(|| "the controller refused without a reason".into()),
            hint: match reply.hint {
                Some(hint) => Text::from_halves(hint, reply.hint_app_at),
                None => Verb::Status.run() + " shows how things are",
            },
            left: Box::default(),
            output: reply.output,
            output_of: reply.output_of,
            workers: reply.workers.into(),
            detail: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_refusal_still_says_something() {
        let failure = Failure::from(Reply::default());
        assert_eq!(failure.kind, ErrorKind::Failed);
        assert!(!failure.error.is_empty() && !failure.hint.is_empty());
    }

    #[test]
    fn a_failure_arrives_as_it_was_and_its_commands_can_name_their_app() {
        let failure = Failure {
            workers: Box::new([1]),
            output: vec!["boom".into()],
            ..Failure::timeout("it is late", "wait; " + Verb::Logs.with(1) + " says more")
        };
        let sent = serde_json::to_string(&Reply::from(failure.clone())).expect("plain data");
        assert!(
            sent.contains(r#""hint":"wait; `reuse-ctl logs 1` says more""#),
            "{sent}"
        );
        let arrived = Failure::from(serde_json::from_str::<Reply>(&sent).expect("it was a reply"));
        assert_eq!(arrived, failure);
        assert_eq!(
            arrived.hint.for_app("web"),
            "wait; `reuse-ctl logs 1 --app web` says more"
        );
    }
}
