//! What works on this machine: every feature is probed by *trying* it, in a scratch cgroup with a child process, on loopback, with
//! the very programs that `run` uses. What is made for that is removed again, also when a probe fails.
//!
//! The words about each feature are in `feature`, questions to the machine in `machine` and `network`, the programs are tried in `steering` and
//! `trial`; [`render`] is pure.

mod feature;
mod machine;
mod network;
mod render;
mod resident;
mod scratch;
mod steering;
mod trial;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use render::{render, to_json};

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It was tried, and works.
    Works,
    /// It does not work, and `run` needs it; or it could not even be tried.
    Missing,
    /// `run` works without it, but not as well as it could.
    Warning,
}

/// One feature, and what trying it showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The feature, in a word or two.
    pub name: &'static str,
    /// Whether it works.
    pub outcome: CheckOutcome,
    /// What was seen, on one line.
    pub detail: String,
    /// What does not work without it.
    pub lost: &'static str,
    /// How to get it, on one line. Empty where only another feature, which is missing too, stands in the way.
    pub remedy: String,
}

/// Tries everything; takes some tenths of a second, most of them in the kernel's verifier. `ports` are the service ports that a server is meant to have.
///
/// Needs a tokio runtime with I/O and time. Probes see the cgroups, mounts and network of the calling thread.
pub async fn examine(ports: &[u16]) -> Vec<Check> {
    let mut checks: Vec<Check> = REQUIRED.iter().map(|probe| probe()).collect();
    checks.push(machine::btf());
    checks.push(machine::limits());
    checks.extend(steering::examine().await);
    checks.extend(network::examine(ports));
    checks
}

/// What `run` asks before it starts anything, in about a millisecond: root, the kernel's version, cgroup v2, the bpf system call, and a BPF file system,
/// which is mounted if it is not yet.
///
/// # Errors
/// The first one that is missing: its `detail` is the error, its `remedy` what to do next.
pub fn required() -> Result<(), Check> {
    REQUIRED
        .iter()
        .map(|probe| probe())
        .find(|check| check.outcome == CheckOutcome::Missing)
        .map_or(Ok(()), Err)
}

/// Whether `run` has all that it needs: the exit code of `doctor`.
pub fn is_fit(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != CheckOutcome::Missing)
}

/// In the order in which one makes sense only with those before it.
const REQUIRED: [fn() -> Check; 5] = [
    machine::root,
    machine::kernel,
    machine::cgroup,
    machine::bpf,
    machine::bpffs,
];
