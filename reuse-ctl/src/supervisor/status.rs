//! The answer to `status`.

use crate::{
    base::SlotId,
    group::diag::Diag,
    process::{
        cgroup::InstanceCgroup,
        usage::{self, Usage},
    },
    wire::{GroupStatus, Verdicts, WorkerStatus},
};
use reuse_common::verdict::{Verdict, VerdictCounts};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Remembers the last look at each slot's CPU usage: a percentage needs two looks.
#[derive(Debug, Default)]
pub(crate) struct UsageMeter {
    last: HashMap<SlotId, (Instant, Usage, f64)>,
}

/// Looks at shorter intervals would only show the clock's ticks, so the last result is shown again.
const METER_EVERY: Duration = Duration::from_millis(200);

impl UsageMeter {
    fn measure(&mut self, slot: SlotId, now: Usage) -> f64 {
        let at = Instant::now();
        let percent = match self.last.get(&slot) {
            Some((before, _, percent)) if at - *before < METER_EVERY => return *percent,
            Some((before, usage, _)) => usage::cpu_percent(*usage, now, at - *before),
            None => 0.0,
        };
        self.last.insert(slot, (at, now, percent));
        percent
    }
}

pub(crate) fn verdicts(counts: &VerdictCounts) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for verdict in Verdict::ALL {
        *match verdict {
            Verdict::Chosen => &mut verdicts.chosen,
            Verdict::Directed => &mut verdicts.directed,
            Verdict::Parked => &mut verdicts.parked,
            Verdict::Refused => &mut verdicts.refused,
            Verdict::Migrated => &mut verdicts.migrated,
            Verdict::Fallback => &mut verdicts.fallback,
        } = counts.get(verdict);
    }
    verdicts
}

/// Counts the pending handshakes of each group. Both slices are in the order of the groups.
pub(crate) fn add_handshakes(groups: &mut [GroupStatus], addresses: &[SocketAddr]) {
    let Ok(mut diag) = Diag::new() else { return };
    for (group, addr) in groups.iter_mut().zip(addresses) {
        // A listener on all addresses gets the handshakes to each of them.
        let is_its = |local: &SocketAddr| addr.ip().is_unspecified() || local.ip() == addr.ip();
        let handshakes = diag.handshakes(addr.port()).unwrap_or_default();
        group.handshakes = handshakes
            .iter()
            .filter(|(local, _)| is_its(local))
            .map(|(_, count)| count)
            .sum();
    }
}

/// Measures the usage of each slot's processes. Both slices are in slot order.
pub(crate) fn add_usage(workers: &mut [WorkerStatus], cgroups: &[Vec<Arc<InstanceCgroup>>], meter: &Mutex<UsageMeter>) {
    let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
    for (worker, cgroups) in workers.iter_mut().zip(cgroups) {
        let pids: Vec<u32> = cgroups
            .iter()
            .flat_map(|cgroup| cgroup.pids().unwrap_or_default())
            .collect();
        let usage = usage::usage(&pids);
        worker.cpu_percent = meter.measure(SlotId(worker.id), usage);
        worker.memory_bytes = usage.resident_bytes;
    }
}
