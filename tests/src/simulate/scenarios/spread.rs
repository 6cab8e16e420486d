//! How evenly open connections are spread.

use super::{cells, header};
use crate::batch::{Effort, Figure, run_all};
use crate::law::{Arrivals, Law};
use crate::report::{Section, line, linear, log};
use crate::setup::{Chooser, Population, Server, Setup};

const WORKERS: [u16; 4] = [4, 16, 64, 256];
/// Open connections per worker, on average.
const OPEN: f64 = 25.0;

const HEAVY: Law = Law::Pareto {
    shape: 1.2,
    low: 0.1,
    high: 3600.0,
};

const LASTING: [(&str, Law); 3] = [
    (
        "short (lognormal, mean 50 ms)",
        Law::Lognormal { mean: 0.05, sigma: 1.0 },
    ),
    ("keep-alive (exponential, mean 60 s)", Law::Exponential(60.0)),
    ("heavy-tailed (Pareto 1.2, 100 ms … 1 h)", HEAVY),
];

fn setup(workers: u16, lasts: Law, chooser: Chooser, effort: Effort) -> Setup {
    let connections = effort.connections(if workers > 64 && lasts == HEAVY {
        1_000_000
    } else {
        100_000
    });
    let arrivals = Arrivals::Poisson(OPEN * f64::from(workers) / lasts.mean());
    let mut setup = Setup::new(workers, chooser, Server::Ample { lasts }, arrivals, connections);
    setup.round_trip = Law::Exponential(0.02);
    setup.population = Population::Zipf {
        clients: 100_000,
        skew: 0.5,
    };
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "Spread: open connections, max/mean over time",
        "the plain kernel and `hash` are a random choice, so with 25 open connections per worker max/mean is about 1 + √(2 ln n / 25): 1.3 \
         with 4 workers, 1.7 with 256. `round-robin` is hardly better once durations vary. `least-loaded` stays below 1.1 up to 16 workers and \
         below 1.3 with two choices. `sticky` is bound to 1.25 or 8 above the mean, so at about 1.3.",
    );
    section.say(
        "25 open connections per worker on average; handshakes take 20 ms (exponential). 100,000 clients, the n-th in proportion to n^-0.5. \
         100,000 connections per run, a million of the heavy-tailed ones with 256 workers. The number is the mean over time of the fullest worker's open connections over the mean.",
    );
    let mut lines = Vec::new();
    let mut rows = Vec::new();
    for (name, lasts) in LASTING {
        let mut curves = vec![Vec::new(); Chooser::ALL.len()];
        for workers in WORKERS {
            let setups = Chooser::ALL.map(|chooser| setup(workers, lasts, chooser, effort));
            let outcomes = run_all(&setups, effort);
            let first = [name.to_owned(), workers.to_string()];
            rows.push(
                first
                    .into_iter()
                    .chain(cells(&outcomes, |outcome| outcome.balance))
                    .collect(),
            );
            for (curve, outcomes) in curves.iter_mut().zip(&outcomes) {
                curve.push((
                    f64::from(workers),
                    Figure::of(outcomes, |outcome| outcome.balance).median,
                ));
            }
        }
        lines.push(curves);
    }
    section.table(&header(&["connections", "workers"], &Chooser::ALL), rows);
    for ((name, _), (file, curves)) in LASTING
        .iter()
        .zip(["short", "keep-alive", "heavy"].into_iter().zip(lines))
    {
        let lines = Chooser::ALL
            .iter()
            .zip(curves)
            .map(|(chooser, curve)| line(chooser.name(), curve));
        section.plot(
            &format!("spread-{file}"),
            &format!("Open connections, max/mean: {name}"),
            (log("workers"), linear("max/mean")),
            lines.collect(),
        );
    }
    section
}
