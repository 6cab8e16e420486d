//! What a connection costs in all, one part of the steering after the other: each step has what the step before has, and one thing more.
//!
//! CPU time of this process, which is client and server at once, and in whose context the kernel does the rest. The statistics must
//! be off: they cost as much as what is looked for.

use std::fs;

use anyhow::Context as _;
use reuse_common::Policy;

use crate::{
    WARM_UP,
    bed::Bed,
    clients::Clients,
    group::{Group, Traffic},
};

/// The size of every group here.
const WORKERS: u16 = 4;

/// One step, and nanoseconds per connection in each round.
pub(crate) struct Step {
    pub(crate) adds: &'static str,
    pub(crate) ns: Vec<f64>,
}

/// Climbs the ladder `rounds` times.
pub(crate) fn measure(bed: &mut Bed, rounds: usize, connections: usize) -> anyhow::Result<Vec<Step>> {
    // Outside of the app's cgroup, where `track` does not see them.
    let unsteered = Group::unsteered(WORKERS)?;
    let with_program = Group::empty(&mut bed.app, WORKERS, Traffic::Connections, false)?;
    let with_stamps = Group::empty(&mut bed.app, WORKERS, Traffic::Connections, true)?;
    let mut steps = [
        "plain SO_REUSEPORT",
        "+ an empty program",
        "+ stamps that connections inherit",
        "+ `track`",
        "+ `select`, round-robin",
        "the same with sticky",
    ]
    .map(|adds| Step { adds, ns: Vec::new() });
    let clients = Clients::known(WORKERS);
    let clients: Vec<_> = clients.into_iter().cycle().take(connections).collect();
    for _ in 0..rounds {
        for (nth, step) in steps.iter_mut().enumerate() {
            bed.app
                .set_policy(if nth == 5 { Policy::Sticky } else { Policy::RoundRobin })?;
            let group = match nth {
                0 => &unsteered,
                1 => &with_program,
                2 => &with_stamps,
                3 => bed.group(WORKERS, Traffic::Connections, true),
                _ => bed.group(WORKERS, Traffic::Connections, false),
            };
            group.send(&clients[..WARM_UP.min(connections)])?;
            let before = cpu_ns()?;
            group.send(&clients)?;
            step.ns.push((cpu_ns()? - before) as f64 / connections as f64);
        }
    }
    Ok(steps.into())
}

/// Nanoseconds that this thread, the only one, has been on a core.
fn cpu_ns() -> anyhow::Result<u64> {
    let path = "/proc/self/schedstat";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().with_context(|| format!("{path} starts with a number"))
}
