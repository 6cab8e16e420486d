//! One of four workers is stopped (SIGSTOP) for ten seconds while requests go on coming.

use anyhow::Context as _;
use nix::sys::signal::Signal;
use reuse_tests::Namespace;
use reuse_tests::plot::{Axis, LinePlot, Scale};

use crate::clock;
use crate::document::{Document, Setting, Target, foretold};
use crate::latency::{Latencies, over_time};
use crate::load::Load;
use crate::load::plan::{Class, Plan};
use crate::load::sample::Sample;
use crate::peers::{Kind, Peer};
use crate::predictions::{HUNG_P99_RATIO_TARGET, HUNG_TARGET, WAITING_TOLERANCE_PERCENT, hung_waiting_percent};
use crate::process;
use crate::scenario::{CLIENTS, check_counters, generator_note, line};
use crate::spread::Spread;

const REFERENCE: Kind = Kind::Steered("least-loaded");

/// These are also measured without a stop.
const PAIRED: [Kind; 3] = [Kind::Plain, REFERENCE, Kind::Steered("hash")];

/// These only with it.
const BESIDE: [Kind; 2] = [Kind::NodeCluster, Kind::Haproxy];

/// These in every round, the others in the first: a quarter of an hour is what all scenarios together may take.
const EVERY_ROUND: [Kind; 2] = [Kind::Plain, REFERENCE];

const RATE: f64 = 400.0;

/// So much may pass before the stop has to be noticed, and so long may a request wait.
const GRACE_US: u64 = 100_000;

/// When what happens.
#[derive(Debug, Clone, Copy)]
struct Timetable {
    before_s: f64,
    stop_s: f64,
    after_s: f64,
}

/// A run against one peer.
struct Run {
    kind: Kind,
    round: u64,
    /// From when to when the worker was stopped, in microseconds after the start.
    stopped: Option<(u64, u64)>,
    samples: Vec<Sample>,
}

/// Requests of a run that waited too long, by when they were to be sent.
struct Waiting {
    /// Within the grace after the stop.
    early: usize,
    /// After that, until the worker went on; and all requests of that time.
    late: usize,
    late_of: usize,
}

/// Measures, and writes the report.
///
/// # Errors
/// When a peer does not start or a file can't be written; a failed request is a number in the report.
pub(crate) fn measure(setting: &Setting) -> anyhow::Result<()> {
    let mut document = Document::begin("hung", "One of four workers stopped for ten seconds")?;
    let (rounds, times) = if setting.quick {
        (
            1,
            Timetable {
                before_s: 1.0,
                stop_s: 3.0,
                after_s: 1.0,
            },
        )
    } else {
        (
            2,
            Timetable {
                before_s: 2.0,
                stop_s: 10.0,
                after_s: 3.0,
            },
        )
    };
    let _namespace = Namespace::enter();
    let peers = (0..)
        .zip(PAIRED.into_iter().chain(BESIDE))
        .map(|(place, kind)| kind.start(place))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut runs = Vec::new();
    for round in 0..rounds {
        let first = usize::try_from(round)?;
        for nth in 0..peers.len() {
            let peer = &peers[(first + nth) % peers.len()];
            if round > 0 && !EVERY_ROUND.contains(&peer.kind) {
                continue;
            }
            // Every other round begins with the other one.
            for stop in [round % 2 == 0, round % 2 != 0] {
                if stop || PAIRED.contains(&peer.kind) {
                    runs.push(run(peer, round, times, stop)?);
                }
            }
        }
    }
    for peer in &peers {
        check_counters(peer)?;
    }
    write(&mut document, setting, times, &runs)?;
    document.finish(setting)
}

