//! From a request's path and body to the supervisor's [`Command`]: pure, and the only place that judges bodies.

use reuse_common::Policy;
use serde::de::DeserializeOwned;

use super::types::{
    DrainRequest, ErrorKind, PolicyRequest, ReloadRequest, Reply, RestartRequest, ScaleRequest, StopRequest,
};
use crate::supervisor::interface::{Command, ScaleTarget, SlotId};

/// The most slots that an app may have.
pub const MAX_WORKERS: u16 = 256;

/// A request that is refused before the supervisor hears of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BadRequest {
    /// Decides the exit code and the HTTP status.
    pub kind: ErrorKind,
    /// What is wrong, in one line.
    pub error: String,
    /// What to do next, in one line.
    pub hint: String,
}

impl From<BadRequest> for Reply {
    fn from(BadRequest { kind, error, hint }: BadRequest) -> Self {
        Self {
            kind: Some(kind),
            error: Some(error),
            hint: Some(hint),
            ..Self::default()
        }
    }
}

/// What can be asked of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerVerb {
    /// `POST /v1/workers/{id}/drain`
    Drain,
    /// `POST /v1/workers/{id}/undrain`
    Undrain,
    /// `POST /v1/workers/{id}/restart`
    Restart,
}

/// `POST /v1/workers/{id}/{verb}`. A worker that can't exist is "not found", like one that does not.
pub fn worker(verb: WorkerVerb, id: &str, body: &[u8]) -> Result<Command, BadRequest> {
    let slot = id.parse().map(SlotId).map_err(|_| no_such_worker(id))?;
    Ok(match verb {
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
            let RestartRequest { stop_first } = optional(body)?;
            Command::Restart { slot, stop_first }
        }
    })
}

/// `POST /v1/reload`.
pub fn reload(body: &[u8]) -> Result<Command, BadRequest> {
    let ReloadRequest { stop_first } = optional(body)?;
    Ok(Command::Reload { stop_first })
}

