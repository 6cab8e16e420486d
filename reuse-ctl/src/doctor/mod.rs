//! Checks what works on this machine. Every feature is *tried*, in a scratch cgroup with a child process, on loopback, with the same
//! programs that `run` uses. Everything created for a check is removed afterwards, also if the check fails.
//!
//! The texts for each feature are in `feature`, checks of the machine in `machine` and `network`. The programs are tried in `steering` and
//! `trial`. [`render`] is pure.

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

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// The feature was tried and works.
    Works,
    /// The feature does not work and `run` needs it, or it could not be tried.
    Missing,
    /// The feature does not work, and `run` works without it, though less well.
    Warning,
}

/// The result of checking one feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The feature, in a word or two.
    pub name: &'static str,
    /// Whether it works.
    pub outcome: CheckOutcome,
    /// What was observed, in one line.
    pub detail: String,
    /// What does not work without it.
    pub lost: &'static str,
    /// How to get it, in one line. Empty if another missing feature is the only obstacle.
    pub remedy: String,
}

/// Checks everything. This takes some tenths of a second, most of it in the kernel's verifier. `ports` are the intended service ports.
///
/// Needs a tokio runtime with I/O and time. The checks see the cgroups, mounts and network of the calling thread.
pub async fn examine(ports: &[u16]) -> Vec<Check> {
    let mut checks: Vec<Check> = REQUIRED.iter().map(|probe| probe()).collect();
    checks.push(machine::btf());
    checks.push(machine::limits());
    checks.extend(steering::examine().await);
    checks.extend(network::examine(ports));
    checks
}

/// The checks that `run` makes before it starts anything, in about a millisecond: root, the kernel version, cgroup v2, the bpf system call,
/// and a BPF file system, which is mounted if necessary.
///
/// # Errors
/// The first failed check: its `detail` is the error, its `remedy` what to do next.
pub fn required() -> Result<(), Check> {
    REQUIRED
        .iter()
        .map(|probe| probe())
        .find(|check| check.outcome == CheckOutcome::Missing)
        .map_or(Ok(()), Err)
}

/// Whether `run` has everything it needs. Decides the exit code of `doctor`.
pub fn is_fit(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != CheckOutcome::Missing)
}

/// In order: each check makes sense only if those before it passed.
const REQUIRED: [fn() -> Check; 5] = [
    machine::root,
    machine::kernel,
    machine::cgroup,
    machine::bpf,
    machine::bpffs,
];
