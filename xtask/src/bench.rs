//! `cargo xtask bench`: what steering costs and how it compares, measured on this machine.

mod peers;

use crate::machine;
use crate::run::{Workspace, output_of, run, step};
use crate::test::release_build;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the reports of whole runs go.
const REPORTS: &str = "docs/benchmarks";

/// Where those of `--quick` go.
const QUICK_REPORTS: &str = "target/bench-quick";

/// What to measure, and how thoroughly.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One scenario instead of all.
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// Shows in a few minutes whether everything works; the reports go to target/bench-quick.
    #[arg(long)]
    quick: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Connection rate and nanoseconds per selection, against plain SO_REUSEPORT.
    Steering,
    /// Latency with short and long requests, against everything else that people use.
    Mixed,
    /// One of four workers stopped.
    Hung,
    /// All workers replaced under load.
    Reload,
    /// The controller when nothing happens.
    Idle,
}

impl Scenario {
    /// The name of its command in the bench program, and of its report.
    fn name(self) -> &'static str {
        match self {
            Self::Steering => "steering",
            Self::Mixed => "mixed",
            Self::Hung => "hung",
            Self::Reload => "reload",
            Self::Idle => "idle",
        }
    }

    fn has_peers(self) -> bool {
        match self {
            Self::Mixed | Self::Hung | Self::Reload => true,
            Self::Steering | Self::Idle => false,
        }
    }

    fn runs_node(self) -> bool {
        self.has_peers() || self == Self::Steering
    }
}

/// Builds, installs what is compared with, measures, writes the reports and their index.
///
/// # Errors
/// When the build or a measurement fails; a target that is not reached is no failure. The other scenarios are measured all the same.
pub(crate) fn perform(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require_root("bench")?;
    machine::mount_bpf_filesystem()?;
    let result = build_and_measure(workspace, arguments);
    machine::give_back(workspace)?;
    result
}

fn build_and_measure(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let scenarios = match arguments.scenario {
        Some(scenario) => vec![scenario],
        None => Scenario::value_variants().to_vec(),
    };
    if scenarios.iter().any(|scenario| scenario.runs_node()) {
        machine::install_programs()?;
        machine::install_runtimes(workspace)?;
    }
    if scenarios.iter().any(|scenario| scenario.has_peers()) {
        peers::install(workspace)?;
    }
    step("building reuse-ctl and the benches");
    run(&mut release_build(workspace, "reuse-ctl"))?;
    run(release_build(workspace, "reuse-tests").args(["--bin", "reuse-bench"]))?;

    let folder = workspace
        .root
        .join(if arguments.quick { QUICK_REPORTS } else { REPORTS });
    fs::create_dir_all(&folder).with_context(|| format!("mkdir {}", folder.display()))?;
    let mut failed = Vec::new();
    for scenario in scenarios {
        step(scenario.name());
        if let Err(error) = measure(workspace, scenario, arguments.quick, &folder) {
            eprintln!("error: {}: {error:#}", scenario.name());
            failed.push(scenario.name());
        }
    }
    run(bench_program(workspace).arg("index").arg("--output").arg(&folder))?;
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

fn measure(workspace: &Workspace, scenario: Scenario, quick: bool, folder: &Path) -> Result<()> {
    let mut command = bench_program(workspace);
    command
        .arg(scenario.name())
        .arg("--output")
        .arg(folder)
        .args(["--revision", &revision(workspace)])
        .args(["--date", &output_of(Command::new("date").args(["-u", "+%Y-%m-%d"]))?]);
    if scenario == Scenario::Steering {
        let samples = workspace.root.join("target/selection.json");
        fs::write(&samples, selection_samples(workspace, quick)?)
            .with_context(|| format!("write {}", samples.display()))?;
        command.arg("--selection").arg(samples);
    }
    if quick {
        command.arg("--quick");
    }
    run(&mut command)
}

/// What the bench `selection` of `reuse-ctl` prints: nanoseconds of the program itself.
fn selection_samples(workspace: &Workspace, quick: bool) -> Result<String> {
    let bench = ["bench", "--locked", "--package", "reuse-ctl", "--bench", "selection"];
    run(workspace.rust_tool("cargo").args(bench).arg("--no-run"))?;
    let (rounds, connections) = if quick { ("7", "300") } else { ("25", "700") };
    output_of(
        workspace
            .rust_tool("cargo")
            .args(bench)
            .args(["--", "--rounds", rounds, "--connections", connections]),
    )
}

fn bench_program(workspace: &Workspace) -> Command {
    let release = workspace.root.join("target/release");
    let mut command = Command::new(release.join("reuse-bench"));
    command.env("REUSE_CTL_BIN", release.join("reuse-ctl"));
    command
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
