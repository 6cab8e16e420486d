//! `cargo xtask simulate`: the decisions of `reuse-common` in a simulation beyond one machine's size.

use crate::run::{Workspace, run, step};
use crate::test::release_build;
use anyhow::Result;
use std::process::Command;

/// Where the report of a whole run goes.
const REPORT: &str = "docs/simulation";

/// What to simulate, and how thoroughly.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this one, and the report is printed only; `help` lists them.
    scenario: Option<String>,

    /// Fewer connections and seeds, and the report is printed only.
    #[arg(long)]
    quick: bool,
}

/// Builds, simulates, prints the report, and writes it if it is whole.
///
/// # Errors
/// When the build or the simulation fails.
pub(crate) fn perform(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    step("building the simulator");
    run(release_build(workspace, "reuse-tests").args(["--bin", "reuse-simulate"]))?;
    step("simulating");
    let mut simulate = Command::new(workspace.root.join("target/release/reuse-simulate"));
    match arguments.scenario.as_deref() {
        Some("help") => {
            simulate.arg("--help");
        }
        Some(scenario) => {
            simulate.arg(scenario);
        }
        None => {}
    }
    if arguments.quick {
        simulate.arg("--quick");
    } else if arguments.scenario.is_none() {
        simulate.arg("--output").arg(workspace.root.join(REPORT));
    }
    run(&mut simulate)
}
