//! The scenarios of the open-loop load and of the idle controller.

pub(crate) mod hung;
pub(crate) mod idle;
pub(crate) mod mixed;
pub(crate) mod reload;

use anyhow::ensure;
use reuse_tests::plot::Series;

use crate::latency::lateness_ms;
use crate::load::sample::Sample;
use crate::peers::{Peer, Running};

/// From how many addresses the requests come.
const CLIENTS: u16 = 1000;

/// What every report says of its generator.
fn generator_note<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> String {
    let (median, p99, most) = lateness_ms(samples);
    format!(
        "The generator itself was late by {median:.2} ms (median), {p99:.2} ms (99 %), {most:.1} ms (most); that is a part of the latencies."
    )
}

/// Fails when a program under `reuse-ctl` could not choose: the numbers would not be those of steering.
fn check_counters(peer: &Peer) -> anyhow::Result<()> {
    if let Running::App(app) = &peer.running {
        let status = app.status();
        ensure!(
            status.fallbacks == 0,
            "{}: {} fallbacks",
            peer.kind.name(),
            status.fallbacks
        );
    }
    Ok(())
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.to_owned(),
        points,
    }
}