/// `PUT /v1/workers`.
pub fn scale(body: &[u8]) -> Result<Command, BadRequest> {
    let ScaleRequest { workers } = required(body, r#"{"workers":"4"}"#)?;
    scale_target(&workers).map(Command::Scale)
}

/// `PUT /v1/policy`.
pub fn policy(body: &[u8]) -> Result<Command, BadRequest> {
    let PolicyRequest { policy } = required(body, r#"{"policy":"sticky"}"#)?;
    policy_named(&policy).map(Command::SetPolicy)
}

/// `POST /v1/stop`.
pub fn stop(body: &[u8]) -> Result<Command, BadRequest> {
    let StopRequest { timeout_ms } = optional(body)?;
    Ok(Command::Stop { timeout_ms })
}

/// `4`, `+2` or `-1`. Whether the sum is allowed is for the supervisor to say, who knows how many there are.
pub fn scale_target(text: &str) -> Result<ScaleTarget, BadRequest> {
    let number = |digits: &str| {
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<u16>().ok())
            .flatten()
    };
    let refuse = || {
        usage(
            format!("\"{text}\" is not a number of workers"),
            "say 4, +2 or -1".into(),
        )
    };
    let target = match text.as_bytes().first() {
        Some(b'+') => ScaleTarget::Up(number(&text[1..]).ok_or_else(refuse)?),
        Some(b'-') => ScaleTarget::Down(number(&text[1..]).ok_or_else(refuse)?),
        _ => ScaleTarget::To(number(text).ok_or_else(refuse)?),
    };
    match target {
        ScaleTarget::To(0) => Err(usage(
            "an app has at least one worker".into(),
            "`reuse-ctl stop` ends the app".into(),
        )),
        ScaleTarget::To(count) | ScaleTarget::Up(count) if count > MAX_WORKERS => Err(usage(
            format!("an app has at most {MAX_WORKERS} workers"),
            format!("say a number from 1 to {MAX_WORKERS}"),
        )),
        target => Ok(target),
    }
}

/// The policy of this name, or a refusal that lists the names there are.
pub fn policy_named(name: &str) -> Result<Policy, BadRequest> {
    Policy::from_name(name).ok_or_else(|| {
        let names = Policy::ALL.map(Policy::name).join(", ");
        usage(format!("there is no policy \"{name}\""), format!("one of {names}"))
    })
}

/// A request that makes no sense.
pub fn usage(error: String, hint: String) -> BadRequest {
    BadRequest {
        kind: ErrorKind::Usage,
        error,
        hint,
    }
}

fn no_such_worker(id: &str) -> BadRequest {
    BadRequest {
        kind: ErrorKind::NotFound,
        error: format!("no worker {id}"),
        hint: "`reuse-ctl status` lists the workers; they are numbered from 0".into(),
    }
}

/// The body of a request that takes none.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// An empty body asks for the defaults.
fn optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, BadRequest> {
    if body.trim_ascii().is_empty() {
        Ok(T::default())
    } else {
        parse(body)
    }
}

fn required<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, BadRequest> {
    if body.trim_ascii().is_empty() {
        return Err(usage(
            "the request has no body".into(),
            format!("send JSON like {example}"),
        ));
    }
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BadRequest> {
    let refuse = |why: &dyn std::fmt::Display| {
        usage(
            format!("the body is not what this path takes: {why}"),
            "send a JSON object with the documented fields".into(),
        )
    };
    // serde would also take an array of the fields in their order, which nobody means.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(refuse(&"it is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| refuse(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_targets() {
        for (text, target) in [
            ("4", ScaleTarget::To(4)),
            ("256", ScaleTarget::To(256)),
            ("+2", ScaleTarget::Up(2)),
            ("-1", ScaleTarget::Down(1)),
            ("-0", ScaleTarget::Down(0)),
        ] {
            assert_eq!(scale_target(text), Ok(target), "{text}");
        }
        for text in [
            "", "+", "-", "0", "257", "+257", "four", "++1", "+-1", " 4", "99999999", "4.0",
        ] {
            let refusal = scale_target(text).expect_err(text);
            assert_eq!(refusal.kind, ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn empty_bodies_are_defaults_where_all_fields_are_optional() {
        assert_eq!(
            worker(WorkerVerb::Drain, "2", b" \n"),
            Ok(Command::Drain {
                slot: SlotId(2),
                timeout_ms: None,
                no_wait: false,
                force: false
            })
        );
        assert_eq!(
            worker(WorkerVerb::Undrain, "0", b""),
            Ok(Command::Undrain { slot: SlotId(0) })
        );
        assert_eq!(reload(b""), Ok(Command::Reload { stop_first: false }));
        assert_eq!(stop(b""), Ok(Command::Stop { timeout_ms: None }));
        assert_eq!(scale(b"").expect_err("a count is needed").kind, ErrorKind::Usage);
        assert_eq!(policy(b"").expect_err("a name is needed").kind, ErrorKind::Usage);
    }

    #[test]
    fn bodies_are_read_and_strange_ones_refused() {
        assert_eq!(
            worker(
                WorkerVerb::Drain,
                "7",
                br#"{"timeout_ms":1500,"no_wait":true,"force":true}"#
            ),
            Ok(Command::Drain {
                slot: SlotId(7),
                timeout_ms: Some(1500),
                no_wait: true,
                force: true
            })
        );
        assert_eq!(
            reload(br#"{"stop_first":true}"#),
            Ok(Command::Reload { stop_first: true })
        );
        assert_eq!(
            policy(br#"{"policy":"sticky"}"#),
            Ok(Command::SetPolicy(Policy::Sticky))
        );
        for body in ["{", "[]", r#"{"stop-first":true}"#, r#"{"stop_first":1}"#, "null x"] {
            assert_eq!(
                reload(body.as_bytes()).expect_err(body).kind,
                ErrorKind::Usage,
                "{body}"
            );
        }
        let refusal = policy(br#"{"policy":"random"}"#).expect_err("no such policy");
        assert_eq!(refusal.hint, "one of hash, round-robin, least-loaded, sticky");
        for id in ["x", "-1", "70000", ""] {
            assert_eq!(
                worker(WorkerVerb::Undrain, id, b"").expect_err(id).kind,
                ErrorKind::NotFound,
                "{id}"
            );
        }
    }
}
