//! Health checks: every ready worker is checked at intervals, through a connection directed to it alone.

use super::{
    directed::{DirectedConnections, DirectedOutcome, Purpose, is_workers_doing},
    live::Live,
    template::Template,
    worker_http::{self, RequestError},
};
use reuse_common::ids::Row;
use reuse_machine::View;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    app::options::{HealthCheck, HealthOptions},
    base::{InstanceId, WorkerState},
    group::{Groups, Opened},
};
use tokio::time::timeout_at;

/// The schedule of health checks.
#[derive(Debug)]
pub(crate) struct Health {
    options: HealthOptions,
    /// The time of the next check of each worker that is checked.
    due: BTreeMap<InstanceId, Instant>,
}

impl Health {
    pub(crate) fn new(options: HealthOptions) -> Self {
        Self {
            options,
            due: BTreeMap::new(),
        }
    }

    /// When the next check is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// Called when the machine may have changed who is to be checked: those that are ready and not on their way out.
    pub(crate) fn refresh(&mut self, view: &View) {
        let active = view
            .slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .filter(|instance| instance.state == WorkerState::Active)
            .map(|instance| instance.id)
            .collect();
        self.set_checked(&active, Instant::now());
    }

    /// Begins the checks that are due.
    pub(crate) fn check(
        &mut self,
        live: &HashMap<InstanceId, Live>,
        template: &Template,
        groups: &mut Groups,
        connections: &mut DirectedConnections,
    ) {
        for id in self.take_due(Instant::now()) {
            // One that listens nowhere was said to be unchecked when it became ready.
            let Some(live) = live.get(&id).filter(|live| live.listens) else {
                continue;
            };
            // One at a time: the one under way ends within its timeout.
            if connections.has(id, Purpose::is_check) {
                continue;
            }
            // In a rollout by `apply` there are two versions, and what one is asked for the other may not know.
            let own = template.options(live.version).health.as_ref();
            // It is due again; and what is wrong here is no fault of the worker's.
            if let Err(problem) = begin_check(id, live.row, own.unwrap_or(&self.options), groups, connections) {
                tracing::warn!(instance = id.0, problem, "not checked");
            }
        }
    }

    /// From now on exactly these are checked. The first check of each comes at a random moment of its first interval, so that
    /// workers which became ready together are not checked together.
    fn set_checked(&mut self, checked: &BTreeSet<InstanceId>, now: Instant) {
        self.due.retain(|id, _| checked.contains(id));
        for &id in checked {
            self.due
                .entry(id)
                .or_insert_with(|| now + self.options.interval.mul_f64(fastrand::f64()));
        }
    }

    /// The instances whose check is due. Each is due again after the interval, plus or minus a tenth.
    fn take_due(&mut self, now: Instant) -> Vec<InstanceId> {
        let mut taken = Vec::new();
        for (&id, due) in &mut self.due {
            if *due <= now {
                *due = now + self.options.interval.mul_f64(0.9 + 0.2 * fastrand::f64());
                taken.push(id);
            }
        }
        taken
    }
}

fn begin_check(
    id: InstanceId,
    row: Row,
    options: &HealthOptions,
    groups: &mut Groups,
    connections: &mut DirectedConnections,
) -> Result<(), String> {
    let addr = *groups.served_by(row).first().ok_or("it does not listen")?;
    let cookie = groups
        .directed_listener(row, addr)
        .ok_or("it does not listen any more")?;
    let (check, timeout) = (options.check.clone(), options.timeout);
    let deadline = Instant::now() + timeout;
    let prepared = DirectedConnections::prepare(groups, id, row, addr)?;
    connections.direct(prepared, Purpose::Check, Some(deadline), move |opened| async move {
        match opened {
            Ok(opened) => timeout_at(deadline.into(), outcome_of(check, opened, cookie, addr))
                .await
                .unwrap_or_else(|_| DirectedOutcome::Checked(Err(late(timeout)))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => DirectedOutcome::Checked(Err(late(timeout))),
            Err(error) => failed(&error, error.to_string()),
        }
    });
    Ok(())
}

async fn outcome_of(check: HealthCheck, mut opened: Opened, cookie: u64, addr: SocketAddr) -> DirectedOutcome {
    match check {
        HealthCheck::Tcp => match opened.accepted(cookie).await {
            Ok(()) => DirectedOutcome::Checked(Ok(())),
            Err(error) => failed(&error, error.to_string()),
        },
        HealthCheck::Http(path) => {
            let host = opened.target();
            match worker_http::status(opened.into_stream(), host, &path).await {
                Ok(200..=399) => DirectedOutcome::Checked(Ok(())),
                Ok(status) => DirectedOutcome::Checked(Err(format!("GET {path} on {addr}: status {status}"))),
                Err(error) => {
                    let problem = format!("GET {path} on {addr}: {error}");
                    match error {
                        RequestError::Connection(error) => failed(&error, problem),
                        _ => DirectedOutcome::Checked(Err(problem)),
                    }
                }
            }
        }
    }
}

/// The outcome if a check's connection failed with this error.
fn failed(error: &io::Error, problem: String) -> DirectedOutcome {
    if is_workers_doing(error.kind()) {
        DirectedOutcome::Checked(Err(problem))
    } else {
        DirectedOutcome::Unchecked(problem)
    }
}

fn late(timeout: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reuse_machine::interface::HealthRules;

    fn every(interval_ms: u64) -> Health {
        Health::new(HealthOptions {
            check: HealthCheck::Tcp,
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_secs(1),
            rules: HealthRules { fails: 3, passes: 2 },
        })
    }

    #[test]
    fn checks_are_spread_over_the_interval_and_stay_so() {
        let mut health = every(1000);
        let began = Instant::now();
        let ids: BTreeSet<InstanceId> = (0..100).map(InstanceId).collect();
        health.set_checked(&ids, began);
        let after = |ms| began + Duration::from_millis(ms);
        let first_half = health.take_due(after(500)).len();
        assert!((20..=80).contains(&first_half), "{first_half}");
        assert_eq!(first_half + health.take_due(after(1000)).len(), 100);
        assert_eq!(health.take_due(after(1399)), [], "an interval less a tenth from 500");
        assert_eq!(health.take_due(after(1601)).len(), first_half);
    }

    #[test]
    fn only_those_who_are_ready_are_checked_and_time_goes_on_for_the_others() {
        let mut health = every(1000);
        let now = Instant::now();
        assert_eq!(health.due(), None);
        health.set_checked(&BTreeSet::from([InstanceId(1), InstanceId(2)]), now);
        let due = health.due.clone();
        health.set_checked(
            &BTreeSet::from([InstanceId(2), InstanceId(3)]),
            now + Duration::from_millis(1),
        );
        assert_eq!(health.due[&InstanceId(2)], due[&InstanceId(2)]);
        assert!(!health.due.contains_key(&InstanceId(1)));
        assert!(health.due() <= Some(now + Duration::from_millis(1001)));
    }
}
