//! What a connection costs in all, one part of the steering after the other: each step has what the step before has, and one thing more.
//!
//! CPU time of this process, which is client and server at once, and in whose context the kernel does the rest. The statistics must
//! be off: they cost as much as what is looked for.

use std::io;

use anyhow::Context as _;
use reuse_common::Policy;

use crate::{
    WARM_UP,
    bed::Bed,
    clients::Clients,
    group::{Chooser, Group, Traffic},
};

/// Per step and round: a few milliseconds, shorter than the machine's moods.
const CONNECTIONS: usize = 128;

/// The size of every group here.
const WORKERS: u16 = 4;

/// One step, and nanoseconds per connection in each round.
pub(crate) struct Step {
    pub(crate) adds: &'static str,
    pub(crate) ns: Vec<f64>,
}

/// Climbs the ladder `rounds` times.
pub(crate) fn measure(bed: &mut Bed, rounds: usize) -> anyhow::Result<Vec<Step>> {
    // Outside of the app's cgroup, where `track` does not see them.
    let mut compared = |chooser| Group::compared(&mut bed.app, None, chooser, WORKERS, Traffic::Connections);
    let unsteered = compared(Chooser::Kernel)?;
    let with_program = compared(Chooser::Empty)?;
    let mut steps = [
        "plain SO_REUSEPORT",
        "+ an empty program",
        "+ `track`",
        "+ `select`, round-robin",
        "the same with sticky",
    ]
    .map(|adds| Step { adds, ns: Vec::new() });
    let clients = Clients::known(WORKERS);
    let clients: Vec<_> = clients.into_iter().cycle().take(CONNECTIONS).collect();
    for _ in 0..rounds {
        for (nth, step) in steps.iter_mut().enumerate() {
            bed.app
                .set_policy(if nth == 4 { Policy::Sticky } else { Policy::RoundRobin })?;
            let group = match nth {
                0 => &unsteered,
                1 => &with_program,
                2 => bed.group(WORKERS, Traffic::Connections, Chooser::Empty),
                _ => bed.group(WORKERS, Traffic::Connections, Chooser::Ours),
            };
            group.send(&clients[..WARM_UP])?;
            let before = cpu_ns()?;
            group.send(&clients)?;
            step.ns.push((cpu_ns()? - before) / CONNECTIONS as f64);
        }
    }
    Ok(steps.into())
}

/// CPU time of this process so far. (`/proc/self/schedstat` is as old as the last tick: useless for spans of milliseconds.)
fn cpu_ns() -> anyhow::Result<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("clock_gettime");
    }
    Ok(time.tv_sec as f64 * 1e9 + time.tv_nsec as f64)
}
