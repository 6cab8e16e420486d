//! An app that keeps running although every worker has failed: what it reports, and what becomes of its clients.
//!
//! New connections wait, or are refused, as `--when-empty` says. But no worker is started without a request, so clients would wait in vain:
//! after [`PATIENCE`] the waiting connections are reset and new ones are refused, until a worker is started again.

use super::diagnosis::LastOutput;
use std::time::{Duration, Instant};

/// How long clients wait for a user to start the app again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether any worker serves, or may do so without a user's request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Outlook {
    #[default]
    Fine,
    /// Every worker has failed; clients still wait.
    AllFailed { since: Instant },
    /// Every worker has failed; clients are refused.
    GivenUp,
}

impl Outlook {
    /// The outlook at `now`, given whether all workers have failed.
    pub(crate) fn after(self, all_failed: bool, now: Instant) -> Self {
        match (self, all_failed) {
            (_, false) => Self::Fine,
            (Self::Fine, true) => Self::AllFailed { since: now },
            (Self::AllFailed { .. } | Self::GivenUp, true) => self,
        }
    }

    /// Whether clients have waited for long enough.
    pub(crate) fn is_hopeless(self, now: Instant) -> bool {
        match self {
            Self::AllFailed { since } => now.saturating_duration_since(since) >= PATIENCE,
            Self::Fine | Self::GivenUp => false,
        }
    }
}

/// The text for the user: "every worker has failed: exited with code 1 before it was ready: 0.0.0.0:80 is in use by process 7 (nginx)".
pub(crate) fn all_have_failed(reason: Option<&str>, last_failure: Option<&(String, LastOutput)>) -> String {
    let problem = last_failure.map(|(problem, _)| problem.as_str());
    let why = reason.into_iter().chain(problem.filter(|problem| !problem.is_empty()));
    let why: String = why.map(|words| format!(": {words}")).collect();
    format!("every worker has failed{why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wait_for_a_while_and_again_after_a_new_start() {
        let start = Instant::now();
        let fine = Outlook::Fine.after(false, start);
        assert_eq!(fine, Outlook::Fine);
        let failed = fine.after(true, start);
        assert!(!failed.is_hopeless(start));
        assert_eq!(
            failed.after(true, start + PATIENCE),
            failed,
            "it counts from the first moment"
        );
        assert!(failed.is_hopeless(start + PATIENCE));
        assert!(!Outlook::GivenUp.is_hopeless(start + 2 * PATIENCE), "once is enough");
        assert_eq!(Outlook::GivenUp.after(true, start), Outlook::GivenUp);
        assert_eq!(Outlook::GivenUp.after(false, start), Outlook::Fine);
    }

    #[test]
    fn the_reason_is_said_as_far_as_it_is_known() {
        let failure = |problem: &str| (problem.to_owned(), LastOutput::default());
        assert_eq!(all_have_failed(None, None), "every worker has failed");
        assert_eq!(
            all_have_failed(Some("exited with code 1"), Some(&failure(""))),
            "every worker has failed: exited with code 1"
        );
        assert_eq!(
            all_have_failed(Some("exited with code 1"), Some(&failure("port 80 is in use"))),
            "every worker has failed: exited with code 1: port 80 is in use"
        );
    }
}