fn run(peer: &Peer, round: u64, times: Timetable, stop: bool) -> anyhow::Result<Run> {
    let with = if stop { "with" } else { "without" };
    eprintln!("    round {round}: {}, {with} a stop", peer.kind.name());
    let start_ns = clock::soon_ns();
    let load = Load::start(&Plan {
        target: peer.address,
        start_ns,
        seconds: times.before_s + times.stop_s + times.after_s,
        rate: RATE,
        seed: round + 1,
        mix: vec![Class::new("/block/1", 1.0)],
        clients: CLIENTS,
        patience_ms: 30_000,
    })?;
    let stopped = if stop {
        let worker = peer.workers[usize::try_from(round)? % peer.workers.len()];
        let at = |seconds: f64| start_ns + clock::nanoseconds(seconds);
        let since_start = || (clock::now_ns() - start_ns) / 1000;
        clock::sleep_until(at(times.before_s));
        let stopped = Stopped::stop(worker)?;
        let from = since_start();
        clock::sleep_until(at(times.before_s + times.stop_s));
        let to = since_start();
        drop(stopped);
        Some((from, to))
    } else {
        None
    };
    Ok(Run {
        kind: peer.kind,
        round,
        stopped,
        samples: load.finish()?,
    })
}

/// A stopped process; it goes on when this is dropped.
struct Stopped(u32);

impl Stopped {
    fn stop(pid: u32) -> anyhow::Result<Self> {
        process::signal(pid, Signal::SIGSTOP).context("stop a worker")?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Replaced meanwhile: then there is nobody to go on.
        drop(process::signal(self.0, Signal::SIGCONT));
    }
}

impl Run {
    fn waiting(&self) -> Waiting {
        let (from, to) = self.stopped.unwrap_or((0, u64::MAX));
        let too_long = |sample: &&Sample| sample.latency_us > GRACE_US;
        let early = |sample: &&Sample| (from..from + GRACE_US).contains(&sample.at_us);
        let late = |sample: &&Sample| (from + GRACE_US..to).contains(&sample.at_us);
        Waiting {
            early: self.samples.iter().filter(early).filter(too_long).count(),
            late: self.samples.iter().filter(late).filter(too_long).count(),
            late_of: self.samples.iter().filter(late).count(),
        }
    }
}

/// The runs of one kind, with a stop or without.
fn of(runs: &[Run], kind: Kind, stop: bool) -> Vec<&Run> {
    runs.iter()
        .filter(|run| run.kind == kind && run.stopped.is_some() == stop)
        .collect()
}

fn write(document: &mut Document, setting: &Setting, times: Timetable, runs: &[Run]) -> anyhow::Result<()> {
    let Timetable {
        before_s,
        stop_s,
        after_s,
    } = times;
    document.paragraph(&format!(
        "Four Node workers, {RATE} requests a second of 1 ms each, every one on a connection of its own. After {before_s} s one worker is stopped \
         (SIGSTOP), after {stop_s} s more it goes on (SIGCONT), after another {after_s} s the run ends. The same arrivals for everybody. \
         *Early* are requests of the first {} ms of the stop, *late* are those from then until the worker goes on: how many of them waited \
         for more than {} ms.",
        GRACE_US / 1000,
        GRACE_US / 1000
    ));
    let mut rows = Vec::new();
    for kind in PAIRED.into_iter().chain(BESIDE) {
        for stop in [true, false] {
            let runs = of(runs, kind, stop);
            if !runs.is_empty() {
                rows.push(row(kind, stop, &runs));
            }
        }
    }
    document.table(
        &[
            "",
            "stop",
            "runs",
            "waited: early",
            "late",
            "late, %",
            "predicted, %",
            "",
            "p50, ms",
            "p99, ms",
            "longest, ms",
            "failed",
        ],
        &rows,
    );
    document.paragraph(&generator_note(runs.iter().flat_map(|run| &run.samples)));
    document.paragraph("![Longest wait over time](hung-over-time.svg)");
    targets(document, runs);
    plot(setting, times, runs)
}

