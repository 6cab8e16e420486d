//! What is simulated, a file each. What was expected stands at the top of each section; it was written before the first run.

mod bound;
mod buckets;
mod canary;
mod decay;
mod flood;
mod hangs;
mod hung_after;
mod queue;
mod reload;
mod scan;
mod spread;
mod wait;

use clap::ValueEnum;

use crate::batch::{Effort, Figure, RunOutcomes};
use crate::law::Law;
use crate::outcome::RunOutcome;
use crate::report::Section;
use crate::setup::Chooser;

/// One section of the report.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scenario {
    /// How evenly connections are spread
    Spread,
    /// How long requests wait
    Wait,
    /// What a worker that stops for a while costs
    Hangs,
    /// Which clients move when workers are drained and replaced
    Reload,
    /// What SYNs from made-up addresses do
    Flood,
    /// What a worker with a fixed share gets
    Canary,
    /// How many buckets `hash` has
    Buckets,
    /// The bound of `sticky`
    Bound,
    /// Up to how many workers `least-loaded` looks at all
    Scan,
    /// How long a selection counts that has not become a connection
    Decay,
    /// What a connection in the accept queue counts
    Queue,
    /// When a worker is called hung, and how often one looks
    HungAfter,
}

impl Scenario {
    /// Simulates it.
    pub(crate) fn run(self, effort: Effort) -> Section {
        match self {
            Self::Spread => spread::run(effort),
            Self::Wait => wait::run(effort),
            Self::Hangs => hangs::run(effort),
            Self::Reload => reload::run(effort),
            Self::Flood => flood::run(effort),
            Self::Canary => canary::run(effort),
            Self::Buckets => buckets::run(effort),
            Self::Bound => bound::run(effort),
            Self::Scan => scan::run(effort),
            Self::Decay => decay::run(effort),
            Self::Queue => queue::run(effort),
            Self::HungAfter => hung_after::run(effort),
        }
    }
}

/// One request in ten takes a hundred times as long as the others.
const MIXED: Law = Law::Mixed {
    usual: 0.001,
    rare: 0.1,
    share: 0.1,
};

/// A number of every case, as it is shown.
fn cells(outcomes: &[RunOutcomes], number: impl Fn(&RunOutcome) -> f64) -> impl Iterator<Item = String> {
    outcomes
        .iter()
        .map(move |outcomes| Figure::of(outcomes, &number).shown())
}

/// The columns of a table: these, then one for each way to choose.
fn header<'a>(first: &[&'a str], choosers: &[Chooser]) -> Vec<&'a str> {
    let names = choosers.iter().map(|chooser| chooser.name());
    first.iter().copied().chain(names).collect()
}
