//! Counters prove that the program chose: every connection that the clients made is found again, once, in each account.

use std::time::Duration;

use crate::app::App;
use crate::status::Status;

/// Waits until all accounts agree with the `connections` that the clients established, and that nothing fell back or went unsteered.
///
/// The accounts: what the program decided at the handshake (chosen, directed or parked); what was established on a worker or moved
/// to it; what the servers accepted or have still in their queues. The controller's own directed connections come on top.
///
/// # Panics
/// When they don't agree within five seconds.
#[track_caller]
pub fn reconcile(app: &App, connections: u64) -> Status {
    app.wait_status(
        &format!("the sums agree with {connections} connections"),
        Duration::from_secs(5),
        |status| {
            let expected = connections + status.verdicts().directed;
            Accounts::of(status)
                == Accounts {
                    decided: expected,
                    selected: expected + status.verdicts().migrated,
                    placed: expected,
                    taken: expected,
                    fallbacks: 0,
                    unsteered: 0,
                }
        },
    )
}

#[derive(Debug, PartialEq, Eq)]
struct Accounts {
    decided: u64,
    selected: u64,
    placed: u64,
    taken: u64,
    fallbacks: u64,
    unsteered: u64,
}

impl Accounts {
    fn of(status: &Status) -> Self {
        let verdicts = status.verdicts();
        let sum = |field: fn(&crate::status::Worker) -> u64| status.workers.iter().map(field).sum::<u64>();
        let parked = u64::from(status.groups.iter().map(|group| group.parked).sum::<u32>());
        Self {
            decided: verdicts.chosen + verdicts.directed + verdicts.parked,
            selected: sum(|worker| worker.selected_total) + verdicts.parked,
            placed: sum(|worker| {
                (worker.established_total + worker.migrated_in_total).saturating_sub(worker.migrated_out_total)
            }) + parked,
            taken: sum(|worker| worker.accepted_total + u64::from(worker.queue)) + parked,
            fallbacks: status.fallbacks,
            unsteered: status.unsteered,
        }
    }
}
