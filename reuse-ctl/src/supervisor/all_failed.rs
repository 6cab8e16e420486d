//! An app that keeps running although every worker has failed: what it reports, and what becomes of its clients.
//!
//! New connections wait, or are refused, as `--when-empty` says. No worker is started without a request, though, so waiting for ever would serve no
//! client: after [`PATIENCE`] the waiting connections are reset, and new ones are refused, until a worker is started again.

use std::time::{Duration, Instant};

use super::{diagnosis::LastOutput, task::Task};
use crate::base::hints::for_app;
use reuse_machine::{View, count};

/// So long clients wait for a person to start the app again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether anybody serves, or may do so without a person's help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Outlook {
    #[default]
    Fine,
    /// Every worker has failed; clients still wait.
    AllFailed { since: Instant },
    /// The same, and clients are refused.
    GivenUp,
}

impl Outlook {
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

impl Task {
    /// Called when workers may have changed.
    pub(crate) fn look_out(&mut self, view: &View) {
        let before = self.outlook;
        self.outlook = before.after(view.all_failed, Instant::now());
        if before == Outlook::GivenUp && self.outlook != before {
            self.groups.resume();
        }
    }

    /// Called now and then: clients that have waited for too long are sent away.
    pub(crate) fn give_up_clients(&mut self) {
        // While something is left of an instance its connections may still move.
        if !self.outlook.is_hopeless(Instant::now()) || !self.live.is_empty() {
            return;
        }
        self.outlook = Outlook::GivenUp;
        let reset = match self.groups.give_up() {
            Ok(reset) => reset,
            Err(error) => return self.console.warn(&error.to_string()),
        };
        let waited = match reset {
            0 => String::new(),
            _ => {
                let number = usize::try_from(reset).unwrap_or(usize::MAX);
                let were = if number == 1 { "was" } else { "were" };
                format!("; {} that waited {were} reset", count(number, "connection"))
            }
        };
        self.warn(
            None,
            format!(
                "every worker has failed, and nobody has started them again for {} s: new connections are refused{waited}",
                PATIENCE.as_secs()
            ),
        );
    }

    /// What `status` says at its top when nobody serves, or will by himself.
    pub(crate) fn problem(&self, view: &View) -> Option<String> {
        if !view.all_failed {
            return None;
        }
        let reason = view.slots.iter().rev().find_map(|slot| slot.reason.as_deref());
        Some(for_app(
            &all_have_failed(reason, self.last_failure.as_ref()),
            &self.template.app,
        ))
    }
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
