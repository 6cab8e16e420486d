//! The answer to `status`.

use super::{left_out::LeftOutListeners, live::Live, sockets::Sockets};
use crate::{
    app::options::RunOptions,
    base::{InstanceId, Millis, SlotId, whole_ms::whole_ms},
    group::{Groups, diag::Diag},
    process::{
        cgroup::InstanceCgroup,
        usage::{self, Usage},
    },
    wire::{FaultStatus, GroupStatus, InstanceStatus, Status, Verdicts, WorkerStatus},
};
use reuse_common::{
    ids::Row,
    load::InstanceTotals,
    verdict::{Verdict, VerdictCounts},
};
use reuse_machine::{SlotView, View};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

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

/// What an answer is made of.
pub(crate) struct Sources<'a> {
    pub(crate) view: &'a View,
    pub(crate) now: Millis,
    pub(crate) live: &'a HashMap<InstanceId, Live>,
    pub(crate) groups: &'a Groups,
    /// Of all instances, as they were a moment ago.
    pub(crate) queues: BTreeMap<Row, u32>,
    pub(crate) sockets: &'a Sockets,
    pub(crate) left_out: &'a LeftOutListeners,
}

impl Sources<'_> {
    /// Answers with how things are now. What has to be read from files, or takes a walk through the kernel's connections, is added beside the
    /// task.
    pub(crate) fn answer(
        &self,
        app: &str,
        problem: Option<String>,
        options: &RunOptions,
        meter: &Arc<Mutex<UsageMeter>>,
        reply: oneshot::Sender<Status>,
    ) {
        let slots = self.view.slots.iter();
        let workers = slots.clone().map(|slot| self.worker_status(slot)).collect();
        let unsteered = slots.clone().map(|slot| self.groups.totals(slot.id).unsteered).sum();
        let cgroups: Vec<_> = slots.map(|slot| self.cgroups_of(slot)).collect();
        let groups = self.group_statuses();
        let addresses = self.groups.addresses();
        let mut status = Status {
            problem,
            app: app.into(),
            policy: self.view.policy.name().into(),
            pid: std::process::id(),
            uptime_s: self.now.0 / 1000,
            drain_timeout_ms: Some(whole_ms(options.stop.drain_timeout)),
            fallbacks: groups.iter().map(|group| group.verdicts.fallback).sum(),
            groups,
            unsteered,
            workers,
        };
        let meter = Arc::clone(meter);
        tokio::task::spawn_blocking(move || {
            add_handshakes(&mut status.groups, &addresses);
            add_usage(&mut status.workers, &cgroups, &meter);
            // The client has gone away; so be it.
            drop(reply.send(status));
        });
    }

    fn group_statuses(&self) -> Vec<GroupStatus> {
        let views = self.groups.views().unwrap_or_default().into_iter();
        views
            .map(|view| GroupStatus {
                addr: view.addr.to_string(),
                protocol: "tcp".into(),
                handshakes: 0,
                parked: view.parked,
                verdicts: verdicts(&view.verdicts),
                strangers: self.sockets.strangers_on(view.addr),
            })
            .collect()
    }

    fn cgroups_of(&self, slot: &SlotView) -> Vec<Arc<InstanceCgroup>> {
        let instances = slot.instances.iter().filter_map(|instance| self.live.get(&instance.id));
        instances.map(|live| Arc::clone(&live.cgroup)).collect()
    }

    fn worker_status(&self, slot: &SlotView) -> WorkerStatus {
        let mut instances = Vec::new();
        for instance in &slot.instances {
            let (Some(live), Some(pid)) = (self.live.get(&instance.id), instance.pid) else {
                continue;
            };
            instances.push(InstanceStatus {
                pid,
                state: instance.state,
                connections: self.groups.load_of(live.row).established(),
                queue: self.queues.get(&live.row).copied().unwrap_or(0),
                left_out: self.left_out.of(instance.id),
            });
        }
        let queue: u32 = instances.iter().map(|instance| instance.queue).sum();
        let InstanceTotals {
            selected,
            established,
            migrated_in,
            migrated_out,
            // Shown for the whole app.
            unsteered: _,
            // The controller's own.
            directed: _,
        } = self.groups.totals(slot.id);
        let arrived = established + migrated_in;
        WorkerStatus {
            id: slot.id.0,
            pid: slot.pid,
            state: slot.state,
            uptime_s: slot.started_at.map_or(0, |started| self.now.since(started) / 1000),
            restarts: slot.restarts,
            connections: instances.iter().map(|instance| instance.connections).sum(),
            queue,
            selected_total: selected,
            established_total: established,
            accepted_total: arrived.saturating_sub(migrated_out + u64::from(queue)),
            migrated_in_total: migrated_in,
            migrated_out_total: migrated_out,
            cut_total: slot.cut.connections().into(),
            cut_in_flight_total: slot.cut.in_flight.into(),
            cpu_percent: 0.0,
            memory_bytes: 0,
            instances,
            published: slot.published,
            fault: slot.fault.as_ref().map(|fault| FaultStatus {
                kind: fault.kind,
                for_ms: self.now.since(fault.since),
                withdrawn: fault.withdrawn,
                reason: fault.reason.clone(),
            }),
            weight: slot.share.map(|share| share.to_string()),
            canary: slot.canary,
            status_text: slot
                .current
                .and_then(|id| self.live.get(&id))
                .and_then(|live| live.status_text.clone()),
            reason: slot.reason.clone(),
        }
    }
}

fn verdicts(counts: &VerdictCounts) -> Verdicts {
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
fn add_handshakes(groups: &mut [GroupStatus], addresses: &[SocketAddr]) {
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
fn add_usage(workers: &mut [WorkerStatus], cgroups: &[Vec<Arc<InstanceCgroup>>], meter: &Mutex<UsageMeter>) {
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
