//! How long requests wait for their worker.

use super::{MIXED, cells, header};
use crate::batch::{Effort, Figure, run_all};
use crate::law::{Arrivals, Law};
use crate::outcome::{QUANTILES, RunOutcome};
use crate::report::{Section, line, log};
use crate::setup::{Chooser, Population, Server, Setup, rate_for};
use reuse_tests::plot::{Axis, Scale};

const WORKERS: u16 = 16;

const SERVICES: [(&str, Law); 4] = [
    ("exponential, 10 ms", Law::Exponential(0.01)),
    ("90 % 1 ms, 10 % 100 ms", MIXED),
    (
        "lognormal, mean 10 ms, σ 1.5",
        Law::Lognormal { mean: 0.01, sigma: 1.5 },
    ),
    (
        "Pareto 1.2, 1 ms … 1 s",
        Law::Pareto {
            shape: 1.2,
            low: 0.001,
            high: 1.0,
        },
    ),
];

/// How requests come, at so many per second.
type Arriving = fn(f64) -> Arrivals;

const ARRIVING: [(&str, f64, Arriving); 3] = [
    ("70 %", 0.7, Arrivals::Poisson),
    ("90 %", 0.9, Arrivals::Poisson),
    ("60 %, bursts of 3 ×", 0.6, |rate| Arrivals::Bursty {
        rate,
        burst: 0.2,
        factor: 3.0,
    }),
];

fn setup(workers: u16, service: Law, arrivals: Arrivals, chooser: Chooser, connections: u64) -> Setup {
    let mut setup = Setup::new(workers, chooser, Server::Serial { service }, arrivals, connections);
    setup.population = Population::Zipf {
        clients: 100_000,
        skew: 0.8,
    };
    setup.backlog = u32::MAX;
    setup
}

/// Connections that stay open for ten requests.
fn keep_alive(utilisation: f64, chooser: Chooser, effort: Effort) -> Setup {
    let service = Law::Exponential(0.005);
    let arrivals = Arrivals::Poisson(rate_for(WORKERS, service, utilisation) / 10.0);
    let mut setup = setup(WORKERS, service, arrivals, chooser, effort.connections(20_000));
    setup.server = Server::Loop {
        service,
        requests: 10.0,
        think: Law::Exponential(0.5),
    };
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "Wait: from the handshake to the worker",
        "the plain kernel and `hash` make every worker a queue of its own (M/G/1); `round-robin` takes the chance out of arrivals and saves a third; \
         `least-loaded` is near one common queue: p99 at most a third of plain's at 70 %, a fifth at 90 % of exponential service, less gain \
         the heavier the tail, because the number of connections says nothing of how long they will take. `sticky` is between.",
    );
    section.say(
        "16 workers, each serving one connection at a time (with an event loop and one request per connection the order is the same). Handshakes take \
         1 ms. 150,000 connections per run. Milliseconds: p50 / p99 / p99.9.",
    );
    let mut rows = Vec::new();
    for (name, service) in SERVICES {
        for (load, utilisation, arriving) in ARRIVING {
            let arrivals = arriving(rate_for(WORKERS, service, utilisation));
            let setups =
                Chooser::ALL.map(|chooser| setup(WORKERS, service, arrivals, chooser, effort.connections(150_000)));
            let outcomes = run_all(&setups, effort);
            let shown = outcomes.iter().map(|outcomes| {
                let figure = |number: fn(&RunOutcome) -> f64| Figure::of(outcomes, number);
                format!(
                    "{} / {} / {}",
                    crate::batch::short(figure(|outcome| outcome.p50()).median),
                    figure(|outcome| outcome.p99()).shown(),
                    crate::batch::short(figure(|outcome| outcome.p999()).median),
                )
            });
            rows.push([name.to_owned(), load.to_owned()].into_iter().chain(shown).collect());
            if service == MIXED && utilisation == 0.7 {
                let lines = Chooser::ALL.iter().zip(&outcomes).map(|(chooser, outcomes)| {
                    let points = (0..QUANTILES.len()).map(|nth| {
                        (
                            QUANTILES[nth],
                            Figure::of(outcomes, |outcome| outcome.waits[nth]).median,
                        )
                    });
                    line(chooser.name(), points.collect())
                });
                section.plot(
                    "wait-percentiles",
                    "Waiting at 70 % load, 16 workers, 90 % 1 ms and 10 % 100 ms",
                    (Axis::new("share of requests", Scale::Percentile), log("wait, ms")),
                    lines.collect(),
                );
            }
        }
    }
    section.table(&header(&["service", "load"], &Chooser::ALL), rows);
    by_size(&mut section, effort);
    section.say("An event loop, connections that stay open for 10 requests (geometric) with half a second to think between them, 5 ms per request; p99 of the requests, ms:");
    let rows = [0.5, 0.7, 0.9].map(|utilisation| {
        let outcomes = run_all(
            &Chooser::ALL.map(|chooser| keep_alive(utilisation, chooser, effort)),
            effort,
        );
        let first = format!("{:.0} %", 100.0 * utilisation);
        std::iter::once(first)
            .chain(cells(&outcomes, |outcome| outcome.p99()))
            .collect()
    });
    section.table(&header(&["load"], &Chooser::ALL), rows);
    section
}

fn by_size(section: &mut Section, effort: Effort) {
    let mut curves = vec![Vec::new(); Chooser::ALL.len()];
    for workers in [4, 8, 16, 32, 64, 128, 256] {
        let arrivals = Arrivals::Poisson(rate_for(workers, MIXED, 0.7));
        let connections = effort.connections(80_000);
        let outcomes = run_all(
            &Chooser::ALL.map(|chooser| setup(workers, MIXED, arrivals, chooser, connections)),
            effort,
        );
        for (curve, outcomes) in curves.iter_mut().zip(&outcomes) {
            curve.push((f64::from(workers), Figure::of(outcomes, |outcome| outcome.p99()).median));
        }
    }
    let lines = Chooser::ALL
        .iter()
        .zip(curves)
        .map(|(chooser, curve)| line(chooser.name(), curve));
    section.plot(
        "wait-workers",
        "p99 of the wait at 70 % load, 90 % 1 ms and 10 % 100 ms",
        (log("workers"), log("p99 wait, ms")),
        lines.collect(),
    );
}
