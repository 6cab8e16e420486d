//! What the task does about [`health`](crate::supervisor::health).

use crate::supervisor::health::*;
use crate::supervisor::{
    connections::{DirectedOutcome, Purpose},
    task::Task,
};
use crate::{
    app::options::HealthOptions,
    base::{InstanceId, WorkerState},
};
use reuse_machine::{View, interface::Input};
use std::{io, time::Instant};
use tokio::time::timeout_at;

impl Task {
    /// Called when the machine may have changed who is to be checked: those that are ready and not on their way out.
    pub(crate) fn refresh_health(&mut self, view: &View) {
        let Some(health) = &mut self.health else { return };
        let active = view
            .slots
            .iter()
            .flat_map(|slot| &slot.instances)
            .filter(|instance| instance.state == WorkerState::Active)
            .map(|instance| instance.id)
            .collect();
        health.set_checked(&active, Instant::now());
    }

    /// Begins the checks that are due.
    pub(crate) fn check_health(&mut self) {
        let Some(health) = &mut self.health else { return };
        let due = health.take_due(Instant::now());
        let by_default = health.options.clone();
        for id in due {
            // One that listens nowhere was said to be unchecked when it became ready.
            if !self.live.get(&id).is_some_and(|live| live.listens) {
                continue;
            }
            // One at a time: the one under way ends within its timeout.
            if self.connections.has(id, Purpose::is_check) {
                continue;
            }
            // In a rollout by `apply` there are two versions, and what one is asked for the other may not know.
            let own = self.live.get(&id).map(|live| self.template.options(live.version));
            let options = own.and_then(|own| own.health.clone());
            let options = options.unwrap_or_else(|| by_default.clone());
            // It is due again; and what is wrong here is no fault of the worker's.
            if let Err(problem) = self.begin_check(id, &options) {
                tracing::warn!(instance = id.0, problem, "not checked");
            }
        }
    }

    fn begin_check(&mut self, id: InstanceId, options: &HealthOptions) -> Result<(), String> {
        let live = self.live.get(&id).ok_or("it has ended")?;
        let row = live.row;
        let addr = *self.groups.served_by(row).first().ok_or("it does not listen")?;
        let cookie = self
            .groups
            .directed_listener(row, addr)
            .ok_or("it does not listen any more")?;
        let (check, timeout) = (options.check.clone(), options.timeout);
        let deadline = Instant::now() + timeout;
        let prepared = self.prepare_connection(id, addr)?;
        self.direct(prepared, Purpose::Check, Some(deadline), move |opened| async move {
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

    /// A check has come back.
    pub(crate) fn on_checked(&mut self, id: InstanceId, outcome: Result<(), String>) {
        if self.live.get(&id).is_some_and(|live| live.ready) {
            self.feed(Input::Checked { instance: id, outcome });
        }
    }
}
