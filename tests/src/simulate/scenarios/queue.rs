//! What a connection in the accept queue counts.

use reuse_common::Policy;

use super::hangs::{self, Trouble};
use super::{MIXED, cells};
use crate::batch::{Effort, run_all};
use crate::law::{Arrivals, Law};
use crate::queue_watch::QueueWatch;
use crate::report::Section;
use crate::setup::{Chooser, Server, Setup, rate_for};

const WEIGHTS: [u32; 6] = [0, 1, 2, 4, 8, 16];
const WORKERS: u16 = 8;

fn weighed(mut setup: Setup, weight: u32, watch: QueueWatch) -> Setup {
    setup.tuning.queue_weight = weight;
    setup.watch = Some(watch);
    setup
}

/// Keep-alive connections, most of them idle: what is open says little of who is busy.
fn keep_alive(slower: u64, effort: Effort) -> Setup {
    let service = Law::Exponential(0.005);
    let arrivals = Arrivals::Poisson(rate_for(WORKERS, service, 0.6) / 5.0);
    let server = Server::Loop {
        service,
        requests: 5.0,
        think: Law::Exponential(1.0),
    };
    let chooser = Chooser::By(Policy::LeastLoaded);
    let mut setup = Setup::new(WORKERS, chooser, server, arrivals, effort.connections(40_000));
    setup.first_is_slower = slower;
    setup
}

fn serial(service: Law, load: f64, effort: Effort) -> Setup {
    let arrivals = Arrivals::Poisson(rate_for(WORKERS, service, load));
    let server = Server::Serial { service };
    Setup::new(
        WORKERS,
        Chooser::By(Policy::LeastLoaded),
        server,
        arrivals,
        effort.connections(100_000),
    )
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "What a connection in the accept queue counts (1)",
        "nothing is gained for servers of one connection at a time, where all but one of a worker's connections are queued anyway; something is where most open \
         connections are idle and a queue is the only sign that a worker is behind. Above 2 the 5 ms-old numbers begin to drive everybody the same way. (8 and 16 were added after the first run, the three exponential rows after the weight had become 4.)",
    );
    section.say(
        "`least-loaded`, 8 workers; a connection that waits to be accepted, as of the last look (every 5 ms), counts so many times more than one that was accepted (0: no more). \
         p99 wait, ms:",
    );
    let least_loaded = Chooser::By(Policy::LeastLoaded);
    let stutter = hangs::setup(WORKERS, Trouble::Stutter, least_loaded, QueueWatch::LOOKS_ONLY);
    let cases = [
        (
            "one at a time, 90 % 1 ms, 10 % 100 ms, 80 %",
            serial(MIXED, 0.8, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "one at a time, exponential, 10 ms, 90 %",
            serial(Law::Exponential(0.01), 0.9, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "one at a time, exponential, 5 ms, 70 %",
            serial(Law::Exponential(0.005), 0.7, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "one at a time, exponential, 0.5 ms, 70 %",
            serial(Law::Exponential(0.0005), 0.7, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "event loop, keep-alive, 60 %",
            keep_alive(1, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "the same, one worker takes twice as long",
            keep_alive(2, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "the same, one takes four times as long",
            keep_alive(4, effort),
            QueueWatch::LOOKS_ONLY,
        ),
        (
            "event loop, one worker computes 500 ms in every second, nobody is called hung",
            stutter.clone(),
            QueueWatch::LOOKS_ONLY,
        ),
        ("the same, hung workers withdrawn", stutter, QueueWatch::USUAL),
    ];
    let rows = cases.map(|(name, setup, watch)| {
        let setups = WEIGHTS.map(|weight| weighed(setup.clone(), weight, watch));
        let outcomes = run_all(&setups, effort);
        std::iter::once(name.to_owned())
            .chain(cells(&outcomes, |outcome| outcome.p99()))
            .collect()
    });
    section.table(&["servers", "0", "1", "2", "4", "8", "16"], rows);
    section
}
