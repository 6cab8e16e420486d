//! What a worker with a fixed share gets.

use reuse_common::Share;

use super::{cells, header};
use crate::batch::{Effort, run_all};
use crate::law::{Arrivals, Law};
use crate::report::Section;
use crate::setup::{Chooser, Population, Server, Setup, rate_for};

fn setup(hundredths: u16, others: u16, population: Population, chooser: Chooser, effort: Effort) -> Setup {
    let service = Law::Exponential(0.01);
    let arrivals = Arrivals::Poisson(rate_for(others, service, 0.7));
    let mut setup = Setup::new(
        others + 1,
        chooser,
        Server::Serial { service },
        arrivals,
        effort.connections(20_000),
    );
    setup.canary = Share::from_hundredths_of_a_percent(hundredths);
    setup.population = population;
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "Canaries: what a fixed share gives",
        "`round-robin` and `least-loaded` give the share to within two connections. `hash` gives it within the chance of 20,000 draws \
         (5 % ± 0.3), and so does `sticky` for clients of one connection each; for returning clients it is a share of the clients, and the busiest count for much.",
    );
    section.say("20,000 connections, 70 % load. The last worker's part of all connections, %:");
    let choosers = &Chooser::ALL[1..];
    let mut rows = Vec::new();
    for (share, hundredths) in [("0.5 %", 50), ("5 %", 500), ("25 %", 2500)] {
        for (clients, population) in [
            ("each once", Population::Strangers),
            (
                "20,000, n^-0.8",
                Population::Zipf {
                    clients: 20_000,
                    skew: 0.8,
                },
            ),
        ] {
            for others in [4, 63] {
                let setups: Vec<Setup> = choosers
                    .iter()
                    .map(|&chooser| setup(hundredths, others, population, chooser, effort))
                    .collect();
                let outcomes = run_all(&setups, effort);
                let first = [share.to_owned(), clients.to_owned(), others.to_string()];
                rows.push(
                    first
                        .into_iter()
                        .chain(cells(&outcomes, |outcome| 100.0 * outcome.last_share))
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
    section.table(&header(&["share", "clients", "other workers"], choosers), rows);
    section
}
