//! What steering costs: the connection rate against plain `SO_REUSEPORT`, and, from the samples of `reuse-ctl`'s bench `selection`,
//! nanoseconds per selection. `cargo xtask bench` calls it; the report goes to standard output and into a file.

mod machine;
mod pairs;
mod predictions;
mod programs;
mod report;
mod selection;
mod server;
mod spread;
mod traffic;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Benchmarks
#[derive(Debug, Parser)]
enum Arguments {
    /// Measures, and writes the report
    Report {
        /// What was printed by the bench `selection`
        #[arg(long)]
        selection: PathBuf,
        /// Where the report goes, besides standard output
        #[arg(long)]
        output: Option<PathBuf>,
        /// The commit that was built
        #[arg(long, default_value = "unknown")]
        revision: String,
        /// The day, as it is to stand in the report
        #[arg(long, default_value = "unknown")]
        date: String,
        /// Pairs of rounds per policy
        #[arg(long, default_value_t = 100)]
        pairs: usize,
        /// Length of a round
        #[arg(long, default_value_t = 120)]
        round_ms: u64,
    },
    /// The server whose connection rate is measured
    Server {
        /// Where it listens
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Server { listen } => server::serve(listen),
        Arguments::Report {
            selection,
            output,
            revision,
            date,
            pairs,
            round_ms,
        } => {
            let samples = fs::read_to_string(&selection).with_context(|| format!("read {}", selection.display()))?;
            let selection = selection::Selection::parse(&samples)?;
            let before = machine::Moment::now()?;
            pin()?;
            let rates = pairs::measure(pairs, Duration::from_millis(round_ms))?;
            let machine = machine::Machine::describe(before)?;
            let report = report::Report {
                revision,
                date,
                machine,
                rates,
                selection,
            }
            .to_string();
            print!("{report}");
            if let Some(path) = output {
                fs::write(&path, &report).with_context(|| format!("write {}", path.display()))?;
                eprintln!("==> written to {}", path.display());
            }
            Ok(())
        }
    }
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
