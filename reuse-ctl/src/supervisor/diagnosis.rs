//! Explains why a worker does not serve.

use super::{
    listener_owners::{taken_by, unix_listener},
    live::Live,
    placement::Placement,
    template::Template,
};
use crate::{
    base::{Failure, InstanceId, OutputOf, Text, Verb, WorkerState},
    group::diag::Diag,
    process::logs::{self, Range},
};
use reuse_common::notice::Notice;
use reuse_machine::{View, interface::Refusal};
use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

/// Number of a failed worker's output lines that are shown. Node prints ten to twenty lines for an uncaught error, with the message above
/// the stack.
const OUTPUT_LINES: usize = 20;

/// How many of these come from standard error, if the worker shares its log files with another instance.
const COMPLAINT_LINES: usize = 15;

/// Number of failures that are remembered after their instance is gone, for answers that are still to be given.
const REMEMBERED: usize = 64;

/// What was wrong with failed instances.
#[derive(Debug, Default)]
pub(crate) struct Diagnoses {
    known: HashMap<InstanceId, Diagnosis>,
    order: VecDeque<InstanceId>,
    last: Option<(String, LastOutput)>,
}

#[derive(Debug, Clone, Default)]
struct Diagnosis {
    problem: Option<String>,
    output: LastOutput,
    /// Another possible cause or remedy, for the user.
    advice: Option<Text>,
}

/// The advice for a worker that listens on another address than before, when no option fixes the address.
fn elsewhere() -> Text {
    "if that is intended, use "
        + Verb::Reload.with("--new-address")
        + " or `apply --new-address`; the old address is served until the end"
}

/// The last lines written during the life of a failed worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastOutput {
    pub(crate) lines: Vec<String>,
    /// Who wrote them; `None`: the worker.
    pub(crate) of: Option<OutputOf>,
}

impl Diagnoses {
    /// Finds out, while it can still be seen, why an instance that is being ended, or has just ended, was not ready.
    pub(crate) fn diagnose(&mut self, id: InstanceId, placement: &Placement<'_>, diag: &mut Diag) {
        let Some(live) = placement.live.get(&id) else { return };
        if live.cgroup.went_beyond_memory() {
            // Of a worker that served, too: it shows as a signal that nobody here has sent.
            return self.note(id, "it went beyond --memory-limit".to_owned());
        }
        if live.was_ready || self.known.get(&id).is_some_and(|failure| failure.problem.is_some()) {
            return;
        }
        let problem = match live.problem.clone() {
            Some(known) => Some(known + &instead_of_inherited(live, placement.template, diag)),
            None => visible_problem(id, live, placement, diag),
        };
        let output = last_output(id, placement.live);
        self.last = Some((problem.clone().unwrap_or_default(), output.clone()));
        let advice = listens_elsewhere(id, live, placement).then(elsewhere);
        let diagnosis = Diagnosis {
            problem,
            output,
            advice,
        };
        self.remember(id, diagnosis);
    }

    /// Of one that was ready and has ended without having been told to: nothing that can be seen of it says more than what it wrote.
    pub(crate) fn keep_last_output(&mut self, id: InstanceId, live: &HashMap<InstanceId, Live>, view: &View) {
        let was_ready = live.get(&id).is_some_and(|live| live.was_ready);
        if !was_ready || self.known.contains_key(&id) {
            return;
        }
        let mut instances = view.slots.iter().flat_map(|slot| &slot.instances);
        if instances.any(|instance| instance.id == id && instance.state != WorkerState::Stopping) {
            let output = last_output(id, live);
            let diagnosis = Diagnosis {
                problem: None,
                advice: None,
                output,
            };
            self.remember(id, diagnosis);
        }
    }

    /// It has failed for a reason that is known already.
    pub(crate) fn note(&mut self, id: InstanceId, problem: String) {
        self.last = Some((problem.clone(), LastOutput::default()));
        self.remember(
            id,
            Diagnosis {
                problem: Some(problem),
                output: LastOutput::default(),
                advice: None,
            },
        );
    }

