//! The project's chores, by name: `cargo xtask TASK`. CI calls the same names, so what passes here passes there.

mod build_ebpf;
mod run;
mod rust_src;
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
    }
}
