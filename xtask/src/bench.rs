//! `cargo xtask bench`: what steering costs, measured on this machine.

use crate::machine;
use crate::run::{Workspace, output_of, run, step};
use crate::test::release_build;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the report of a whole run goes.
const REPORT: &str = "docs/benchmarks/steering.md";

/// How thoroughly to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A minute instead of three, and the report is printed only.
    #[arg(long)]
    quick: bool,
}

/// Builds, measures, prints the report, and unless `--quick` writes it.
///
/// # Errors
/// When the build or a measurement fails: a lost connection or a wrong counter is a failure, a slow program is not.
pub(crate) fn perform(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require_root("bench")?;
    machine::mount_bpf_filesystem()?;
    let result = build_and_measure(workspace, arguments.quick);
    machine::give_back(workspace)?;
    result
}

fn build_and_measure(workspace: &Workspace, quick: bool) -> Result<()> {
    step("building reuse-ctl and the benches");
    run(&mut release_build(workspace))?;
    run(workspace.rust_tool("cargo").args([
        "build",
        "--locked",
        "--release",
        "--package",
        "reuse-tests",
        "--bin",
        "reuse-bench",
    ]))?;
    let selection_bench = ["bench", "--locked", "--package", "reuse-ctl", "--bench", "selection"];
    run(workspace.rust_tool("cargo").args(selection_bench).arg("--no-run"))?;

    step("nanoseconds per selection");
    let (rounds, connections) = if quick { ("7", "300") } else { ("25", "700") };
    let samples = output_of(workspace.rust_tool("cargo").args(selection_bench).args([
        "--",
        "--rounds",
        rounds,
        "--connections",
        connections,
    ]))?;
    let target = workspace.root.join("target");
    let samples_file = target.join("selection.json");
    fs::write(&samples_file, samples).with_context(|| format!("write {}", samples_file.display()))?;

    step("connection rates");
    let (pairs, round_ms) = if quick { ("15", "100") } else { ("100", "120") };
    let mut report = Command::new(target.join("release/reuse-bench"));
    report
        .arg("report")
        .arg("--selection")
        .arg(&samples_file)
        .args(["--pairs", pairs, "--round-ms", round_ms])
        .args(["--revision", &revision(workspace)])
        .args(["--date", &output_of(Command::new("date").args(["-u", "+%Y-%m-%d"]))?])
        .env("REUSE_CTL_BIN", target.join("release/reuse-ctl"));
    if !quick {
        let file = workspace.root.join(REPORT);
        let folder = file.parent().map(Path::to_owned).context("the report has a folder")?;
        fs::create_dir_all(&folder).with_context(|| format!("mkdir {}", folder.display()))?;
        report.arg("--output").arg(file);
    }
    run(&mut report)
}

/// The commit, and whether the tree differs from it; a checkout without git has none.
fn revision(workspace: &Workspace) -> String {
    output_of(
        Command::new("git")
            .args(["describe", "--always", "--dirty", "--abbrev=9"])
            .current_dir(&workspace.root),
    )
    .unwrap_or_else(|_| "unknown".to_owned())
}
