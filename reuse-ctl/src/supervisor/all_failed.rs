//! An app that keeps running although every worker has failed: what it reports, and what becomes of its clients.
//!
//! New connections wait, or are refused, as `--when-empty` says. But no worker is started without a request, so clients would wait in vain:
//! after [`PATIENCE`] the waiting connections are reset and new ones are refused, until a worker is started again.

use super::diagnosis::LastOutput;
use crate::group::{GroupError, Groups};
use reuse_machine::{View, count};
use std::time::{Duration, Instant};

/// How long clients wait for a user to start the app again.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Called when workers may have changed.
    pub(crate) fn follow(&mut self, all_failed: bool, now: Instant, groups: &mut Groups) {
        let before = *self;
        *self = before.after(all_failed, now);
        if before == Self::GivenUp && *self != before {
            groups.resume();
        }
    }

    /// Called now and then while nothing is left of any instance: until then its connections may still move. Clients that have waited for too
    /// long are sent away; returns what people are told of that.
    ///
    /// # Errors
    /// They can't be.
    pub(crate) fn give_up(&mut self, now: Instant, groups: &mut Groups) -> Result<Option<String>, GroupError> {
        if !self.is_hopeless(now) {
            return Ok(None);
        }
        *self = Self::GivenUp;
        let waited = match groups.give_up()? {
            0 => String::new(),
            reset => {
                let number = usize::try_from(reset).unwrap_or(usize::MAX);
                let were = if number == 1 { "was" } else { "were" };
                format!("; {} that waited {were} reset", count(number, "connection"))
            }
        };
        Ok(Some(format!(
            "every worker has failed, and nobody has started them again for {} s: new connections are refused{waited}",
            PATIENCE.as_secs()
        )))
    }

    /// What it is now, by whether all workers have failed.
    fn after(self, all_failed: bool, now: Instant) -> Self {
        match (self, all_failed) {
            (_, false) => Self::Fine,
            (Self::Fine, true) => Self::AllFailed { since: now },
            (Self::AllFailed { .. } | Self::GivenUp, true) => self,
        }
    }

    /// Whether clients have waited for long enough.
    fn is_hopeless(self, now: Instant) -> bool {
        match self {
            Self::AllFailed { since } => now.saturating_duration_since(since) >= PATIENCE,
            Self::Fine | Self::GivenUp => false,
        }
    }
}

/// What `status` says at its top when nobody serves, or will by himself.
pub(crate) fn problem(view: &View, last_failure: Option<&(String, LastOutput)>) -> Option<String> {
    if !view.all_failed {
        return None;
    }
    let reason = view.slots.iter().rev().find_map(|slot| slot.reason.as_deref());
    Some(all_have_failed(reason, last_failure))
}

/// "every worker has failed: exited with code 1 before it was ready: 0.0.0.0:80 is in use by process 7 (nginx)".
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
