//! Handling of a worker that doesn't accept: its queue is moved to others, and a connection shows when it accepts again.

use super::{
    announcer::Announcer,
    console::Console,
    directed::{DirectedConnections, DirectedOutcome, Purpose},
    live::Live,
    queue_watch::Watched,
};
use crate::{
    base::{InstanceId, Millis},
    group::{
        GroupError, Groups, Opened,
        diag::{Diag, Queue},
    },
    process::freeze::Freezer,
    wire::Event,
};
use reuse_common::ids::Row;
use reuse_machine::View;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::SocketAddr,
    time::Duration,
};

/// How long an instance may take to stop when it is frozen. On a busy machine with two cores the maximum was 29 ms. A process that takes
/// longer sleeps in the kernel, where it can't look at its listener.
const FREEZE_PATIENCE: Duration = Duration::from_millis(100);

/// The instances that get wake-up probes: a connection of the controller's own is kept in the queue of each, which shows when it accepts.
#[derive(Debug, Default)]
pub(crate) struct WakeProbes {
    wanted: BTreeSet<InstanceId>,
    /// The troubles that users were told already, with the beginning of the fault.
    told: BTreeMap<(InstanceId, Trouble), Option<Millis>>,
}

/// An action for a faulty worker that failed. It is tried again and again, but reported once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Rescue,
    WakeProbe,
}

impl WakeProbes {
    /// Whether any instance gets wake-up probes.
    pub(crate) fn any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// One is needed there.
    pub(crate) fn want(&mut self, id: InstanceId) {
        self.wanted.insert(id);
    }

    /// Nobody needs one there any more.
    pub(crate) fn forget(&mut self, id: InstanceId) {
        self.wanted.remove(&id);
    }

    /// Forgets an instance that has ended.
    pub(crate) fn bury(&mut self, id: InstanceId) {
        self.forget(id);
        self.told.retain(|(of, _), _| *of != id);
    }