    /// What is known to have been wrong with an instance that failed.
    pub(crate) fn problem_of(&self, id: InstanceId) -> Option<&str> {
        self.known.get(&id)?.problem.as_deref()
    }

    /// The failure that a refusal of the machine is to its users: with what is known of the instance that failed.
    pub(crate) fn explain(&self, refusal: Refusal) -> Failure {
        let failure = refusal.culprit.and_then(|culprit| self.known.get(&culprit));
        let problem = failure.and_then(|failure| failure.problem.as_ref());
        let advice = failure.and_then(|failure| failure.advice.clone());
        let output = failure.map(|failure| failure.output.clone()).unwrap_or_default();
        let error = match problem {
            Some(problem) => format!("{}: {problem}", refusal.error),
            None => refusal.error,
        };
        let hint = match advice {
            Some(advice) => advice + "; " + refusal.hint,
            None => refusal.hint,
        };
        Failure {
            workers: refusal.slots.iter().map(|slot| slot.0).collect(),
            output: output.lines,
            output_of: output.of,
            ..Failure::new(refusal.kind, error, hint)
        }
    }

    /// The last reason why a worker failed, and what it had written: what `run` ends with when all have.
    pub(crate) fn last(&self) -> Option<&(String, LastOutput)> {
        self.last.as_ref()
    }

    /// A worker is ready: whatever was wrong with an earlier one explains nothing from now on.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    fn remember(&mut self, id: InstanceId, diagnosis: Diagnosis) {
        if self.known.insert(id, diagnosis).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The program that uses the address which a worker wanted to bind.
fn last_output(id: InstanceId, all: &HashMap<InstanceId, Live>) -> LastOutput {
    let Some(live) = all.get(&id) else {
        return LastOutput::default();
    };
    let is_shared = all.iter().any(|(other, at)| *other != id && at.slot == live.slot);
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

/// Whether all that it lacks are addresses that may change, and it has others instead.
fn listens_elsewhere(id: InstanceId, live: &Live, placement: &Placement<'_>) -> bool {
    let lost = placement.lost(id);
    let served = placement.groups.served_by(live.row);
    !lost.is_empty() && lost.len() == placement.missing(id).len() && served.len() >= lost.len()
}

/// What a server that ignores its inherited listeners does instead, as far as it can be seen.
fn instead_of_inherited(live: &Live, template: &Template, diag: &mut Diag) -> String {
    let Ok(listeners) = diag.listeners() else {
        return String::new();
    };
    let own = listeners
        .iter()
        .filter(|listener| live.has_made(listener))
        .filter(|listener| !template.listen.contains(&listener.addr))
        .map(|listener| listener.addr.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if own.is_empty() || template.listen.is_empty() {
        return String::new();
    }
    format!("; it opened {own} instead (Bun's HTTP servers do that: start those without --listen)")
}

fn visible_problem(id: InstanceId, live: &Live, placement: &Placement<'_>, diag: &mut Diag) -> Option<String> {
    let listeners = diag.listeners().ok()?;
    let pids = live.pids();
    if pids.is_empty() {
        // It has ended: did somebody else have its port?
        return live.binds.iter().find_map(|bind| {
            taken_by(
                *bind,
                &listeners,
                &placement.groups.addresses(),
                placement.template.identity.uid,
            )
        });
    }
    let its_own: Vec<SocketAddr> = listeners
        .iter()
        .filter(|listener| live.has_made(listener))
        .map(|listener| listener.addr)
        .collect();
    let wanted = placement.missing(id);
    let wanted = if wanted.is_empty() {
        String::new()
    } else {
        format!(", but not on {}", wanted.join(", "))
    };
    if let Some(unannounced) = placement.unannounced(id) {
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
/// The address of a notice.
pub(crate) fn address_of(notice: &Notice) -> SocketAddr {
    let port = u16::try_from(notice.port).unwrap_or(0);
    if notice.family == 2 {
        return (Ipv4Addr::from(notice.address[3].to_ne_bytes()), port).into();
    }
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(notice.address) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    (Ipv6Addr::from(octets), port).into()
}
