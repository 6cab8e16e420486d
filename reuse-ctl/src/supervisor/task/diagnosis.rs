//! What the task does about [`diagnosis`](crate::supervisor::diagnosis).

use std::{net::SocketAddr, path::PathBuf};

use crate::supervisor::diagnosis::*;
use crate::supervisor::task::Task;
use crate::{
    base::{InstanceId, OutputOf, Text, WorkerState},
    process::logs::{self, Range},
};

impl Task {
    /// Finds out, while it can still be seen, why an instance that is being ended, or has just ended, was not ready.
    pub(crate) fn diagnose(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        if live.cgroup.went_beyond_memory() {
            // Of a worker that served, too: it shows as a signal that nobody here has sent.
            return self.note_failure(id, "it went beyond --memory-limit".to_owned());
        }
        if live.was_ready
            || self
                .failures
                .known
                .get(&id)
                .is_some_and(|failure| failure.problem.is_some())
        {
            return;
        }
        let problem = match live.problem.clone() {
            Some(known) => Some(known + &self.instead_of_inherited(id)),
            None => self.visible_problem(id),
        };
        let output = self.last_output(id);
        self.last_failure = Some((problem.clone().unwrap_or_default(), output.clone()));
        let advice = self.listens_elsewhere(id).then(elsewhere);
        let failure = Failure {
            problem,
            output,
            advice,
        };
        self.failures.remember(id, failure);
    }

    /// Of one that was ready and has ended without having been told to: nothing that can be seen of it says more than what it wrote.
    pub(crate) fn keep_last_output(&mut self, id: InstanceId) {
        let was_ready = self.live.get(&id).is_some_and(|live| live.was_ready);
        if !was_ready || self.failures.known.contains_key(&id) {
            return;
        }
        let view = self.machine.view();
        let mut instances = view.slots.iter().flat_map(|slot| &slot.instances);
        if instances.any(|instance| instance.id == id && instance.state != WorkerState::Stopping) {
            let output = self.last_output(id);
            let failure = Failure {
                problem: None,
                advice: None,
                output,
            };
            self.failures.remember(id, failure);
        }
    }

    /// What was written to the instance's logs since it was started. Another instance of its slot that runs writes to the same files: whose
    /// a line is can't be told then, but one that chats on its standard output must not hide what the other complained of.
    fn last_output(&self, id: InstanceId) -> LastOutput {
        let Some(live) = self.live.get(&id) else {
            return LastOutput::default();
        };
        let is_shared = self.live.iter().any(|(other, at)| *other != id && at.slot == live.slot);
        let last = |parts: &[(&PathBuf, u64)], count| {
            let parts = parts.iter().map(|(log, start)| Range::behind(log, *start));
            let parts: Vec<Range> = parts.flatten().collect();
            logs::last_lines(&parts, count).unwrap_or_default()
        };
        let (out, err) = ((&live.log, live.log_start), (&live.err_log, live.err_log_start));
        if !is_shared {
            return LastOutput {
                lines: last(&[out, err], OUTPUT_LINES),
                of: None,
            };
        }
        let complaints = last(&[err], COMPLAINT_LINES);
        let mut lines = last(&[out], OUTPUT_LINES - complaints.len());
        lines.extend(complaints);
        LastOutput {
            of: (!lines.is_empty()).then_some(OutputOf::BothInstances),
            lines,
        }
    }

    /// The same for what is known already.
    pub(crate) fn note_failure(&mut self, id: InstanceId, problem: String) {
        self.last_failure = Some((problem.clone(), LastOutput::default()));
        self.failures.remember(
            id,
            Failure {
                problem: Some(problem),
                output: LastOutput::default(),
                advice: None,
            },
        );
    }

    /// The problem and the last output of an instance that failed.
    pub(crate) fn failure_of(&self, id: InstanceId) -> Option<(Option<String>, LastOutput)> {
        self.failures
            .known
            .get(&id)
            .map(|failure| (failure.problem.clone(), failure.output.clone()))
    }

    /// What else might have been meant by whoever started an instance that failed.
    pub(crate) fn advice_on(&self, id: InstanceId) -> Option<Text> {
        self.failures.known.get(&id)?.advice.clone()
    }

    /// Whether all that it lacks are addresses that may change, and it has others instead.
    fn listens_elsewhere(&self, id: InstanceId) -> bool {
        let (Some(live), lost) = (self.live.get(&id), self.lost(id)) else {
            return false;
        };
        let served = self.groups.served_by(live.row);
        !lost.is_empty() && lost.len() == self.missing(id).len() && served.len() >= lost.len()
    }

    /// What a server that ignores its inherited listeners does instead, as far as it can be seen.
    fn instead_of_inherited(&mut self, id: InstanceId) -> String {
        let (Ok(listeners), Some(live)) = (self.diag.listeners(), self.live.get(&id)) else {
            return String::new();
        };
        let own = listeners
            .iter()
            .filter(|listener| live.has_made(listener))
            .filter(|listener| !self.template.listen.contains(&listener.addr))
            .map(|listener| listener.addr.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        if own.is_empty() || self.template.listen.is_empty() {
            return String::new();
        }
        format!("; it opened {own} instead (Bun's HTTP servers do that: start those without --listen)")
    }

    fn visible_problem(&mut self, id: InstanceId) -> Option<String> {
        let listeners = self.diag.listeners().ok()?;
        let live = self.live.get(&id)?;
        let pids = live.pids();
        if pids.is_empty() {
            // It has ended: did somebody else have its port?
            return live
                .binds
                .iter()
                .find_map(|bind| taken_by(*bind, &listeners, &self.groups.addresses(), self.template.identity.uid));
        }
        let its_own: Vec<SocketAddr> = listeners
            .iter()
            .filter(|listener| live.has_made(listener))
            .map(|listener| listener.addr)
            .collect();
        let wanted = self.missing(id);
        let wanted = if wanted.is_empty() {
            String::new()
        } else {
            format!(", but not on {}", wanted.join(", "))
        };
        if let Some(unannounced) = self.unannounced(id) {
            return Some(unannounced);
        }
        if !its_own.is_empty() {
            let its_own: Vec<String> = its_own.iter().map(ToString::to_string).collect();
            return Some(format!("it listens on {}{wanted}", its_own.join(", ")));
        }
        Some(match unix_listener(&pids) {
            Some(path) => format!("it listens on the unix socket {path}, and on no TCP port"),
            None if wanted.is_empty() => {
                "it listens on no TCP port; if it serves no port, give --ready started (or ipc, notify)".into()
            }
            None => format!(
                "it listens on no TCP port{}",
                wanted.replacen(", but not", "; it should", 1)
            ),
        })
    }
}
