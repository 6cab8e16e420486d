//! The answer to `status`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use reuse_common::verdict::Verdict;

use super::{
    core::SlotView,
    interface::{Millis, SlotId},
    task::Task,
};
use crate::{
    api::types::{FaultStatus, GroupStatus, InstanceStatus, Status, Verdicts, WorkerStatus},
    group::{diag::Listener, discover},
    process::usage::{self, Usage},
};

/// Remembers the last look at each slot's processor use: a percentage needs two.
#[derive(Debug, Default)]
pub(super) struct UsageMeter {
    last: HashMap<SlotId, (Instant, Usage, f64)>,
}

/// Looks closer together than this would only show the clock's ticks: the last result is shown again.
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

impl Task {
    pub(super) fn status(&mut self) -> Status {
        let now = self.now();
        let listeners = self.diag.listeners().unwrap_or_default();
        let groups = self.group_statuses(&listeners);
        let view = self.core.view();
        let workers: Vec<WorkerStatus> = view
            .slots
            .iter()
            .map(|slot| self.worker_status(slot, now, &listeners))
            .collect();
        let unsteered = view
            .slots
            .iter()
            .map(|slot| self.groups.counters(slot.id.0).unsteered)
            .sum();
        Status {
            app: self.template.app.clone(),
            policy: view.policy.name().into(),
            pid: std::process::id(),
            uptime_s: now.0 / 1000,
            drain_timeout_ms: Some(self.template.drain_timeout_ms),
            fallbacks: groups.iter().map(|group| group.verdicts.fallback).sum(),
            groups,
            unsteered,
            workers,
        }
    }

    fn group_statuses(&mut self, listeners: &[Listener]) -> Vec<GroupStatus> {
        let views = self.groups.views().unwrap_or_default();
        let strangers = self.strangers_by_address(listeners);
        views
            .into_iter()
            .map(|view| {
                let handshakes = self.diag.handshakes(view.addr.port()).unwrap_or_default();
                // A listener on all addresses has the handshakes of each.
                let is_its =
                    |local: &std::net::SocketAddr| view.addr.ip().is_unspecified() || local.ip() == view.addr.ip();
                let get = |verdict| view.verdicts.get(verdict);
                GroupStatus {
                    addr: view.addr.to_string(),
                    protocol: "tcp".into(),
                    handshakes: handshakes
                        .iter()
                        .filter(|(local, _)| is_its(local))
                        .map(|(_, count)| count)
                        .sum(),
                    parked: view.parked,
                    verdicts: Verdicts {
                        chosen: get(Verdict::Chosen),
                        directed: get(Verdict::Directed),
                        parked: get(Verdict::Parked),
                        refused: get(Verdict::Refused),
                        migrated: get(Verdict::Migrated),
                        fallback: get(Verdict::Fallback),
                    },
                    strangers: strangers
                        .iter()
                        .filter(|(addr, _)| *addr == view.addr)
                        .map(|(_, who)| who.clone())
                        .collect(),
                }
            })
            .collect()
    }

    fn strangers_by_address(&self, listeners: &[Listener]) -> Vec<(std::net::SocketAddr, String)> {
        let strangers = self.groups.strangers(listeners).into_iter();
        strangers
            .filter(|(_, listener)| !self.is_ours(listener))
            .map(|(addr, listener)| {
                let who = discover::owner_of_inode(listener.inode).map(|(pid, command)| format!("{pid} ({command})"));
                (addr, who.unwrap_or_else(|| "a process that is gone".into()))
            })
            .collect()
    }

    fn worker_status(&mut self, slot: &SlotView, now: Millis, listeners: &[Listener]) -> WorkerStatus {
        let mut instances = Vec::new();
        let mut pids = Vec::new();
        for instance in &slot.instances {
            let (Some(live), Some(pid)) = (self.live.get(&instance.id), instance.pid) else {
                continue;
            };
            pids.extend(live.pids());
            instances.push(InstanceStatus {
                pid,
                state: instance.state,
                connections: self.groups.load_of(live.row).established(),
                queue: self.groups.queue_of(live.row, listeners),
            });
        }
        let usage = usage::usage(&pids);
        let queue: u32 = instances.iter().map(|instance| instance.queue).sum();
        let counters = self.groups.counters(slot.id.0);
        let arrived = counters.established + counters.migrated_in;
        WorkerStatus {
            id: slot.id.0,
            pid: slot.pid,
            state: slot.state,
            uptime_s: slot.started_at.map_or(0, |started| now.since(started) / 1000),
            restarts: slot.restarts,
            connections: instances.iter().map(|instance| instance.connections).sum(),
            queue,
            selected_total: counters.selected,
            established_total: counters.established,
            accepted_total: arrived.saturating_sub(counters.migrated_out + u64::from(queue)),
            migrated_in_total: counters.migrated_in,
            migrated_out_total: counters.migrated_out,
            cpu_percent: self.meter.measure(slot.id, usage),
            memory_bytes: usage.resident_bytes,
            instances,
            published: slot.published,
            fault: slot.fault.as_ref().map(|fault| FaultStatus {
                kind: fault.kind,
                for_ms: now.since(fault.since),
                withdrawn: fault.withdrawn,
                reason: fault.reason.clone(),
            }),
            weight: slot.share.map(|share| share.to_string()),
            canary: slot.canary,
            reason: slot.reason.clone(),
        }
    }
}
