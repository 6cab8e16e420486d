//! What the task does about [`all_failed`](crate::supervisor::all_failed).

use crate::supervisor::all_failed::*;
use crate::supervisor::task::Task;
use reuse_machine::{View, count};
use std::time::Instant;

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
        Some(all_have_failed(reason, self.last_failure.as_ref()))
    }
}
