//! Converts a request's path and body to the supervisor's [`Command`]. Pure, and the only place that checks bodies.

use std::path::Path;

use reuse_common::Share;
use serde::de::DeserializeOwned;

use super::weight::{canary_share, weight_of};
use crate::app::words::check_path;
use crate::app::words::policy_named;
use crate::{
    base::{Failure, SlotId, Verb},
    process::channel::message::{Outgoing, Unsendable},
    wire::{
        CanaryRequest, DrainRequest, GetRequest, PolicyRequest, ReloadRequest, RestartRequest, ScaleRequest,
        SendRequest, SpecRequest, StopRequest, WeightRequest,
    },
};
use reuse_machine::interface::{Command, MAX_WORKERS, ScaleTarget};

/// The requests about one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerVerb {
    /// `POST /v1/workers/{id}/drain`
    Drain,
    /// `POST /v1/workers/{id}/undrain`
    Undrain,
    /// `POST /v1/workers/{id}/restart`
    Restart,
    /// `PUT /v1/workers/{id}/weight`
    Weigh,
}

/// A command, and the parts of the request that don't concern the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRequest {
    /// The command.
    pub command: Command,
    /// Whether instances started for it may listen on another address than those before them.
    pub new_address: bool,
}

impl From<Command> for CommandRequest {
    fn from(command: Command) -> Self {
        Self {
            command,
            new_address: false,
        }
    }
}

