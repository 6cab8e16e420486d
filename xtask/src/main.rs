//! The project's chores, by name: `cargo xtask TASK`. CI calls the same names, so what passes here passes there.

mod bench;
mod build_ebpf;
mod ci;
mod demo;
mod guest_kernel;
mod machine;
mod outcome;
mod run;
mod rust_src;
mod simulate;
mod test;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};
use run::Workspace;
use std::process::ExitCode;

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Rebuild the BPF object from its Rust source, setting up the toolchain where it is missing.
    BuildEbpf(build_ebpf::Arguments),
    /// Run all tests on this machine, setting up what they need. Needs root.
    Test(test::Arguments),
    /// Build and run the demo, as root or through sudo.
    Demo(demo::Arguments),
    /// Measure what steering costs, and how it compares with what else people use. Needs root.
    Bench(bench::Arguments),
    /// Simulate the policies, the watch and their constants with up to 256 workers and a million connections.
    Simulate(simulate::Arguments),
    /// Formatting, lints, the committed BPF object, tests: what must pass before a change goes in. Needs root.
    Ci,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    let workspace = Workspace::locate()?;
    match task {
        Task::BuildEbpf(arguments) => build_ebpf::perform(&workspace, &arguments),
        Task::Test(arguments) => test::perform(&workspace, &arguments),
        Task::Demo(arguments) => demo::perform(&workspace, &arguments),
        Task::Bench(arguments) => bench::perform(&workspace, &arguments),
        Task::Simulate(arguments) => simulate::perform(&workspace, &arguments),
        Task::Ci => ci::perform(&workspace),
    }
}
