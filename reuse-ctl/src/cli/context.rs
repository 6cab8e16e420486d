//! What every verb is given, and what some need.

use super::terminal::Terminal;
use crate::base::Failure;

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// `--app` or `REUSE_APP`.
    pub(crate) app: Option<String>,
    /// `--json`.
    pub(crate) json: bool,
    /// Where the output goes.
    pub(crate) terminal: Terminal,
}

/// Steering, cgroups and the users of workers need root.
pub(crate) fn require_root(verb: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::failed(
        format!("`{verb}` needs root: it loads eBPF programs and makes cgroups"),
        format!("`sudo reuse-ctl {verb} …`"),
    ))
}
