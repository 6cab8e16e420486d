//! `cargo xtask ci`: what must pass before a change goes in. All stages run, also after one has failed.

use crate::run::{Workspace, output_of, run, step};
use crate::{build_ebpf, machine, test};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::{Duration, Instant};

/// A stage that came to its end.
struct Finished {
    name: &'static str,
    took: Duration,
    result: Result<()>,
}

/// Runs the stages and closes with a table of them.
///
/// # Errors
/// When a stage failed; before the first stage, when this machine can't run them.
pub(crate) fn perform(workspace: &Workspace) -> Result<()> {
    machine::require_root("ci")?;
    require_components(workspace)?;
    let stages = [
        stage("fmt", || run(cargo(workspace).args(["fmt", "--all", "--check"]))),
        stage("clippy", || clippy(workspace)),
        stage("deny", || deny(workspace)),
        stage("build-ebpf --check", || {
            build_ebpf::perform(workspace, &build_ebpf::Arguments { check: true })
        }),
        stage("test", || test::perform(workspace, &test::Arguments::default())),
    ];
    step("stages");
    for Finished { name, took, result } in &stages {
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        eprintln!("    {name:<20} {verdict:<6} {:>6.1} s", took.as_secs_f64());
    }
    let failed: Vec<&str> = stages
        .iter()
        .filter(|stage| stage.result.is_err())
        .map(|stage| stage.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn stage(name: &'static str, work: impl FnOnce() -> Result<()>) -> Finished {
    step(&format!("stage {name}"));
    let started = Instant::now();
    let result = work();
    let took = started.elapsed();
    if let Err(error) = &result {
        eprintln!("error: {name}: {error:#}");
    }
    step(&format!("stage {name} took {:.1} s", took.as_secs_f64()));
    Finished { name, took, result }
}

fn clippy(workspace: &Workspace) -> Result<()> {
    run(cargo(workspace)
        // reuse-ebpf compiles for the BPF target only.
        .args([
            "clippy",
            "--locked",
            "--workspace",
            "--exclude",
            "reuse-ebpf",
            "--all-targets",
        ])
        .args(["--", "-D", "warnings"]))
}

/// Licences and sources of the dependencies, where cargo-deny is installed. Its advisories are left out: they change
/// without any change of ours.
fn deny(workspace: &Workspace) -> Result<()> {
    if output_of(cargo(workspace).args(["deny", "--version"])).is_err() {
        step("deny: not run, cargo-deny is not installed (`cargo install --locked cargo-deny` brings it)");
        return Ok(());
    }
    run(cargo(workspace).args(["deny", "--locked", "check", "bans", "licenses", "sources"]))
}

fn require_components(workspace: &Workspace) -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let subcommand = component.trim_start_matches("rust");
        output_of(cargo(workspace).args([subcommand, "--version"]))
            .with_context(|| format!("the toolchain lacks {component}: run `rustup component add {component}`"))?;
    }
    Ok(())
}

fn cargo(workspace: &Workspace) -> Command {
    workspace.rust_tool("cargo")
}
