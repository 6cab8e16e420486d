//! Short and long requests at 70 % load: who waits behind whom.

use reuse_tests::Namespace;
use reuse_tests::plot::{Axis, BarGroup, BarPlot, LinePlot, Scale};

use crate::clock;
use crate::document::{Document, Setting, Target, foretold};
use crate::latency::{Latencies, answers_by_worker, lateness_ms};
use crate::load::Load;
use crate::load::plan::{Class, Plan};
use crate::load::sample::Sample;
use crate::peers::{Kind, Peer, WORKERS};
use crate::predictions::{P99_TOLERANCE, mixed_p99_ms};
use crate::scenario::{CLIENTS, check_counters, generator_note, line};
use crate::spread::Spread;

const REFERENCE: Kind = Kind::Steered("least-loaded");

const KINDS: [Kind; 13] = [
    REFERENCE,
    Kind::Steered("round-robin"),
    Kind::Steered("sticky"),
    Kind::Steered("hash"),
    Kind::Plain,
    Kind::NodeCluster,
    Kind::Pm2Cluster,
    Kind::Nginx,
    Kind::Haproxy,
    Kind::HaproxyOne,
    Kind::Gunicorn,
    Kind::Pm2Bun,
    Kind::SteeredBun,
];

/// Better than each of these is the target.
const TO_BEAT: [Kind; 4] = [Kind::Plain, Kind::NodeCluster, Kind::Pm2Cluster, Kind::Haproxy];

/// A generator that is later than this, at its 99th percentile, shows that the machine stood still: the round says nothing about its peer.
const LATE_MS: f64 = 20.0;
const REPEATS: u32 = 2;

const EXPLANATION: &str = "Peers are of two kinds. Most choose a worker when a connection *arrives*: by hash, in turn, or by the connections that \
     each has. With some, connections wait together until a worker is *free*: gunicorn's workers accept from one listener, HAProxy with `maxconn 1` keeps \
     them, and so does Node's cluster, in PM2 too, whose primary hands a worker the next connection only after it has taken the one before (which the \
     prediction overlooked). A choice on arrival can't know which of two workers with one connection each has the long request, so where work \
     is this uneven and workers do one thing at a time, one queue for all is better than any steering; what it costs is a process through which everything goes, \
     or a listener that can't be drained by worker.";

const SHORT_MS: f64 = 1.0;
const LONG_MS: f64 = 100.0;
const LONG_SHARE: f64 = 0.1;
const LOAD: f64 = 0.7;

/// What a worker does for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    /// It sleeps: busy, without using a core, so that four fit on two
    Block,
    /// It computes: four fully loaded workers want more than two cores
    Spin,
}

/// One peer, and the samples of each of its rounds.
struct Measured {
    peer: Peer,
    rounds: Vec<Vec<Sample>>,
}

impl Measured {
    fn all(&self) -> impl Iterator<Item = &Sample> {
        self.rounds.iter().flatten()
    }

    fn p99_ms(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| Latencies::of(round).ms(0.99)).collect()
    }
}

