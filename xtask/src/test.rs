//! `cargo xtask test`: all tests on this machine, after setting up what they need.

use crate::outcome::Outcome;
use crate::run::{Workspace, run, run_and_keep, step};
use crate::{guest_kernel, machine};
use anyhow::{Result, bail};
use std::process::Command;

/// Which tests to run.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose name contains this.
    filter: Option<String>,
}

/// Sets up, builds, runs everything, and closes with the results.
///
/// # Errors
/// When a test fails, but only after all have run; when the set-up or the build fails; when the filter fits no test.
pub(crate) fn perform(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require_root("test")?;
    machine::install_programs()?;
    guest_kernel::set_up(workspace)?;
    machine::install_runtimes(workspace)?;
    machine::mount_bpf_filesystem()?;
    let result = build_and_test(workspace, arguments.filter.as_deref());
    // Also after a failure: what was built is root's until then.
    machine::give_back(workspace)?;
    result
}

fn build_and_test(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    step("building reuse-ctl");
    run(&mut release_build(workspace, "reuse-ctl"))?;

    step("tests of the crates");
    let mut crates = cargo_test(workspace);
    crates
        .args(["--workspace", "--exclude", "reuse-ebpf", "--exclude", "reuse-tests"])
        .arg("--")
        .args(filter);
    let crates = run_and_keep(crates)?;

    step("scenarios on the real kernel with real servers");
    let mut scenarios = with_release(workspace);
    // They mostly wait, and those that load the machine wait for each other as well.
    scenarios
        .args(["--lib", "--bins", "--test=scenarios", "--", "--test-threads=8"])
        .args(filter);
    let scenarios = run_and_keep(scenarios)?;

    step("what is measured in time, one by one");
    let mut measured = with_release(workspace);
    measured
        .args(["--test=measured", "--", "--test-threads=1"])
        .args(filter);
    let measured = run_and_keep(measured)?;

    let all = [&crates, &scenarios, &measured];
    let outcomes = all.map(|kept| Outcome::read(kept.lines.iter().map(String::as_str)));
    step("results");
    for outcome in &outcomes {
        eprint!("{outcome}");
    }
    if !all.iter().all(|kept| kept.status.success()) {
        let failures: usize = outcomes.iter().map(|outcome| outcome.failures.len()).sum();
        bail!("{failures} tests failed or a test binary could not be built or run: see above");
    }
    match (filter, outcomes.iter().map(Outcome::ran).sum::<u64>()) {
        (Some(filter), 0) => bail!("no test has `{filter}` in its name"),
        (None, 0) => bail!("no test ran"),
        (_, ran) => step(&format!("{ran} tests passed")),
    }
    Ok(())
}

/// Builds what `package` has for `target/release`.
pub(crate) fn release_build(workspace: &Workspace, package: &str) -> Command {
    let mut cargo = workspace.rust_tool("cargo");
    cargo.args(["build", "--locked", "--release", "--package", package]);
    cargo
}

/// Tests of `reuse-tests` with the release binary.
fn with_release(workspace: &Workspace) -> Command {
    let mut cargo = cargo_test(workspace);
    cargo
        .args(["--package", "reuse-tests"])
        .env("REUSE_CTL_BIN", workspace.root.join("target/release/reuse-ctl"));
    cargo
}

fn cargo_test(workspace: &Workspace) -> Command {
    let mut cargo = workspace.rust_tool("cargo");
    cargo
        .args(["test", "--locked", "--no-fail-fast", "--color=never"])
        .env("PATH", machine::search_path());
    cargo
}
