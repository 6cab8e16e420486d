//! How many buckets `hash` has.

use reuse_common::Policy;

use super::cells;
use crate::batch::{Effort, run_all};
use crate::law::{Arrivals, Law};
use crate::report::Section;
use crate::setup::{Chooser, Server, Setup};

const BITS: [u32; 4] = [12, 14, 16, 18];

fn setup(workers: u16, chooser: Chooser, effort: Effort) -> Setup {
    let lasts = Law::Exponential(1.0);
    let arrivals = Arrivals::Poisson(25.0 * f64::from(workers));
    Setup::new(
        workers,
        chooser,
        Server::Ample { lasts },
        arrivals,
        effort.connections(200_000),
    )
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "How many buckets `hash` has (2^14)",
        "a worker of n owns about 2^14/n buckets, give or take the root of that: with 256 workers 64 ± 8, so the luckiest has a third more than its part. 2^16 \
         halve that, for 64 KiB a table.",
    );
    section.say("25 open connections per worker (1 s, exponential), 200,000 connections. Connections in all, max/mean; then the same of the open ones over time:");
    let rows = [16, 64, 128, 256].map(|workers| {
        let with_bits = BITS.map(|bits| {
            let mut setup = setup(workers, Chooser::By(Policy::Hash), effort);
            setup.tuning.bucket_bits = bits;
            setup
        });
        let setups: Vec<Setup> = with_bits
            .into_iter()
            .chain([setup(workers, Chooser::Plain, effort)])
            .collect();
        let outcomes = run_all(&setups, effort);
        std::iter::once(workers.to_string())
            .chain(cells(&outcomes, |outcome| outcome.totals))
            .chain(cells(&outcomes, |outcome| outcome.balance))
            .collect()
    });
    section.table(
        &[
            "workers",
            "2^12",
            "2^14",
            "2^16",
            "2^18",
            "plain",
            "open: 2^12",
            "2^14",
            "2^16",
            "2^18",
            "plain",
        ],
        rows,
    );
    section
}
