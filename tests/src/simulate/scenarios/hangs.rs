//! What a worker that stops for a while costs.

use reuse_common::Policy;

use super::cells;
use crate::agenda::{MILLISECOND, SECOND};
use crate::batch::{Effort, Figure, RunOutcomes, run_all};
use crate::law::{Arrivals, Law};
use crate::outcome::TIMELINE_STEP_NS;
use crate::queue_watch::QueueWatch;
use crate::report::{Section, line, linear, log};
use crate::setup::{Act, Chooser, Population, Server, Setup, rate_for};

/// Virtual seconds.
const LENGTH: f64 = 40.0;

/// What happens to the first worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// Ten seconds of nothing.
    Stop,
    /// Half a second of computing, once a second.
    Stutter,
}

impl Trouble {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stop => "stopped for 10 s",
            Self::Stutter => "500 ms in every second",
        }
    }

    fn script(self) -> Vec<(u64, Act)> {
        match self {
            Self::None => Vec::new(),
            Self::Stop => vec![(15 * SECOND, Act::Freeze(0, 10 * SECOND))],
            Self::Stutter => (10..30)
                .map(|second| (second * SECOND, Act::Freeze(0, 500 * MILLISECOND)))
                .collect(),
        }
    }
}

/// An event loop at half load, 5 ms a request.
pub(super) fn setup(workers: u16, trouble: Trouble, chooser: Chooser, watch: QueueWatch) -> Setup {
    let service = Law::Exponential(0.005);
    let server = Server::Loop {
        service,
        requests: 1.0,
        think: Law::Constant(0.0),
    };
    let rate = rate_for(workers, service, 0.5);
    let connections = crate::law::nanoseconds(LENGTH * rate) / SECOND;
    let mut setup = Setup::new(workers, chooser, server, Arrivals::Poisson(rate), connections);
    setup.population = Population::Zipf {
        clients: 20_000,
        skew: 0.8,
    };
    setup.script = trouble.script();
    setup.watch = Some(watch).filter(|_| chooser != Chooser::Plain);
    setup.timeline = true;
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "Hangs: one worker stops",
        "without a watch a quarter of the requests during the stop wait for its end under the plain kernel, `hash` and `round-robin`, and about \
         as many as the mean load (a handful) under `least-loaded`. With the watch nobody waits longer than `--hung-after` and two looks, but for what \
         the worker had accepted already; p99 of the whole run is within 3 × of the run without trouble.",
    );
    section.say(
        "Event loops, 5 ms per request (exponential), 50 % load, 40 s. *Watched*: the controller looks every 5 ms, `--hung-after` 50 ms, \
         `--rescue-after` 10 ms, at most half withdrawn. What the worker had accepted before it stopped can't be rescued and is in the numbers.",
    );
    let mut rows = Vec::new();
    for workers in [4, 16] {
        for trouble in [Trouble::Stop, Trouble::Stutter] {
            rows.extend(compare(workers, trouble, effort));
        }
    }
    section.table(
        &[
            "workers",
            "one of them",
            "policy",
            "watched",
            "waited > 100 ms, %",
            "p99, ms",
            "p99 ÷ without trouble",
            "longest wait, ms",
            "calls",
            "moved by rescue",
        ],
        rows,
    );
    timeline(&mut section, effort);
    section
}

fn compare(workers: u16, trouble: Trouble, effort: Effort) -> Vec<Vec<String>> {
    let mut cases = vec![(Chooser::Plain, QueueWatch::LOOKS_ONLY)];
    for chooser in &Chooser::ALL[1..] {
        cases.extend([(*chooser, QueueWatch::LOOKS_ONLY), (*chooser, QueueWatch::USUAL)]);
    }
    let run = |trouble| {
        let setups: Vec<Setup> = cases
            .iter()
            .map(|&(chooser, watch)| setup(workers, trouble, chooser, watch))
            .collect();
        run_all(&setups, effort)
    };
    let (calm, troubled) = (run(Trouble::None), run(trouble));
    let rows = cases.iter().zip(calm.iter().zip(&troubled));
    rows.map(|(&(chooser, watch), (calm, troubled))| {
        let cell = |number: fn(&crate::outcome::RunOutcome) -> f64| Figure::of(troubled, number).shown();
        vec![
            workers.to_string(),
            trouble.name().to_owned(),
            chooser.name().to_owned(),
            if watch == QueueWatch::USUAL { "yes" } else { "no" }.to_owned(),
            cell(|outcome| 100.0 * outcome.long_waits),
            cell(|outcome| outcome.p99()),
            ratio(troubled, calm),
            cell(|outcome| outcome.wait_max),
            cell(|outcome| outcome.counts.calls as f64),
            cell(|outcome| outcome.counts.rescued as f64),
        ]
    })
    .collect()
}

/// Seed by seed.
fn ratio(troubled: &RunOutcomes, calm: &RunOutcomes) -> String {
    let mut ratios: Vec<f64> = troubled.iter().zip(calm).map(|(a, b)| a.p99() / b.p99()).collect();
    ratios.sort_by(f64::total_cmp);
    crate::batch::short(ratios[ratios.len() / 2])
}

fn timeline(section: &mut Section, effort: Effort) {
    let least_loaded = Chooser::By(Policy::LeastLoaded);
    let cases = [
        ("plain SO_REUSEPORT", Chooser::Plain, QueueWatch::LOOKS_ONLY),
        ("hash, watched", Chooser::By(Policy::Hash), QueueWatch::USUAL),
        ("least-loaded", least_loaded, QueueWatch::LOOKS_ONLY),
        ("least-loaded, watched", least_loaded, QueueWatch::USUAL),
    ];
    for (file, trouble) in [("hangs-stop", Trouble::Stop), ("hangs-stutter", Trouble::Stutter)] {
        let setups = cases.map(|(_, chooser, watch)| setup(4, trouble, chooser, watch));
        let outcomes = run_all(&setups, Effort { seeds: 1, ..effort });
        let step = crate::law::seconds(TIMELINE_STEP_NS);
        let lines = cases.iter().zip(&outcomes).map(|((name, ..), outcomes)| {
            let points = (0_u32..).zip(&outcomes[0].timeline_ms);
            line(name, points.map(|(nth, &wait)| (f64::from(nth) * step, wait)).collect())
        });
        section.plot(
            file,
            &format!(
                "The longest wait of the requests of each 200 ms; one of 4 workers: {}",
                trouble.name()
            ),
            (linear("when the request came, s"), log("longest wait, ms")),
            lines.collect(),
        );
    }
}

/// For other scenarios: the cells of a table about hangs.
pub(super) fn long_waits(outcomes: &[RunOutcomes]) -> impl Iterator<Item = String> {
    cells(outcomes, |outcome| 100.0 * outcome.long_waits)
}
