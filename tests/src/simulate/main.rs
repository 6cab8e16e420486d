//! The decisions of `reuse-common` beyond one machine's size: a discrete-event simulation of up to 256 workers and a million connections
//! in virtual time. `cargo xtask simulate` calls it.
//!
//! [`world`] is the simulation; [`kernel`] does what `select` and `track` do, with the very functions they call; [`watch`] and
//! [`controller`] are the controller; [`variant`] is what the constants would do if they were others. [`scenarios`] say what is simulated.
//! A run depends on its setup and seed alone, so the report is the same every time.

mod agenda;
mod batch;
mod controller;
mod kernel;
mod law;
mod lru;
mod outcome;
mod queue_watch;
mod report;
mod scenarios;
mod setup;
mod travels;
mod variant;
mod worker;
mod world;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};

use batch::Effort;
use report::Section;
use scenarios::Scenario;

/// Simulates, and prints the report
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this one
    scenario: Option<Scenario>,
    /// Fewer connections and seeds
    #[arg(long)]
    quick: bool,
    /// Where the report and its plots go, besides standard output
    #[arg(long)]
    output: Option<PathBuf>,
}

const INTRODUCTION: &str = include_str!("introduction.md");

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let effort = if arguments.quick { Effort::QUICK } else { Effort::WHOLE };
    let chosen = arguments.scenario.as_ref();
    let scenarios = chosen.map_or_else(|| Scenario::value_variants().to_vec(), |&scenario| vec![scenario]);
    let mut sections: Vec<Section> = Vec::new();
    for scenario in scenarios {
        let started = Instant::now();
        sections.push(scenario.run(effort));
        eprintln!("==> {scenario:?}: {:.1} s", started.elapsed().as_secs_f64());
    }
    let mut report = String::new();
    if chosen.is_none() {
        report.push_str(INTRODUCTION);
    }
    for section in &sections {
        report.push('\n');
        report.push_str(&section.text);
    }
    print!("{report}");
    if let Some(folder) = arguments.output {
        fs::create_dir_all(&folder).with_context(|| format!("mkdir {}", folder.display()))?;
        for section in &sections {
            section.write_plots(&folder)?;
        }
        let file = folder.join("README.md");
        fs::write(&file, &report).with_context(|| format!("write {}", file.display()))?;
        eprintln!("==> written to {}", file.display());
    }
    Ok(())
}