fn row(kind: Kind, stop: bool, runs: &[&Run]) -> Vec<String> {
    let all = Latencies::of(runs.iter().flat_map(|run| &run.samples));
    let waiting: Vec<Waiting> = runs.iter().map(|run| run.waiting()).collect();
    let sum = |count: fn(&Waiting) -> usize| waiting.iter().map(count).sum::<usize>();
    let late = sum(|waiting| waiting.late);
    let percent = 100.0 * late as f64 / sum(|waiting| waiting.late_of).max(1) as f64;
    let predicted = hung_waiting_percent(kind.name()).filter(|_| stop);
    let hit = |predicted: f64| (predicted - percent).abs() <= WAITING_TOLERANCE_PERCENT;
    let dash = || "–".to_owned();
    vec![
        kind.name().to_owned(),
        if stop { "yes" } else { "no" }.to_owned(),
        runs.len().to_string(),
        if stop {
            sum(|waiting| waiting.early).to_string()
        } else {
            dash()
        },
        late.to_string(),
        format!("{percent:.1}"),
        predicted.map_or_else(dash, |percent| format!("{percent}")),
        predicted.map_or_else(String::new, |predicted| foretold(hit(predicted)).to_owned()),
        format!("{:.1}", all.ms(0.5)),
        format!("{:.1}", all.ms(0.99)),
        format!("{:.0}", all.longest_ms()),
        all.failures_shown(),
    ]
}

fn targets(document: &mut Document, runs: &[Run]) {
    for kind in PAIRED.into_iter().filter(|kind| *kind != Kind::Plain) {
        let name = kind.name();
        let stopped = of(runs, kind, true);
        let late: usize = stopped.iter().map(|run| run.waiting().late).sum();
        let failed = Latencies::of(stopped.iter().flat_map(|run| &run.samples)).failed();
        let ratios: Vec<f64> = stopped
            .iter()
            .filter_map(|with| {
                let p99 = |run: &Run| Latencies::of(&run.samples).ms(0.99);
                let without = runs
                    .iter()
                    .find(|run| run.kind == kind && run.round == with.round && run.stopped.is_none())?;
                Some(p99(with) / p99(without))
            })
            .collect();
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let mut target = |what: &str, goal: String, measured: String, reached| {
            document.targets.push(Target {
                what: format!("1 of 4 workers stopped, {name}: {what}"),
                goal,
                measured,
                reached: Some(reached),
            });
        };
        target(
            "requests sent after the first 100 ms that wait for more than 100 ms",
            HUNG_TARGET.to_string(),
            late.to_string(),
            late == HUNG_TARGET,
        );
        target(
            "failures",
            HUNG_TARGET.to_string(),
            failed.to_string(),
            failed == HUNG_TARGET,
        );
        target(
            "p99 of the whole run over that without a stop, in each round",
            format!("≤ {HUNG_P99_RATIO_TARGET}"),
            Spread::of(&ratios).shown(2),
            worst <= HUNG_P99_RATIO_TARGET,
        );
    }
}

fn plot(setting: &Setting, times: Timetable, runs: &[Run]) -> anyhow::Result<()> {
    let longest =
        |samples: &[&Sample]| samples.iter().map(|sample| sample.latency_us).max().unwrap_or(0) as f64 / 1000.0;
    LinePlot {
        title: "Longest wait of the requests sent in each 100 ms, first round".to_owned(),
        x: Axis::new("when the request was to be sent, s", Scale::Linear),
        y: Axis::new("latency, ms", Scale::Log),
        lines: runs
            .iter()
            .filter(|run| run.round == 0 && run.stopped.is_some())
            .map(|run| line(run.kind.name(), over_time(&run.samples, 100, longest)))
            .collect(),
        marks: vec![
            (times.before_s, "SIGSTOP".to_owned()),
            (times.before_s + times.stop_s, "SIGCONT".to_owned()),
        ],
    }
    .write(&setting.output.join("hung-over-time.svg"))?;
    Ok(())
}
