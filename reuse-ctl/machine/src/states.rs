//! The states of workers that users see, and the kinds of failure.

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FaultKind {
    /// Its queue is not empty and it accepts nothing.
    Hung,
    /// It fails its health checks.
    Unhealthy,
}

/// The states that `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WorkerState {
    /// Spawned, not ready yet.
    Starting,
    /// Ready. It is published, unless it is withdrawn for a fault.
    Active,
    /// Withdrawn; connections remain.
    Draining,
    /// Withdrawn; nothing is left on it.
    Drained,
    /// Being stopped.
    Stopping,
    /// Crashed; a new instance is about to be spawned.
    BackingOff,
    /// Crashed too often; left alone until `restart`.
    Failed,
    /// Ended, and not to be replaced.
    Exited,
}

/// The four ways to fail, as exit codes and as HTTP statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ErrorKind {
    /// The action was tried and failed. Exit 1, HTTP 500 (409 would promise that a retry helps).
    Failed,
    /// The request makes no sense. Exit 2, HTTP 400.
    Usage,
    /// No such app or worker. Exit 3, HTTP 404.
    NotFound,
    /// A deadline has passed. Exit 4, HTTP 504.
    Timeout,
}

impl ErrorKind {
    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Timeout => 4,
        }
    }

    /// The HTTP status of the answer.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Failed => 500,
            Self::Usage => 400,
            Self::NotFound => 404,
            Self::Timeout => 504,
        }
    }
}
