//! Counters prove that the program chose: every connection that the clients made is found again, once, in each account.

use std::time::Duration;

use crate::app::App;
use crate::kernel;
use crate::status::{Status, Worker};

/// Waits until all accounts agree with the `connections` that the clients established, and that nothing fell back or went unsteered.
///
/// The accounts: what the program decided at the handshake (chosen, directed or parked); what was established on a worker or moved
/// to it; what the servers accepted or have still in their queues. The controller's own directed connections come on top. Decisions
/// may exceed the others by no more than the kernel's own count of what makes it decide again.
///
/// # Panics
/// When they don't agree within five seconds.
#[track_caller]
pub fn reconcile(app: &App, connections: u64) -> Status {
    let what = || {
        format!(
            "the sums agree with {connections} connections (at most {} decisions more)",
            kernel::selections_without_connection()
        )
    };
    app.wait_status(&what(), Duration::from_secs(5), |status| {
        let accounts = Accounts::of(status);
        let expected = connections + status.verdicts().directed;
        let decided = expected..=expected + kernel::selections_without_connection();
        decided.contains(&accounts.decided)
            && accounts.selected == accounts.decided
            && (accounts.placed, accounts.taken) == (expected, expected)
            && (status.fallbacks, status.unsteered) == (0, 0)
    })
}

/// Waits until no worker has a connection left, as must be once the clients have gone.
///
/// # Panics
/// When that is not so within five seconds.
#[track_caller]
pub fn assert_all_ended(app: &App) -> Status {
    app.wait_status("no connection is left", Duration::from_secs(5), |status| {
        status.connections().iter().all(|count| *count == 0)
    })
}

struct Accounts {
    decided: u64,
    selected: u64,
    placed: u64,
    taken: u64,
}

impl Accounts {
    fn of(status: &Status) -> Self {
        let verdicts = status.verdicts();
        let sum = |field: fn(&Worker) -> u64| status.workers.iter().map(field).sum::<u64>();
        let parked = u64::from(status.groups.iter().map(|group| group.parked).sum::<u32>());
        let placed = sum(|worker| worker.established_total + worker.migrated_in_total);
        Self {
            decided: verdicts.chosen + verdicts.directed + verdicts.parked,
            selected: sum(|worker| worker.selected_total) + verdicts.parked,
            placed: (placed + parked).saturating_sub(sum(|worker| worker.migrated_out_total)),
            taken: sum(|worker| worker.accepted_total + u64::from(worker.queue)) + parked,
        }
    }
}