/// Measures all peers, and writes the report.
///
/// # Errors
/// When a peer does not start or a file can't be written; a failed request is a number in the report.
pub(crate) fn measure(setting: &Setting, work: Work, only: &str) -> anyhow::Result<()> {
    let mut document = Document::begin("mixed", "Short and long requests at 70 % load")?;
    let (rounds, seconds) = if setting.quick { (2, 2.0) } else { (5, 5.0) };
    let _namespace = Namespace::enter();
    let mut measured = (0..)
        .zip(
            KINDS
                .into_iter()
                .filter(|kind| *kind == REFERENCE || kind.name().contains(only)),
        )
        .map(|(place, kind)| {
            Ok(Measured {
                peer: kind.start(place)?,
                rounds: Vec::new(),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut repeated = 0;
    for round in 0..rounds {
        // Another one begins each time, and the neighbours stay together no longer than two rounds.
        let first = usize::try_from(round)? * 5 % measured.len();
        for nth in 0..measured.len() {
            let at = (first + nth) % measured.len();
            let one = &mut measured[at];
            eprintln!("    round {round}: {}", one.peer.kind.name());
            let mut samples = Load::run(&plan(&one.peer, work, round, seconds))?;
            for _ in 0..REPEATS {
                if lateness_ms(&samples).1 <= LATE_MS {
                    break;
                }
                repeated += 1;
                samples = Load::run(&plan(&one.peer, work, round, seconds))?;
            }
            one.rounds.push(samples);
        }
    }
    for one in &measured {
        check_counters(&one.peer)?;
    }
    write(&mut document, setting, work, &measured, repeated)?;
    document.finish(setting)
}

/// The same arrivals for every peer of a round.
fn plan(peer: &Peer, work: Work, round: u64, seconds: f64) -> Plan {
    let path = |ms: f64| match work {
        Work::Block => format!("/block/{ms}"),
        Work::Spin => format!("/spin/{ms}"),
    };
    Plan {
        target: peer.address,
        start_ns: clock::soon_ns(),
        seconds,
        rate: rate(),
        seed: round + 1,
        mix: vec![
            Class::new(&path(SHORT_MS), 1.0 - LONG_SHARE),
            Class::new(&path(LONG_MS), LONG_SHARE),
        ],
        clients: CLIENTS,
        patience_ms: 30_000,
    }
}

/// Requests per second.
fn rate() -> f64 {
    let mean_ms = SHORT_MS * (1.0 - LONG_SHARE) + LONG_MS * LONG_SHARE;
    LOAD * WORKERS as f64 * 1000.0 / mean_ms
}

fn write(
    document: &mut Document,
    setting: &Setting,
    work: Work,
    measured: &[Measured],
    repeated: u32,
) -> anyhow::Result<()> {
    let reference = measured
        .iter()
        .find(|one| one.peer.kind == REFERENCE)
        .map(Measured::p99_ms)
        .unwrap_or_default();
    let rounds = reference.len();
    let doing = match work {
        Work::Block => "sleeps for so long on its only thread (so it is busy, and four of them fit on two cores)",
        Work::Spin => "computes for so long on its only thread",
    };
    let mut rows = Vec::new();
    for one in measured {
        let name = one.peer.kind.name();
        let all = Latencies::of(one.all());
        let ratios: Vec<f64> = one
            .p99_ms()
            .iter()
            .zip(&reference)
            .map(|(p99, base)| p99 / base)
            .collect();
        let ratio = Spread::of(&ratios);
        let (low, high) = ratio.confidence;
        let predicted = mixed_p99_ms(name);
        let hit = predicted.is_some_and(|predicted| (all.ms(0.99) - predicted).abs() <= P99_TOLERANCE * predicted);
        if TO_BEAT.contains(&one.peer.kind) {
            document.targets.push(Target {
                what: format!("mixed durations at 70 % load: p99 of {name} over that of least-loaded"),
                goal: "> 1 (least-loaded is better)".to_owned(),
                measured: format!("{:.2}, 95 %: {low:.2} … {high:.2}", ratio.median),
                reached: ratio.reaches(1.0),
            });
        }
        rows.push(vec![
            name.to_owned(),
            format!("{:.1}", all.ms(0.5)),
            format!("{:.1}", all.ms(0.9)),
            format!("{:.0}", all.ms(0.99)),
            format!("{:.0}", all.ms(0.999)),
            Spread::of(&one.p99_ms()).shown(0),
            format!("{} | {low:.2} … {high:.2}", ratio.shown(2)),
            predicted.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}")),
            foretold(hit).to_owned(),
            all.failures_shown(),
        ]);
    }
    let requests = measured.first().map_or(0, |one| one.all().count());
    document.paragraph("## Latency");
    document.paragraph(&format!(
        "{WORKERS} workers with one thread each; {:.0} % of the requests take {SHORT_MS} ms and {:.0} % take {LONG_MS} ms, for which the worker {doing}. \
         {:.0} requests a second, each on a connection of its own, is {:.0} % of what four workers can do. {rounds} rounds, in which every peer \
         meets the same arrivals, {requests} requests to each in all; all peers run all the time, one is asked at a time. Percentiles, in \
         milliseconds, are of all rounds together; *p99 per round* and the ratios within a round are medians with quartiles.",
        100.0 * (1.0 - LONG_SHARE),
        100.0 * LONG_SHARE,
        rate(),
        100.0 * LOAD,
    ));
    let ratio_head = format!("p99 ÷ that of {}", REFERENCE.name());
    document.table(
        &[
            "",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "p99 per round",
            &ratio_head,
            "95 %",
            "predicted p99",
            "",
            "failed",
        ],
        &rows,
    );
    document.paragraph(&format!(
        "A prediction is missed when it is off by more than {:.0} %. {} A round in which its 99 % was above {LATE_MS} ms was repeated, at most \
         {REPEATS} times ({repeated} repetitions in this run): then the machine had stood still.",
        100.0 * P99_TOLERANCE,
        generator_note(measured.iter().flat_map(Measured::all))
    ));
    document.paragraph(EXPLANATION);
    document.paragraph("![Latency percentiles](mixed-latency.svg)");
    document.paragraph("## Share of the requests per worker");
    document.paragraph("A quarter each would be even; one bar per worker, the busiest first. Requests are not load: who has a long one should get fewer.");
    document.paragraph("![Share per worker](mixed-share.svg)");
    plots(setting, measured)
}

fn plots(setting: &Setting, measured: &[Measured]) -> anyhow::Result<()> {
    LinePlot {
        title: "Latency with short and long requests at 70 % load".to_owned(),
        x: Axis::new("share of the requests", Scale::Percentile),
        y: Axis::new("latency, ms", Scale::Log),
        lines: measured
            .iter()
            .map(|one| line(one.peer.kind.name(), Latencies::of(one.all()).curve()))
            .collect(),
        marks: Vec::new(),
    }
    .write(&setting.output.join("mixed-latency.svg"))?;
    BarPlot {
        title: "Share of the requests per worker".to_owned(),
        label: "% of all requests".to_owned(),
        groups: measured
            .iter()
            .map(|one| {
                let counts = answers_by_worker(one.all());
                let sum: usize = counts.iter().sum();
                BarGroup {
                    name: one.peer.kind.name().to_owned(),
                    values: counts
                        .iter()
                        .map(|&count| 100.0 * count as f64 / sum.max(1) as f64)
                        .collect(),
                }
            })
            .collect(),
        reference: Some(100.0 / WORKERS as f64),
    }
    .write(&setting.output.join("mixed-share.svg"))?;
    Ok(())
}
