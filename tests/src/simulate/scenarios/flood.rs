//! What SYNs from made-up addresses do.

use reuse_common::Policy;

use super::cells;
use crate::batch::{Effort, Figure, run_all};
use crate::law::{Arrivals, Law};
use crate::report::Section;
use crate::setup::{Chooser, Flood, Population, Server, Setup, rate_for};
use crate::variant::Tuning;

const TIMES: [f64; 4] = [0.0, 1.0, 10.0, 100.0];

fn setup(workers: u16, chooser: Chooser, times: f64, effort: Effort) -> Setup {
    let service = Law::Exponential(0.01);
    let rate = rate_for(workers, service, 0.7);
    let connections = effort.connections(if times > 10.0 { 12_000 } else { 60_000 });
    let mut setup = Setup::new(
        workers,
        chooser,
        Server::Serial { service },
        Arrivals::Poisson(rate),
        connections,
    );
    setup.population = Population::Zipf {
        clients: 20_000,
        skew: 0.8,
    };
    setup.round_trip = Law::Exponential(0.02);
    if times > 0.0 {
        setup.flood = Some(Flood {
            rate: rate * times,
            cookies: times > 1.0,
        });
    }
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "SYN floods",
        "the flood itself is spread by the policy, so its reservations raise every worker's load alike, and `least-loaded` loses little: below 1.5 × in p99 \
         wait even with 100 flooded SYNs per real one. `sticky` forgets nobody, since clients are recorded when their connection is established.",
    );
    section.say(
        "Exponential service of 10 ms at 70 % load, handshakes of 20 ms. A flooded SYN is selected and reserved, and never completes. From 10 per real SYN on the \
         kernel answers with SYN cookies: a real connection is then selected twice, at its SYN and at its ACK. *All, as it was*: reservations neither faded nor \
         were bounded. p99 wait in ms, under `least-loaded`:",
    );
    let least_loaded = Chooser::By(Policy::LeastLoaded);
    let mut rows = Vec::new();
    for workers in [4, 16, 64] {
        let tunings = [
            ("yes", Tuning::REAL),
            ("all, as it was", Tuning::ALL_RESERVATIONS),
            (
                "no",
                Tuning {
                    reserves: false,
                    ..Tuning::REAL
                },
            ),
        ];
        for (name, tuning) in tunings {
            let setups = TIMES.map(|times| {
                let mut setup = setup(workers, least_loaded, times, effort);
                setup.tuning = tuning;
                setup
            });
            let outcomes = run_all(&setups, effort);
            let first = [workers.to_string(), name.to_owned()];
            rows.push(
                first
                    .into_iter()
                    .chain(cells(&outcomes, |outcome| outcome.p99()))
                    .collect::<Vec<_>>(),
            );
        }
        let plain = run_all(
            &TIMES.map(|times| setup(workers, Chooser::Plain, times, effort)),
            effort,
        );
        let first = [workers.to_string(), "plain kernel".to_owned()];
        rows.push(
            first
                .into_iter()
                .chain(cells(&plain, |outcome| outcome.p99()))
                .collect(),
        );
    }
    section.table(
        &["workers", "reserves", "no flood", "1 per real SYN", "10", "100"],
        rows,
    );
    sticky(&mut section, effort);
    section
}

fn sticky(section: &mut Section, effort: Effort) {
    section.say(
        "`sticky` with 20,000 real clients on 16 workers and its table of 65,536, under a flood of 10 per real SYN, and as it would be if clients \
         were recorded at the SYN:",
    );
    let recorded = |at_syn| {
        let mut setup = setup(16, Chooser::By(Policy::Sticky), 10.0, effort);
        setup.tuning.remembers_at_syn = at_syn;
        setup
    };
    let outcomes = run_all(&[recorded(false), recorded(true)], effort);
    let rows = ["when established", "at the SYN"]
        .iter()
        .zip(&outcomes)
        .map(|(name, outcomes)| {
            let cell = |number: fn(&crate::outcome::RunOutcome) -> u64| {
                Figure::of(outcomes, |outcome| number(outcome) as f64).whole()
            };
            vec![
                (*name).to_owned(),
                cell(|outcome| outcome.counts.flooded),
                cell(|outcome| outcome.evicted),
                cell(|outcome| outcome.counts.moves.stayed),
                cell(|outcome| outcome.counts.moves.needless),
            ]
        });
    section.table(
        &[
            "recorded",
            "flooded SYNs",
            "entries pushed out",
            "clients that stayed",
            "clients that moved",
        ],
        rows,
    );
}
