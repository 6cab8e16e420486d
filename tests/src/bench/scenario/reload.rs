//! All four workers are replaced, the way each peer does that, while requests go on coming.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use reuse_tests::binaries::node24;
use reuse_tests::plot::{Axis, LinePlot, Scale};
use reuse_tests::{Namespace, kernel, wait};

use crate::clock;
use crate::document::{Document, Setting, Target, foretold};
use crate::latency::{Latencies, answers_by_worker, over_time};
use crate::load::Load;
use crate::load::plan::{Class, Plan};
use crate::load::sample::Sample;
use crate::peers::{self, Kind, Peer, Running, WORKERS};
use crate::predictions::{RELOAD_TARGET, reload_failures};
use crate::process::{self, Server};
use crate::scenario::{CLIENTS, check_counters, generator_note, line};
use crate::spread::Spread;

const REFERENCE: Kind = Kind::Steered("least-loaded");
const KINDS: [Kind; 4] = [REFERENCE, Kind::Plain, Kind::Pm2Cluster, Kind::Gunicorn];

const RATE: f64 = 600.0;

/// How long a new process may take until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(20);

/// Failures are shown per so many milliseconds.
const SPAN_MS: u64 = 100;

/// One reload.
struct Run {
    kind: Kind,
    took_s: f64,
    samples: Vec<Sample>,
}

/// Measures, and writes the report.
///
/// # Errors
/// When a peer does not start, a reload fails, or a file can't be written; a failed request is a number in the report.
pub(crate) fn measure(setting: &Setting) -> anyhow::Result<()> {
    let mut document = Document::begin("reload", "All workers replaced under load")?;
    let (rounds, before_s, seconds) = if setting.quick { (1, 1.0, 8.0) } else { (3, 1.0, 9.0) };
    let _namespace = Namespace::enter();
    let mut peers = (0..)
        .zip(KINDS)
        .map(|(place, kind)| kind.start(place))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut runs = Vec::new();
    for round in 0..rounds {
        for nth in 0..peers.len() {
            let at = (usize::try_from(round)? + nth) % peers.len();
            runs.push(run(&mut peers[at], round, before_s, seconds)?);
        }
    }
    for peer in &peers {
        check_counters(peer)?;
    }
    write(&mut document, setting, before_s, &runs)?;
    document.finish(setting)
}

fn run(peer: &mut Peer, round: u64, before_s: f64, seconds: f64) -> anyhow::Result<Run> {
    eprintln!("    round {round}: {}", peer.kind.name());
    let start_ns = clock::soon_ns();
    let load = Load::start(&Plan {
        target: peer.address,
        start_ns,
        seconds,
        rate: RATE,
        seed: round + 1,
        mix: vec![Class::new("/block/1", 1.0)],
        clients: CLIENTS,
        patience_ms: 15_000,
    })?;
    clock::sleep_until(start_ns + clock::nanoseconds(before_s));
    let begun = clock::now_ns();
    reload(peer).with_context(|| format!("reload {}", peer.kind.name()))?;
    let took_s = (clock::now_ns() - begun) as f64 / 1e9;
    let samples = load.finish()?;
    let answered_by = answers_by_worker(&samples).len();
    ensure!(
        answered_by > WORKERS,
        "{}: {answered_by} processes answered: nothing was replaced",
        peer.kind.name()
    );
    Ok(Run {
        kind: peer.kind,
        took_s,
        samples,
    })
}

/// Replaces all workers, as a person would.
fn reload(peer: &mut Peer) -> anyhow::Result<()> {
    let log = peer.log();
    let port = peer.address.port();
    match (&mut peer.running, peer.kind) {
        (Running::App(app), _) => {
            app.ctl(&["reload"]).expect_code(0);
        }
        (Running::Pm2(pm2), _) => pm2.reload()?,
        // Its master starts new workers and ends the old ones.
        (Running::Servers(servers), Kind::Gunicorn) => {
            let master = servers.first().context("gunicorn runs")?.pid();
            process::signal(master, Signal::SIGHUP)?;
        }
        // One after the other: ended cleanly, started again, and listening before the next one's turn comes.
        (Running::Servers(servers), _) => {
            for server in servers {
                server.end()?;
                *server = Server::start(&peers::server(node24(), port), &log)?;
                wait::poll(LISTEN_LIMIT, || {
                    (kernel::listeners(port).len() == WORKERS).then_some(())
                })
                .context("the new process does not listen")?;
            }
        }
    }
    Ok(())
}

