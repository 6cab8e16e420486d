//! How many workers `least-loaded` looks at.

use reuse_common::Policy;

use super::{MIXED, cells};
use crate::batch::{Effort, Figure, run_all};
use crate::law::{Arrivals, Law};
use crate::report::{Section, line, linear, log};
use crate::setup::{Chooser, Server, Setup, rate_for};

/// How many are looked at; 256 are all.
const SAMPLES: [u32; 5] = [2, 4, 8, 16, 256];
const WORKERS: [u16; 6] = [8, 16, 32, 64, 128, 256];

fn setup(workers: u16, service: Law, utilisation: f64, samples: u32, effort: Effort) -> Setup {
    let arrivals = Arrivals::Poisson(rate_for(workers, service, utilisation));
    let server = Server::Serial { service };
    let connections = effort.connections(60_000);
    let mut setup = Setup::new(workers, Chooser::By(Policy::LeastLoaded), server, arrivals, connections);
    setup.tuning.full_scan = if samples == 256 { 256 } else { 0 };
    setup.tuning.samples = samples;
    setup.backlog = u32::MAX;
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "Looking at all workers, or at two (16)",
        "two choices are within 2 × of a look at all in p99 wait at 70 % load and within 3 × at 90 %, whatever the number of workers; the step at 17 \
         workers is small where service times vary much. (The columns of 4, 8 and 16 neighbours were added after the first run, without a prediction.)",
    );
    section.say(
        "p99 wait, ms. What `FULL_SCAN` = f does is in the last column up to f workers and in the first above. Between them: neighbours in the table from a random one on, \
         which is the present loop with another start.",
    );
    let exponential = Law::Exponential(0.01);
    let cases = [
        ("exponential, 10 ms", exponential, 0.7),
        ("exponential, 10 ms", exponential, 0.9),
        ("90 % 1 ms, 10 % 100 ms", MIXED, 0.7),
        ("90 % 1 ms, 10 % 100 ms", MIXED, 0.9),
    ];
    let mut rows = Vec::new();
    for (name, service, utilisation) in cases {
        let mut curves = vec![Vec::new(); SAMPLES.len()];
        for workers in WORKERS {
            let setups = SAMPLES.map(|samples| setup(workers, service, utilisation, samples, effort));
            let outcomes = run_all(&setups, effort);
            let first = [
                name.to_owned(),
                format!("{:.0} %", 100.0 * utilisation),
                workers.to_string(),
            ];
            rows.push(
                first
                    .into_iter()
                    .chain(cells(&outcomes, |outcome| outcome.p99()))
                    .collect::<Vec<_>>(),
            );
            for (curve, outcomes) in curves.iter_mut().zip(&outcomes) {
                curve.push((f64::from(workers), Figure::of(outcomes, |outcome| outcome.p99()).median));
            }
        }
        if service == MIXED && utilisation > 0.8 {
            let names = [
                "two random ones",
                "4 neighbours",
                "8 neighbours",
                "16 neighbours",
                "all",
            ];
            section.plot(
                "scan",
                "p99 of the wait under least-loaded at 90 % load, 90 % 1 ms and 10 % 100 ms",
                (log("workers"), linear("p99 wait, ms")),
                names
                    .iter()
                    .zip(curves)
                    .map(|(name, curve)| line(name, curve))
                    .collect(),
            );
        }
    }
    section.table(
        &["service", "load", "workers", "two", "4 neighbours", "8", "16", "all"],
        rows,
    );
    section
}
