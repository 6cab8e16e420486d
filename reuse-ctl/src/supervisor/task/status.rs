//! What the task does about [`status`](crate::supervisor::status).

use crate::supervisor::status::*;
use crate::supervisor::task::Task;
use crate::{
    base::Millis,
    process::cgroup::InstanceCgroup,
    supervisor::preparing,
    wire::{FaultStatus, GroupStatus, InstanceStatus, Status, WorkerStatus},
};
use reuse_common::ids::Row;
use reuse_machine::SlotView;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;

impl Task {
    /// Answers with how things are now. What has to be read from files, or takes a walk through the kernel's connections, is added
    /// beside the task.
    pub(crate) fn status(&mut self, reply: oneshot::Sender<Status>) {
        let now = self.now();
        let queues = self.groups.queues(&mut self.diag).unwrap_or_default();
        let view = self.machine.view();
        let slots = view.slots.iter();
        let workers = slots
            .clone()
            .map(|slot| self.worker_status(slot, now, &queues))
            .collect();
        let unsteered = slots.clone().map(|slot| self.groups.counters(slot.id).unsteered).sum();
        let cgroups: Vec<_> = slots.map(|slot| self.cgroups_of(slot)).collect();
        let groups = self.group_statuses();
        let addresses = self.groups.addresses();
        let status = Status {
            problem: self.problem(&view),
            app: self.template.app.clone(),
            policy: view.policy.name().into(),
            pid: std::process::id(),
            uptime_s: now.0 / 1000,
            drain_timeout_ms: Some(preparing::rules(self.options()).drain_timeout_ms),
            fallbacks: groups.iter().map(|group| group.verdicts.fallback).sum(),
            groups,
            unsteered,
            workers,
        };
        let meter = Arc::clone(&self.meter);
        tokio::task::spawn_blocking(move || {
            let mut status = status;
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

    fn worker_status(&self, slot: &SlotView, now: Millis, queues: &BTreeMap<Row, u32>) -> WorkerStatus {
        let mut instances = Vec::new();
        for instance in &slot.instances {
            let (Some(live), Some(pid)) = (self.live.get(&instance.id), instance.pid) else {
                continue;
            };
            instances.push(InstanceStatus {
                pid,
                state: instance.state,
                connections: self.groups.load_of(live.row).established(),
                queue: queues.get(&live.row).copied().unwrap_or(0),
            });
        }
        let queue: u32 = instances.iter().map(|instance| instance.queue).sum();
        let counters = self.groups.counters(slot.id);
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
            cut_total: slot.cut.connections().into(),
            cut_in_flight_total: slot.cut.in_flight.into(),
            cpu_percent: 0.0,
            memory_bytes: 0,
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
            status_text: slot
                .current
                .and_then(|id| self.live.get(&id))
                .and_then(|live| live.status_text.clone()),
            reason: slot.reason.clone(),
        }
    }
}
