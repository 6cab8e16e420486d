//! What became of each request.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One request of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// When it was to be sent, after the start.
    pub(crate) at_us: u64,
    /// How much later than that the generator got to it. It is a part of the latency.
    pub(crate) late_us: u64,
    /// From when it was to be sent to the last byte of the answer, or to the failure.
    pub(crate) latency_us: u64,
    /// Its number in the plan's mix.
    pub(crate) class: usize,
    pub(crate) outcome: RequestOutcome,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum RequestOutcome {
    /// By this process.
    Answered(u32),
    /// No connection: nobody listens.
    Refused,
    /// The connection was reset before the answer was complete.
    Reset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// Nothing came within the plan's patience.
    TimedOut,
    /// Another status than 200, such as a proxy's 502.
    Status(u16),
    /// Something else, which the generator prints.
    Other,
}

impl RequestOutcome {
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Answered(_))
    }
}

impl fmt::Display for RequestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(_) => f.write_str("answered"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Other => f.write_str("other"),
        }
    }
}