    /// Opens those that are wanted and not under way: new ones, and those that were refused, closed or moved. Returns where that was not
    /// possible, and why.
    pub(crate) fn renew(
        &self,
        live: &HashMap<InstanceId, Live>,
        groups: &mut Groups,
        connections: &mut DirectedConnections,
    ) -> Vec<(InstanceId, String)> {
        let mut problems = Vec::new();
        for &id in &self.wanted {
            if connections.has(id, Purpose::is_wake_probe) {
                continue;
            }
            let Some(row) = live.get(&id).map(|live| live.row) else {
                continue;
            };
            let Some(addr) = wake_probe_address(row, groups) else {
                continue;
            };
            let keep_open = |opened: io::Result<Opened>| async move {
                DirectedOutcome::WakeProbeEnded(match opened {
                    Ok(opened) => {
                        opened.closed().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                })
            };
            match DirectedConnections::prepare(groups, id, row, addr) {
                Ok(prepared) => connections.direct(prepared, Purpose::WakeProbe, None, keep_open),
                Err(problem) => problems.push((id, problem)),
            }
        }
        problems
    }

    /// The worker stays as it is: withdrawn, and nobody sees when it accepts again.
    pub(crate) fn on_none(&mut self, id: InstanceId, live: &Live, problem: &str, view: &View, console: &Console) {
        let why = format!("whether {} accepts again can't be seen: {problem}", name_of(live));
        self.warn_once(id, Trouble::WakeProbe, &why, view, console);
    }

    /// Its queue could not be moved.
    pub(crate) fn on_failed_rescue(
        &mut self,
        id: InstanceId,
        live: &mut Live,
        error: &RescueError,
        view: &View,
        console: &Console,
    ) {
        let who = name_of(live);
        if error.is_loss() {
            // It would look alive and never get a connection again.
            live.problem = Some(error.to_string());
            live.kill();
            console.warn(&format!("{who} is ended: {error}"));
        } else {
            let why = format!("what is queued on {who} could not be moved: {error}");
            self.warn_once(id, Trouble::Rescue, &why, view, console);
        }
    }

    /// The queue of an instance as the machine has to know it, which has it rescued as long as there is any. What the controller has put
    /// into the queue of a hung one beside the wake-up probe (health checks, requests of a person, and what is left of such) needs no rescue; what
    /// waits on a withdrawn one where nobody else is published can't be moved.
    pub(crate) fn queue_to_tell(
        &self,
        &Watched { id, row, backlog }: &Watched,
        listeners: &[Queue],
        groups: &Groups,
        connections: &mut DirectedConnections,
        diag: &mut Diag,
    ) -> u32 {
        let queue = backlog.queue;
        if queue == 0 {
            connections.forget_abandoned(id, |_| true);
            return 0;
        }
        if groups.is_published(row) {
            return queue;
        }
        let movable: BTreeSet<_> = groups.served_by(row);
        let movable: BTreeSet<_> = movable
            .into_iter()
            .filter(|&addr| groups.is_served_without(addr, row))
            .collect();
        let queue = groups.movable_among(row, listeners);
        if !self.wanted.contains(&id) {
            return queue;
        }
        let beside = match queue {
            0 | 1 => 0,
            _ => connections.own_in_queue(
                diag,
                id,
                |purpose| !purpose.is_wake_probe(),
                |addr| movable.contains(&addr),
            ),
        };
        // The machine has to see the wake-up probe wherever it waits.
        let probes = connections.waiting(diag, id, Purpose::is_wake_probe, |addr| !movable.contains(&addr));
        queue.saturating_sub(beside).saturating_add(probes)
    }

    fn warn_once(&mut self, id: InstanceId, trouble: Trouble, message: &str, view: &View, console: &Console) {
        let slot = view.slots.iter().find(|slot| slot.current == Some(id));
        let fault = slot.and_then(|slot| slot.fault.as_ref()).map(|fault| fault.since);
        if self.is_news(id, trouble, fault) {
            console.warn(message);
        } else {
            tracing::debug!("{message}");
        }
    }

    /// Whether people don't know of this trouble yet, in the fault that began then.
    fn is_news(&mut self, id: InstanceId, trouble: Trouble, fault: Option<Millis>) -> bool {
        self.told.insert((id, trouble), fault) != Some(fault)
    }
}

/// Why a queue could not be moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RescueError {
    /// It does not stand still.
    #[error("freezing it: {0}")]
    Freeze(#[from] io::Error),
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl RescueError {
    /// Whether the instance has lost a listener over it.
    fn is_loss(&self) -> bool {
        match self {
            Self::Freeze(_) => false,
            Self::Group(error) => error.is_loss(),
        }
    }
}

/// Moves what is queued on the instance to others, while it stands still: what is woken by its listener's closing, or polls it in that
/// moment, would see a hang-up (see docs/rescue.md for what servers make of that). Returns how many connections were moved.
pub(crate) fn move_queue(live: &Live, groups: &mut Groups, freezer: &Freezer) -> Result<u64, RescueError> {
    let frozen = freezer.freeze(&live.cgroup, FREEZE_PATIENCE)?;
    if !frozen.complete {
        tracing::debug!(slot = %live.slot, "a process does not stand still: it sleeps uninterruptibly, and sees nothing either");
    }
    Ok(groups.rescue(live.row, &live.pids())?)
}

/// People are told how many of clients' connections were moved from it.
pub(crate) fn tell_rescued(live: &Live, moved: u64, announcer: &Announcer) {
    if moved == 0 {
        return;
    }
    let connections = if moved == 1 { "connection" } else { "connections" };
    let message = format!("{moved} {connections} queued on {} moved to others", name_of(live));
    announcer.say(Event {
        at_ms: 0,
        worker: Some(live.slot.0),
        pid: live.pid(),
        event: "rescued".into(),
        message,
    });
}

/// Rather where others serve: the wake-up probe waits behind nothing that can't be moved there.
fn wake_probe_address(row: Row, groups: &Groups) -> Option<SocketAddr> {
    let served = groups.served_by(row);
    let by_others = served.iter().find(|&&addr| groups.is_served_without(addr, row));
    by_others.or_else(|| served.first()).copied()
}

/// `worker 2 (pid 411)`.
fn name_of(live: &Live) -> String {
    match live.pid() {
        Some(pid) => format!("worker {} (pid {pid})", live.slot),
        None => format!("worker {}", live.slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_for_each_fault() {
        let mut probes = WakeProbes::default();
        let (one, other) = (InstanceId(1), InstanceId(2));
        assert!(probes.is_news(one, Trouble::Rescue, Some(Millis(5))));
        assert!(!probes.is_news(one, Trouble::Rescue, Some(Millis(5))));
        assert!(probes.is_news(one, Trouble::WakeProbe, Some(Millis(5))));
        assert!(probes.is_news(other, Trouble::Rescue, Some(Millis(5))));
        assert!(probes.is_news(one, Trouble::Rescue, Some(Millis(9))), "another fault");
        probes.bury(one);
        assert!(probes.is_news(one, Trouble::WakeProbe, None));
        assert!(
            !probes.is_news(one, Trouble::WakeProbe, None),
            "of no fault that is known"
        );
    }
}
