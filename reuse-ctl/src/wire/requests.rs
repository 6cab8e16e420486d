//! The bodies of requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::AppSpec;

/// `POST /v1/workers/{id}/drain`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainRequest {
    /// How long to wait for connections to end, in milliseconds; absent: the app's `--drain-timeout`.
    pub timeout_ms: Option<u64>,
    /// Whether to answer as soon as the worker is withdrawn.
    pub no_wait: bool,
    /// Whether to drain even the last active worker.
    pub force: bool,
}

/// `POST /v1/workers/{id}/restart`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RestartRequest {
    /// Whether to stop the old instance before the new one starts.
    pub stop_first: bool,
    /// Whether the new instance may listen on another address than the old one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_address: bool,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// Whether to stop each old instance before the new one starts.
    pub stop_first: bool,
    /// Whether the new instances may listen on another address than the old ones.
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
    /// `10%`, or `auto`: no fixed share.
    pub weight: String,
}

/// `POST /v1/canary`. `POST /v1/canary/promote` and `POST /v1/canary/abort` take no body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// The share of new connections: `5%`.
    pub weight: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The working folder; absent: that of `run`.
    #[serde(default)]
    pub cwd: Option<std::path::PathBuf>,
}

/// `POST /v1/workers/{id}/get`: one HTTP/1.1 GET to that worker alone. An answer with the header [`WORKER_HEADER`](super::WORKER_HEADER) is the worker's own,
/// passed on unchanged. An answer without it is the controller's [`Reply`](super::Reply), which says why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRequest {
    /// The path with an optional query: `/debug?x=1`.
    pub path: String,
    /// The worker's address to use; absent: the first.
    #[serde(default)]
    pub addr: Option<std::net::SocketAddr>,
    /// Total timeout in milliseconds; absent: 10,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/workers/{id}/send` and `POST /v1/send` (to all running workers): a message over the Node IPC channel, at most 16 MiB.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Any JSON.
    pub message: Box<RawValue>,
    /// If given, each worker gets PM2's packet: `{"id":ID,"type":"process:msg","topic":TOPIC,"data":MESSAGE}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// `POST /v1/stop`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopRequest {
    /// Time that workers have before they are killed, in milliseconds; absent: `--drain-timeout`.
    pub timeout_ms: Option<u64>,
}

/// `PUT /v1/spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecRequest {
    /// The new specification.
    pub spec: AppSpec,
    /// Whether to only report what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether the new instances may listen on another address than the old ones, even if the specification doesn't show it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_address: bool,
}
