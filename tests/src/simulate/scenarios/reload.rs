//! Which clients move when workers are drained and replaced.

use reuse_common::Policy;

use crate::agenda::SECOND;
use crate::batch::{Effort, Figure, run_all};
use crate::law::{Arrivals, Law};
use crate::outcome::RunOutcome;
use crate::report::Section;
use crate::setup::{Act, Chooser, Population, Server, Setup};

const WORKERS: u16 = 16;
const CHOOSERS: [Chooser; 3] = [Chooser::Plain, Chooser::By(Policy::Hash), Chooser::By(Policy::Sticky)];

fn drains() -> Vec<(u64, Act)> {
    let of = |slot: u16| {
        let second = 4 + 2 * u64::from(slot);
        [
            (second * SECOND, Act::Withdraw(slot)),
            ((second + 1) * SECOND, Act::Publish(slot)),
        ]
    };
    (0..WORKERS).flat_map(of).collect()
}

fn reload() -> Vec<(u64, Act)> {
    let of = |slot: u16| ((4 + 2 * u64::from(slot)) * SECOND, Act::Replace(slot));
    (0..WORKERS).map(of).collect()
}

fn scale() -> Vec<(u64, Act)> {
    let down = (12..WORKERS).map(|slot| (10 * SECOND, Act::Withdraw(slot)));
    down.chain((12..WORKERS).map(|slot| (25 * SECOND, Act::Publish(slot))))
        .collect()
}

fn setup(chooser: Chooser, script: Vec<(u64, Act)>, effort: Effort) -> Setup {
    // Every client comes back about once a second.
    let clients = effort.connections(6000) as u32;
    let server = Server::Ample {
        lasts: Law::Exponential(0.5),
    };
    let arrivals = Arrivals::Poisson(f64::from(clients));
    let mut setup = Setup::new(WORKERS, chooser, server, arrivals, 40 * u64::from(clients));
    setup.population = Population::Ports { clients };
    setup.round_trip = Law::Constant(0.0);
    setup.script = script;
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "Drains, reloads, scaling: which clients move",
        "under `hash` and `sticky` exactly the clients of withdrawn workers move, and none that had no need to. `hash` moves them back when the worker \
         returns, `sticky` leaves them where they are. A reload moves nobody. Without a program nearly everybody is moved by every change of the array.",
    );
    section.say(
        "16 workers; 6,000 clients, each of which connects about once a second from the same port for 40 s (240,000 connections; half a second open). Of each \
         connection that is not the client's first: does it reach the same worker as the one before? *Needless*: the client's last worker is published, and its \
         new one was published all the time too. The plain kernel puts its last socket into the place of one that closes.",
    );
    let mut rows = Vec::new();
    for (name, script) in [
        ("drain and undrain each of the 16 in turn, a second each", drains()),
        ("reload: each replaced in turn", reload()),
        ("scale 16 → 12 → 16", scale()),
    ] {
        let outcomes = run_all(&CHOOSERS.map(|chooser| setup(chooser, script.clone(), effort)), effort);
        for (chooser, outcomes) in CHOOSERS.iter().zip(&outcomes) {
            let cell = |number: fn(&RunOutcome) -> u64| Figure::of(outcomes, |outcome| number(outcome) as f64).whole();
            rows.push(vec![
                name.to_owned(),
                chooser.name().to_owned(),
                cell(|outcome| outcome.counts.moves.stayed),
                cell(|outcome| outcome.counts.moves.withdrawn),
                cell(|outcome| outcome.counts.moves.returned),
                cell(|outcome| outcome.counts.moves.needless),
            ]);
        }
    }
    section.table(
        &[
            "what",
            "policy",
            "stayed",
            "its worker was withdrawn",
            "its new worker had come back",
            "needless",
        ],
        rows,
    );
    section
}
