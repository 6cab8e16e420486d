//! `cargo xtask demo`: from a fresh checkout to `reuse-ctl demo`.

use crate::machine;
use crate::run::{Workspace, exec, run, step};
use crate::test::release_build;
use anyhow::Result;
use std::ffi::OsString;

/// What `reuse-ctl demo` is called with.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to `reuse-ctl demo`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds as the person who calls, then becomes the demo, as root.
///
/// # Errors
/// When the build or the mount fails, or there is neither root nor sudo; else this does not return.
pub(crate) fn perform(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    step("building reuse-ctl");
    run(&mut release_build(workspace, "reuse-ctl"))?;
    machine::mount_bpf_filesystem()?;
    let controller = workspace.root.join("target/release/reuse-ctl");
    // Its exit code becomes ours, and Ctrl-C reaches nothing that would end before it has cleaned up.
    exec(
        machine::as_root(&controller.to_string_lossy())?
            .arg("demo")
            .args(&arguments.arguments),
    )
}
