//! When a worker is called hung, and how often one looks.

use reuse_common::Policy;

use super::cells;
use super::hangs::{self, Trouble};
use crate::batch::{Effort, run_all};
use crate::law::{Arrivals, Law};
use crate::queue_watch::QueueWatch;
use crate::report::Section;
use crate::setup::{Chooser, Server, Setup, rate_for};

const HUNG_AFTER_MS: [u64; 4] = [20, 50, 100, 200];
const LOOK_MS: [u64; 4] = [2, 5, 10, 20];
const CHOOSER: Chooser = Chooser::By(Policy::Hash);

/// Slow and busy servers, of which none hangs.
fn slow(server: Server, workers: u16, load: f64, backlog: u32, effort: Effort) -> Setup {
    let (Server::Serial { service } | Server::Loop { service, .. } | Server::Ample { lasts: service }) = server;
    let rate = rate_for(workers, service, load);
    // A minute, or in quick runs six seconds.
    let connections = effort.connections(crate::law::nanoseconds(rate * 60.0) / 1_000_000_000);
    let mut setup = Setup::new(workers, CHOOSER, server, Arrivals::Poisson(rate), connections);
    setup.backlog = backlog;
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "When a worker is called hung (50 ms), and how often one looks (5 ms)",
        "what waits is bounded by `--hung-after` and two looks; 50 ms with looks of 5 ms keeps everybody under 100 ms with room to spare. 20 ms begins to call workers that are \
         merely busy. No uniformly slow server, overloaded or not, is ever called hung.",
    );
    let row = |first: [String; 2], watches: [QueueWatch; 4], trouble| {
        let outcomes = run_all(&watches.map(|watch| hangs::setup(4, trouble, CHOOSER, watch)), effort);
        first
            .into_iter()
            .chain(hangs::long_waits(&outcomes))
            .chain(cells(&outcomes, |outcome| outcome.wait_max))
            .collect()
    };
    section.say(
        "The hangs of above under `hash`, 4 workers. Requests that waited > 100 ms, %; then the longest wait, ms (what the worker had accepted before it hung is in \
         both):",
    );
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, trouble) in [
        ("stopped for 10 s", Trouble::Stop),
        ("500 ms in every second", Trouble::Stutter),
    ] {
        for look_ms in LOOK_MS {
            let watches = HUNG_AFTER_MS.map(|hung_after_ms| QueueWatch {
                look_ms,
                hung_after_ms,
                ..QueueWatch::USUAL
            });
            rows.push(row([name.to_owned(), format!("{look_ms} ms")], watches, trouble));
        }
    }
    section.table(
        &[
            "one worker",
            "looks every",
            "20 ms",
            "50",
            "100",
            "200",
            "20 ms: longest",
            "50",
            "100",
            "200",
        ],
        rows,
    );
    rescue_after(&mut section, effort);
    false_calls(&mut section, effort);
    section
}

fn rescue_after(section: &mut Section, effort: Effort) {
    section.say("The same by `--rescue-after`, with looks of 5 ms and `--hung-after` 50 ms (added after the first run, without a prediction):");
    const RESCUE_AFTER_MS: [u64; 4] = [0, 10, 20, 50];
    let mut rows = Vec::new();
    for (name, trouble) in [
        ("stopped for 10 s", Trouble::Stop),
        ("500 ms in every second", Trouble::Stutter),
    ] {
        for chooser in [CHOOSER, Chooser::By(Policy::LeastLoaded)] {
            let setups = RESCUE_AFTER_MS.map(|rescue_after_ms| {
                let watch = QueueWatch {
                    rescue_after_ms,
                    ..QueueWatch::USUAL
                };
                hangs::setup(4, trouble, chooser, watch)
            });
            let outcomes = run_all(&setups, effort);
            rows.push(
                [name.to_owned(), chooser.name().to_owned()]
                    .into_iter()
                    .chain(hangs::long_waits(&outcomes))
                    .chain(cells(&outcomes, |outcome| outcome.wait_max))
                    .collect::<Vec<_>>(),
            );
        }
    }
    section.table(
        &[
            "one worker",
            "policy",
            "0",
            "10 ms",
            "20",
            "50",
            "0: longest",
            "10 ms",
            "20",
            "50",
        ],
        rows,
    );
}

fn false_calls(section: &mut Section, effort: Effort) {
    section.say(
        "Servers of which none hangs, under `hash`, a minute: how often a worker is called hung all the same, per worker and minute; then p99 of the wait \
         in ms, watched ÷ not watched. A worker that computes for long while others are free is better off without its queue, so such a call is no mistake.",
    );
    let one = |service| Server::Serial { service };
    let event_loop = |service| Server::Loop {
        service,
        requests: 1.0,
        think: Law::Constant(0.0),
    };
    let cases = [
        (
            "8, one at a time, 300 ms each, overloaded 2 ×",
            slow(one(Law::Constant(0.3)), 8, 2.0, 128, effort),
        ),
        (
            "8, one at a time, 300 ms each, 90 %",
            slow(one(Law::Constant(0.3)), 8, 0.9, 4096, effort),
        ),
        (
            "8, one at a time, 300 ms each, 30 %",
            slow(one(Law::Constant(0.3)), 8, 0.3, 4096, effort),
        ),
        (
            "8 event loops, 10 ms (exponential), 70 %",
            slow(event_loop(Law::Exponential(0.01)), 8, 0.7, 4096, effort),
        ),
        (
            "8 event loops, 30 ms (exponential), 70 %",
            slow(event_loop(Law::Exponential(0.03)), 8, 0.7, 4096, effort),
        ),
        (
            "8, one at a time, 90 % 1 ms, 10 % 100 ms, 70 %",
            slow(one(super::MIXED), 8, 0.7, 4096, effort),
        ),
        (
            "8, one at a time, Pareto 1.2, 1 ms … 1 s, 70 %",
            slow(
                one(Law::Pareto {
                    shape: 1.2,
                    low: 0.001,
                    high: 1.0,
                }),
                8,
                0.7,
                4096,
                effort,
            ),
        ),
        (
            "8 event loops, 10 ms, overloaded 2 ×",
            slow(event_loop(Law::Exponential(0.01)), 8, 2.0, 128, effort),
        ),
    ];
    let mut rows = Vec::new();
    for (name, unwatched) in cases {
        let minutes = unwatched.expected_length() / 60.0 * f64::from(unwatched.workers);
        let watched = HUNG_AFTER_MS.map(|hung_after_ms| Setup {
            watch: Some(QueueWatch {
                hung_after_ms,
                ..QueueWatch::USUAL
            }),
            ..unwatched.clone()
        });
        let outcomes = run_all(&watched, effort);
        let alone = run_all(&[unwatched], effort);
        let ratio = |outcomes: &crate::batch::RunOutcomes| {
            let mut ratios: Vec<f64> = outcomes.iter().zip(&alone[0]).map(|(a, b)| a.p99() / b.p99()).collect();
            ratios.sort_by(f64::total_cmp);
            crate::batch::short(ratios[ratios.len() / 2])
        };
        let calls = cells(&outcomes, move |outcome| outcome.counts.false_calls as f64 / minutes);
        rows.push(
            std::iter::once(name.to_owned())
                .chain(calls)
                .chain(outcomes.iter().map(ratio))
                .collect(),
        );
    }
    section.table(
        &[
            "servers",
            "calls at 20 ms",
            "50",
            "100",
            "200",
            "p99 ratio at 20 ms",
            "50",
            "100",
            "200",
        ],
        rows,
    );
}
