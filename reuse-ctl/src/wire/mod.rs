//! What travels over `control.sock`: requests and replies, as data. Fields are added, never renamed: scripts read them.

use serde::{Deserialize, Serialize};

use crate::{
    app::{AppSpec, difference::TakesEffect},
    base::{ErrorKind, Failure, FaultKind, OutputOf, Text, Verb, WorkerState},
};

pub mod commands;
mod requests;
pub mod weight;

pub use requests::{
    CanaryRequest, DrainRequest, GetRequest, PolicyRequest, ReloadRequest, RestartRequest, ScaleRequest, SendRequest,
    SpecRequest, StopRequest, WeightRequest,
};

/// `GET /v1/status`, and `reuse-ctl status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The app's name.
    pub app: String,
    /// How workers are chosen.
    pub policy: String,
    /// The controller's process id.
    pub pid: u32,
    /// Whole seconds since the controller started.
    pub uptime_s: u64,
    /// One per (protocol, address, port).
    pub groups: Vec<GroupStatus>,
    /// Connections for which the kernel's own hash decided, because the program could not. Should be 0.
    pub fallbacks: u64,
    /// Connections that reached a worker before the program was attached.
    pub unsteered: u64,
    /// `--drain-timeout` in milliseconds; absent when the controller does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_ms: Option<u64>,
    /// What keeps the app as a whole from serving until a person does something, in one line: every worker has failed. The workers' own
    /// `reason` says how each did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// One row per slot, in slot order.
    pub workers: Vec<WorkerStatus>,
}

/// The listeners of all workers on one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// `127.0.0.1:8080`, `[::]:8080`.
    pub addr: String,
    /// `tcp`.
    pub protocol: String,
    /// Handshakes that are not complete yet.
    pub handshakes: u32,
    /// Connections that wait at the backstop listener because no worker is published.
    pub parked: u32,
    /// What the program decided, by verdict; cumulative.
    #[serde(default)]
    pub verdicts: Verdicts,
    /// Listeners in this group that belong to no worker, as `pid (command)`. Should be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<String>,
}

/// How often the select program decided what, for one group; cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// A worker was chosen by the policy.
    pub chosen: u64,
    /// The connection was directed to one worker by the controller.
    pub directed: u64,
    /// Nobody was published: the connection waits at the backstop listener.
    pub parked: u64,
    /// Nobody was published and `--when-empty refuse` is set.
    pub refused: u64,
    /// A queued connection or a handshake was moved off a listener that closed.
    pub migrated: u64,
    /// The kernel's own hash decided.
    pub fallback: u64,
}

/// A slot and what runs in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The slot's number, 0…N-1.
    pub id: u16,
    /// The current instance's main process; absent when none runs.
    pub pid: Option<u32>,
    /// The state of the current instance, or of the slot when none runs.
    pub state: WorkerState,
    /// Whole seconds since the current instance started.
    pub uptime_s: u64,
    /// How many instances replaced an earlier one, for whatever reason.
    pub restarts: u64,
    /// Established connections, all instances of the slot; includes those still in an accept queue.
    pub connections: u32,
    /// Established connections that the server has not accepted yet.
    pub queue: u32,
    /// Times the program chose this slot.
    pub selected_total: u64,
    /// Connections that completed their handshake on this slot.
    pub established_total: u64,
    /// Connections that the server has taken from its queue.
    pub accepted_total: u64,
    /// Connections moved here from a listener that closed.
    pub migrated_in_total: u64,
    /// Connections moved away when this slot's listener closed.
    pub migrated_out_total: u64,
    /// Connections that the ends of the slot's instances have cut.
    #[serde(default)]
    pub cut_total: u64,
    /// Of these, with a request in flight.
    #[serde(default)]
    pub cut_in_flight_total: u64,
    /// Processor use since the last look, all processes of the slot, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory of all processes of the slot.
    pub memory_bytes: u64,
    /// Every live instance of the slot.
    pub instances: Vec<InstanceStatus>,
    /// Whether new connections may be steered to it now.
    #[serde(default)]
    pub published: bool,
    /// What is wrong with the current instance, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultStatus>,
    /// Its fixed share of new connections (`10%`), if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Whether it runs a canary's command.
    #[serde(default)]
    pub canary: bool,
    /// What it says of itself (`STATUS=` to its `NOTIFY_SOCKET`), in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// Why the slot is failed or backing off, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An active worker that does not serve as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultStatus {
    /// Which fault.
    pub kind: FaultKind,
    /// Milliseconds since it was noticed.
    pub for_ms: u64,
    /// Whether it is withdrawn for that; not when too many others are, or when it is the last one.
    pub withdrawn: bool,
    /// In one line, to follow the worker's name: `accepted nothing for 60 ms with 4 connections in its queue`.
    pub reason: String,
}

/// One process incarnation of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its main process.
    pub pid: u32,
    /// Its own state.
    pub state: WorkerState,
    /// Established connections.
    pub connections: u32,
    /// Of these, not accepted yet.
    pub queue: u32,
}

/// The header that tells a worker's own answer from the controller's refusal; its value is the worker's number.
pub const WORKER_HEADER: &str = "reuse-worker";

/// What the worker answered. The controller passes it on as it is: status, content type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The HTTP status, 100…999.
    pub status: u16,
    /// Its `content-type`, if it is text.
    pub content_type: Option<String>,
    /// At most 16 MiB.
    pub body: Vec<u8>,
}

/// The answer to every request but `status` and `events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Whether what was asked for is done.
    pub ok: bool,
    /// What happened, in one line for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the person should know besides, one line each: `reload` names a better stop signal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The slots that were changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<u16>,
    /// Why not, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do next, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where ` --app NAME` belongs in the hint if several apps run: in bytes from its start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hint_app_at: Vec<usize>,
    /// Which exit code the CLI gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The last lines that a worker which failed had written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// Whose lines these are; absent: the worker's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_of: Option<OutputOf>,
    /// With `PUT /v1/spec`: every worker has failed, and is started anew whatever differs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts_anew: bool,
    /// What `PUT /v1/spec` has found different, and what became of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<OptionChange>,
}

/// `GET /v1/spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecReply {
    /// Always.
    pub ok: bool,
    /// What runs: what the app was told to be, by `run`, `apply`, `promote`, `scale` or `policy`. To `PUT` it changes nothing. The values of
    /// its variables may be secrets.
    pub spec: AppSpec,
}

/// An option that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionChange {
    /// As on the command line, without the hyphens; or `command`, `environment`.
    pub option: String,
    /// What it was; absent where that is secret, or long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How it takes effect.
    #[serde(rename = "way")]
    pub takes_effect: TakesEffect,
    /// Whether it has.
    pub done: bool,
}

/// One line of `GET /v1/events` (server-sent, as JSON in `data:`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The slot concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// The main process concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A stable word: `spawned`, `active`, `draining`, `drained`, `stopping`, `exited`, `failed`, `all_failed`, `backing_off`, `hung`, `unhealthy`, `rescued`,
    /// `recovered`, `weighed`, `recycled`, `moved`, `deaf`, `hearing`, `lost`, `warning`, …
    pub event: String,
    /// One line for a person.
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
