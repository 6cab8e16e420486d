//! The benchmarks: what steering costs, and how it compares. `cargo xtask bench` calls them; each scenario writes its report and plots
//! into a folder.

mod clock;
mod document;
mod latency;
mod load;
mod machine;
mod pairs;
mod peers;
mod predictions;
mod process;
mod programs;
mod report;
mod scenario;
mod selection;
mod server;
mod spread;
mod traffic;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use document::Setting;
use scenario::mixed::Work;

/// Benchmarks
#[derive(Debug, Parser)]
enum Arguments {
    /// What the program in the kernel costs
    Steering {
        /// What was printed by the bench `selection`
        #[arg(long)]
        selection: PathBuf,
        #[command(flatten)]
        setting: Setting,
    },
    /// Short and long requests, against other ways to run four workers
    Mixed {
        /// What a worker does for a request
        #[arg(long, value_enum, default_value = "block")]
        work: Work,
        /// Only least-loaded and the peers whose name contains this
        #[arg(long, default_value = "")]
        only: String,
        #[command(flatten)]
        setting: Setting,
    },
    /// One of four workers stopped
    Hung(Setting),
    /// All workers replaced under load
    Reload(Setting),
    /// The controller when nothing happens
    Idle(Setting),
    /// Writes the index of the reports in a folder
    Index {
        /// The folder
        #[arg(long)]
        output: PathBuf,
    },
    /// The load generator: reads a plan, writes what became of each request
    Load,
    /// The server whose connection rate is measured
    Server {
        /// Where it listens
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Steering { selection, setting } => steering(&selection, setting),
        Arguments::Mixed { work, only, setting } => scenario::mixed::measure(&setting, work, &only),
        Arguments::Hung(setting) => scenario::hung::measure(&setting),
        Arguments::Reload(setting) => scenario::reload::measure(&setting),
        Arguments::Idle(setting) => scenario::idle::measure(&setting),
        Arguments::Index { output } => document::index(&output),
        Arguments::Load => load::generator::main(),
        Arguments::Server { listen } => server::serve(listen),
    }
}

fn steering(selection: &Path, setting: Setting) -> anyhow::Result<()> {
    let (pairs, round_ms) = if setting.quick { (15, 100) } else { (100, 120) };
    let samples = fs::read_to_string(selection).with_context(|| format!("read {}", selection.display()))?;
    let selection = selection::Selection::parse(&samples)?;
    let machine = machine::Machine::describe()?;
    pin()?;
    let rates = pairs::measure(pairs, Duration::from_millis(round_ms))?;
    let report = report::Report {
        machine: machine.measured()?,
        revision: setting.revision,
        date: setting.date,
        rates,
        selection,
    }
    .to_string();
    print!("{report}");
    document::write(&setting.output.join("steering.md"), &report)
}

/// Client, servers and controller, all of which this process starts, share one core. The rate is then one over the CPU time of a
/// connection, and not a matter of which core the scheduler wakes a server on: the control's quartiles came from ±10 % to ±1.5 %.
fn pin() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|&core| allowed.is_set(core) == Ok(true));
    let mut one = CpuSet::new();
    one.set(last.context("no core is allowed")?)
        .context("a core's number")?;
    sched_setaffinity(Pid::from_raw(0), &one).context("sched_setaffinity")
}