fn of(runs: &[Run], kind: Kind) -> impl Iterator<Item = &Run> {
    runs.iter().filter(move |run| run.kind == kind)
}

fn write(document: &mut Document, setting: &Setting, before_s: f64, runs: &[Run]) -> anyhow::Result<()> {
    document.paragraph(&format!(
        "Four workers, {RATE} requests a second of 1 ms each, every one on a connection of its own; after {before_s} s all workers are replaced: \
         `reuse-ctl reload`, `pm2 reload` (cluster mode, `wait_ready`), SIGHUP to gunicorn's master, and for plain `SO_REUSEPORT` by hand: \
         SIGTERM, wait for its end, start it again, wait until it listens, then the next. The server closes cleanly on the signal. The same \
         arrivals for everybody."
    ));
    let mut rows = Vec::new();
    for kind in KINDS {
        let all = Latencies::of(of(runs, kind).flat_map(|run| &run.samples));
        let reloads = of(runs, kind).count();
        let took: Vec<f64> = of(runs, kind).map(|run| run.took_s).collect();
        let each = all.failed() as f64 / reloads.max(1) as f64;
        let predicted = reload_failures(kind.name());
        let hit = predicted.is_some_and(|predicted| (predicted - each).abs() <= predicted);
        rows.push(vec![
            kind.name().to_owned(),
            reloads.to_string(),
            if kind == Kind::Gunicorn {
                "–".to_owned()
            } else {
                Spread::of(&took).shown(1)
            },
            all.requests.to_string(),
            all.failures_shown(),
            format!("{each:.1}"),
            predicted.map_or_else(|| "–".to_owned(), |count| format!("{count}")),
            foretold(hit).to_owned(),
            format!("{:.1}", all.ms(0.5)),
            format!("{:.0}", all.ms(0.99)),
            format!("{:.0}", all.longest_ms()),
        ]);
        if kind == REFERENCE {
            document.targets.push(Target {
                what: format!("failures in {reloads} reloads under load, {}", kind.name()),
                goal: RELOAD_TARGET.to_string(),
                measured: format!("{} of {}", all.failed(), all.requests),
                reached: Some(all.failed() == RELOAD_TARGET),
            });
        }
    }
    document.table(
        &[
            "",
            "reloads",
            "a reload takes, s",
            "requests",
            "failed",
            "per reload",
            "predicted",
            "",
            "p50, ms",
            "p99, ms",
            "longest, ms",
        ],
        &rows,
    );
    document.paragraph("A prediction of 0 is missed by any failure, another one when it is off by more than itself. SIGHUP returns at once, so gunicorn has no time.");
    document.paragraph(&generator_note(runs.iter().flat_map(|run| &run.samples)));
    document.paragraph("![Failures over time](reload-failures.svg)");
    document.paragraph("![Latency over time](reload-latency.svg)");
    plots(setting, before_s, runs)
}

fn plots(setting: &Setting, before_s: f64, runs: &[Run]) -> anyhow::Result<()> {
    let lines = |sum: &dyn Fn(&[&Sample]) -> f64| {
        KINDS
            .iter()
            .map(|kind| {
                let samples: Vec<Sample> = of(runs, *kind).flat_map(|run| run.samples.iter().copied()).collect();
                line(kind.name(), over_time(&samples, SPAN_MS, sum))
            })
            .collect()
    };
    let x = Axis::new("when the request was to be sent, s", Scale::Linear);
    let marks = vec![(before_s, "reload".to_owned())];
    LinePlot {
        title: format!("Failures per {SPAN_MS} ms around a reload, all rounds together"),
        x: x.clone(),
        y: Axis::new("failed requests", Scale::Linear),
        lines: lines(&|samples| samples.iter().filter(|sample| !sample.outcome.is_answer()).count() as f64),
        marks: marks.clone(),
    }
    .write(&setting.output.join("reload-failures.svg"))?;
    LinePlot {
        title: format!("Latency around a reload, 99th percentile per {SPAN_MS} ms, all rounds together"),
        x,
        y: Axis::new("latency, ms", Scale::Log),
        lines: lines(&|samples| Latencies::of(samples.iter().copied()).ms(0.99)),
        marks,
    }
    .write(&setting.output.join("reload-latency.svg"))?;
    Ok(())
}
