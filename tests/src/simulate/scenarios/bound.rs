//! The bound of `sticky`.

use reuse_common::Policy;

use crate::batch::{Effort, Figure, run_all};
use crate::law::{Arrivals, Law};
use crate::outcome::RunOutcome;
use crate::report::Section;
use crate::setup::{Chooser, Population, Server, Setup};

const BOUNDS: [Option<u32>; 5] = [Some(105), Some(125), Some(150), Some(200), None];

fn setup(workers: u16, skew: f64, bound: Option<u32>, capacity: u32, effort: Effort) -> Setup {
    let lasts = Law::Exponential(5.0);
    let arrivals = Arrivals::Poisson(100.0 * f64::from(workers) / lasts.mean());
    let server = Server::Ample { lasts };
    let mut setup = Setup::new(
        workers,
        Chooser::By(Policy::Sticky),
        server,
        arrivals,
        effort.connections(80_000),
    );
    setup.round_trip = Law::Exponential(0.02);
    setup.population = Population::Zipf { clients: 20_000, skew };
    setup.tuning.bound_percent = bound;
    setup.tuning.client_capacity = capacity;
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "The bound of `sticky` (1.25)",
        "a tighter bound spreads new clients better but puts more of them away from their bucket's owner, and those move when their record is lost. \
         1.25 is on the knee: max/mean falls little below, and misplacement rises steeply. The slack of 8 decides below 32 connections a worker, so the factor matters only above.",
    );
    section.say(
        "20,000 clients of given skew, 100 open connections per worker (5 s, exponential), 80,000 connections. *Away*: new clients that were not put on their \
         bucket's owner. *Moved*: returning clients that came to another worker although theirs was there, because the table (here of 4,096 entries) had forgotten them.",
    );
    let mut rows = Vec::new();
    for workers in [16, 64] {
        for skew in [0.3, 0.6, 0.8] {
            let of = |capacity| BOUNDS.map(|bound| setup(workers, skew, bound, capacity, effort));
            let (roomy, small) = (run_all(&of(65_536), effort), run_all(&of(4096), effort));
            for (bound, (roomy, small)) in BOUNDS.iter().zip(roomy.iter().zip(&small)) {
                let moved = |outcome: &RunOutcome| {
                    100.0 * outcome.counts.moves.needless as f64
                        / (outcome.counts.moves.needless + outcome.counts.moves.stayed).max(1) as f64
                };
                rows.push(vec![
                    workers.to_string(),
                    skew.to_string(),
                    bound.map_or_else(
                        || "none".to_owned(),
                        |percent| format!("{:.2}", f64::from(percent) / 100.0),
                    ),
                    Figure::of(roomy, |outcome| outcome.balance).shown(),
                    Figure::of(roomy, |outcome| outcome.balance_p99).shown(),
                    Figure::of(roomy, |outcome| 100.0 * outcome.away_from_home).shown(),
                    Figure::of(small, moved).shown(),
                ]);
            }
        }
    }
    section.table(
        &[
            "workers",
            "skew",
            "bound",
            "max/mean",
            "p99 of max/mean",
            "away, %",
            "moved with a small table, %",
        ],
        rows,
    );
    section
}
