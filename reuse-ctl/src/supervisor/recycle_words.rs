//! Texts about the replacement of healthy workers.

use std::fmt;

use super::recycle_rules::{Occasion, Replacement, TooMuch};
use crate::base::{durations::whole_seconds, sizes::bytes_rounded_up};

impl Replacement {
    /// The subject of the message if the replacement has failed.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::One {
                why: TooMuch::Memory { .. },
                ..
            } => "the replacement for --max-memory",
            Self::One {
                why: TooMuch::Age { .. },
                ..
            } => "the replacement for --max-age",
            Self::One {
                why: TooMuch::Connections { .. },
                ..
            } => "the replacement for --max-connections",
            Self::All(_) => "the replacement of all workers",
        }
    }
}

impl fmt::Display for TooMuch {
    /// Follows a worker's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Memory { bytes, limit } => {
                let (bytes, limit) = (bytes_rounded_up(bytes), bytes_rounded_up(limit));
                write!(f, "uses {bytes}, more than --max-memory {limit}")
            }
            Self::Age { ms, limit_ms } => {
                let (age, limit) = (whole_seconds(ms), whole_seconds(limit_ms));
                write!(f, "is {age} old, more than its --max-age of {limit}")
            }
            Self::Connections { count, limit } => {
                write!(
                    f,
                    "has accepted {count} connections, more than its --max-connections of {limit}"
                )
            }
        }
    }
}

impl fmt::Display for Replacement {
    /// What is done, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One { slot, why, .. } => write!(f, "worker {slot} {why}: it is replaced"),
            Self::All(Occasion::Cron) => {
                f.write_str("it is time (--cron): all workers are replaced, --surge at a time")
            }
            Self::All(Occasion::Changed(what)) => write!(f, "{what}: all workers are replaced, --surge at a time"),
        }
    }
}

/// Adds "; the last line of its output: …", because no answer will show more of it.
pub(crate) fn with_last_line(error: String, output: &[String]) -> String {
    match output.iter().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("{error}; the last line of its output: {}", line.trim()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_follows_the_error() {
        let lines =
            |lines: &[&str]| with_last_line("no".into(), &lines.iter().map(|&line| line.into()).collect::<Vec<_>>());
        assert_eq!(lines(&[]), "no");
        assert_eq!(lines(&["", " "]), "no");
        assert_eq!(
            lines(&["first", "no database \t", ""]),
            "no; the last line of its output: no database"
        );
    }

    #[test]
    fn words_are_those_of_the_options() {
        let age = TooMuch::Age {
            ms: 3_700_000,
            limit_ms: 3_600_000,
        };
        assert_eq!(age.to_string(), "is 1h 1m 40s old, more than its --max-age of 1h");
        let connections = TooMuch::Connections { count: 11, limit: 10 };
        assert_eq!(
            connections.to_string(),
            "has accepted 11 connections, more than its --max-connections of 10"
        );
    }
}
