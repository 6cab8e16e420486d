//! What every verb gets, and what some of them require.

use super::terminal::Terminal;
use crate::base::Failure;

/// The options and the terminal that every verb gets.
#[derive(Debug)]
pub(crate) struct Context {
    /// `--app` or `REUSE_APP`.
    pub(crate) app: Option<String>,
    /// `--json`.
    pub(crate) json: bool,
    /// What is known about the output.
    pub(crate) terminal: Terminal,
}

/// Fails unless run as root, which steering, cgroups and the users of workers require.
pub(crate) fn require_root(verb: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::failed(
        format!("`{verb}` needs root: it loads eBPF programs and makes cgroups"),
        format!("`sudo reuse-ctl {verb} …`"),
    ))
}