/// `POST /v1/workers/{id}/{verb}`, and `PUT …/weight`. An id that no worker can have is "not found", like one that no worker has.
pub fn worker(verb: WorkerVerb, id: &str, body: &[u8]) -> Result<CommandRequest, Failure> {
    let slot = slot_named(id)?;
    let command = match verb {
        WorkerVerb::Drain => {
            let DrainRequest {
                timeout_ms,
                no_wait,
                force,
            } = optional(body)?;
            Command::Drain {
                slot,
                timeout_ms,
                no_wait,
                force,
            }
        }
        WorkerVerb::Undrain => {
            optional::<Nothing>(body)?;
            Command::Undrain { slot }
        }
        WorkerVerb::Restart => {
            let RestartRequest {
                stop_first,
                new_address,
            } = optional(body)?;
            let command = Command::Restart { slot, stop_first };
            return Ok(CommandRequest { command, new_address });
        }
        WorkerVerb::Weigh => {
            let WeightRequest { weight } = required(body, r#"{"weight":"10%"}"#)?;
            let share = weight_of(&weight)?;
            Command::Weigh { slot, share }
        }
    };
    Ok(command.into())
}

/// `POST /v1/workers/{id}/get`.
pub fn get(id: &str, body: &[u8]) -> Result<(SlotId, GetRequest), Failure> {
    let slot = slot_named(id)?;
    let request: GetRequest = required(body, r#"{"path":"/debug"}"#)?;
    check_path(&request.path)?;
    Ok((slot, request))
}

/// `POST /v1/workers/{id}/send`, and without an id `POST /v1/send`.
pub fn send(id: Option<&str>, body: &[u8]) -> Result<(Option<SlotId>, Outgoing), Failure> {
    let slot = id.map(slot_named).transpose()?;
    let SendRequest { message, topic } = required(body, r#"{"message":{"hello":1}}"#)?;
    Ok((slot, outgoing(message.get(), topic.as_deref())?))
}

/// Checks a message.
pub fn outgoing(json: &str, topic: Option<&str>) -> Result<Outgoing, Failure> {
    Outgoing::new(json, topic).map_err(|why| {
        let hint = match why {
            Unsendable::NotJson(_) => "a message is one JSON value, like {\"hello\":1} or \"hello\"",
            Unsendable::TooLong => "a message has at most 16 MiB: send the name of a file instead",
            Unsendable::TooDeep => "send it as a text that holds JSON",
            Unsendable::Internal => "give the member another name: workers in Node would take it for Node's own",
        };
        Failure::usage(format!("the message can't be sent: {why}"), hint)
    })
}

/// `POST /v1/canary`.
pub fn canary(body: &[u8]) -> Result<(Share, CanaryRequest), Failure> {
    let request: CanaryRequest = required(body, r#"{"weight":"5%","command":["./server-v2"]}"#)?;
    let share = canary_share(&request.weight)?;
    if request.command.is_empty() {
        return Err(Failure::usage(
            "a canary needs a command",
            r#"name it and its arguments: "command":["./server-v2"]"#,
        ));
    }
    if request.command.iter().any(|word| word.contains('\0')) {
        return Err(Failure::usage(
            "the canary's command has a NUL character in it",
            "remove it: no argument of a program can have one",
        ));
    }
    if let Some(cwd) = request.cwd.as_deref().filter(|cwd| !Path::is_absolute(cwd)) {
        return Err(Failure::usage(
            format!("the working folder {} is not an absolute path", cwd.display()),
            "the controller has another working folder than you: give the absolute path",
        ));
    }
    Ok((share, request))
}

/// `PUT /v1/spec`.
pub fn spec(body: &[u8]) -> Result<SpecRequest, Failure> {
    required(body, r#"{"spec":{"arguments":["--","./server"],"variables":[]}}"#)
}

/// `POST /v1/canary/promote`.
pub fn promote(body: &[u8]) -> Result<Command, Failure> {
    optional::<Nothing>(body)?;
    Ok(Command::Promote)
}

/// `POST /v1/canary/abort`.
pub fn abort(body: &[u8]) -> Result<Command, Failure> {
    optional::<Nothing>(body)?;
    Ok(Command::Abort)
}

/// `POST /v1/reload`.
pub fn reload(body: &[u8]) -> Result<CommandRequest, Failure> {
    let ReloadRequest {
        stop_first,
        new_address,
    } = optional(body)?;
    let command = Command::Reload { stop_first };
    Ok(CommandRequest { command, new_address })
}

/// `PUT /v1/workers`.
pub fn scale(body: &[u8]) -> Result<Command, Failure> {
    let ScaleRequest { workers } = required(body, r#"{"workers":"4"}"#)?;
    scale_target(&workers).map(Command::Scale)
}

/// `PUT /v1/policy`.
pub fn policy(body: &[u8]) -> Result<Command, Failure> {
    let PolicyRequest { policy } = required(body, r#"{"policy":"sticky"}"#)?;
    policy_named(&policy).map(Command::SetPolicy)
}

/// `POST /v1/stop`.
pub fn stop(body: &[u8]) -> Result<Command, Failure> {
    let StopRequest { timeout_ms } = optional(body)?;
    Ok(Command::Stop { timeout_ms })
}

/// Parses `4`, `+2` or `-1`. The supervisor, which knows the present number, checks the sum.
pub fn scale_target(text: &str) -> Result<ScaleTarget, Failure> {
    let number = |digits: &str| {
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<u16>().ok())
            .flatten()
    };
    let refuse = || Failure::usage(format!("\"{text}\" is not a number of workers"), "give 4, +2 or -1");
    let target = match text.as_bytes().first() {
        Some(b'+') => ScaleTarget::Up(number(&text[1..]).ok_or_else(refuse)?),
        Some(b'-') => ScaleTarget::Down(number(&text[1..]).ok_or_else(refuse)?),
        _ => ScaleTarget::To(number(text).ok_or_else(refuse)?),
    };
    match target {
        ScaleTarget::To(0) => Err(Failure::usage(
            "an app has at least one worker",
            Verb::Stop.run() + " ends the app",
        )),
        ScaleTarget::To(count) | ScaleTarget::Up(count) if count > MAX_WORKERS => Err(Failure::usage(
            format!("an app has at most {MAX_WORKERS} workers"),
            format!("give a number from 1 to {MAX_WORKERS}"),
        )),
        target => Ok(target),
    }
}

fn slot_named(id: &str) -> Result<SlotId, Failure> {
    id.parse().map(SlotId).map_err(|_| no_such_worker(id))
}

fn no_such_worker(id: &str) -> Failure {
    Failure::not_found(
        format!("no worker {id}"),
        Verb::Status.run() + " lists the workers; they are numbered from 0",
    )
}

/// The body of a request without parameters.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// An empty body means the defaults.
fn optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Failure> {
    if body.trim_ascii().is_empty() {
        Ok(T::default())
    } else {
        parse(body)
    }
}

fn required<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Failure> {
    if body.trim_ascii().is_empty() {
        return Err(Failure::usage(
            "the request has no body",
            format!("send JSON like {example}"),
        ));
    }
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::usage(
            format!("the body is not what this path takes: {why}"),
            "send a JSON object with the documented fields",
        )
    };
    // serde would also accept an array of the fields in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(refuse(&"it is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| refuse(&error))
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
