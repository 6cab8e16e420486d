//! The bodies of requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::AppSpec;

/// `POST /v1/workers/{id}/drain`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainRequest {
    /// How long to wait for connections to end; absent: the app's `--drain-timeout`.
    pub timeout_ms: Option<u64>,
    /// Answer as soon as the worker is withdrawn.
    pub no_wait: bool,
    /// Drain even the last active worker.
    pub force: bool,
}

/// `POST /v1/workers/{id}/restart`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RestartRequest {
    /// End the old instance before the new one starts.
    pub stop_first: bool,
    /// The new instance may listen on another address than the old one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_address: bool,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// End each old instance before the new one starts.
    pub stop_first: bool,
    /// The new instances may listen on another address than the old ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_address: bool,
}

/// `PUT /v1/workers`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// `4`, `+2` or `-1`.
    pub workers: String,
}

/// `PUT /v1/policy`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// `hash`, `round-robin`, `least-loaded` or `sticky`.
    pub policy: String,
}

/// `PUT /v1/workers/{id}/weight`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// `10%`, or `auto`: what the others leave, shared with them.
    pub weight: String,
}

/// `POST /v1/canary`. `POST /v1/canary/promote` and `POST /v1/canary/abort` take no body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// `5%`.
    pub weight: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its working folder; absent: that of `run`.
    #[serde(default)]
    pub cwd: Option<std::path::PathBuf>,
}

/// `POST /v1/workers/{id}/get`: one HTTP/1.1 GET to that worker alone. An answer that has the header `reuse-worker` is the worker's
/// own, passed on as it is; one that has not is the controller's `Reply`, which says why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRequest {
    /// `/debug?x=1`.
    pub path: String,
    /// Which of its addresses; absent: the first.
    #[serde(default)]
    pub addr: Option<std::net::SocketAddr>,
    /// How long it may take in all; absent: 10,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/workers/{id}/send` and `POST /v1/send` (to all workers that run): a message over the Node IPC channel, at most 16 MiB.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Any JSON.
    pub message: Box<RawValue>,
    /// Makes it PM2's packet for each worker: `{"id":ID,"type":"process:msg","topic":TOPIC,"data":MESSAGE}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// `POST /v1/stop`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopRequest {
    /// How long workers may take before they are killed; absent: `--drain-timeout`.
    pub timeout_ms: Option<u64>,
}

/// `PUT /v1/spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecRequest {
    /// What the app is to be.
    pub spec: AppSpec,
    /// Only say what it would take.
    #[serde(default)]
    pub dry_run: bool,
    /// The new instances may listen on another address than the old ones, although nothing that the spec says shows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_address: bool,
}
