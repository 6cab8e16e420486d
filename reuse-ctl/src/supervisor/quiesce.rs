//! When a worker that is being ended may get its stop signal: as soon as no request is in flight on its connections.
//!
//! What a server does with the signal can't be known from outside. Node, Deno, Go and the JVM catch it by themselves and end at once; nginx and
//! unicorn have handlers that drop what they work on. So the signal waits. Each look compares the kernel's list of connections with the look
//! before ([`History`]); when nothing is in flight, the worker is frozen, looked at once more, and signalled before it runs again, so that no
//! request comes in between.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use reuse_common::{
    cuts::Cuts,
    in_flight::{Connection, History},
};

use super::{
    interface::{Audience, Input, InstanceId},
    live::Live,
    stop_signal::Begun,
    task::Task,
};
use crate::{bpf::BpfError, options::StopWhen};

/// A worker stands still for no longer than this before it gets its signal, or goes on.
const FREEZE_PATIENCE: Duration = Duration::from_millis(20);

/// How long the first process of a frozen worker may take to be signalled before the worker goes on all the same.
const BEGIN_PATIENCE: Duration = Duration::from_millis(50);

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(super) struct Quiesce {
    histories: HashMap<(InstanceId, u64), History>,
    /// People were told that connections can't be seen.
    is_blind: bool,
}

/// What is in the way of the stop signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Connections with a request in flight, or what may be one.
    pub(super) connections: u32,
    /// Whether all of them are of clients that leave no pause between their requests: a moment in which none is in flight is short.
    pub(super) is_fleeting: bool,
}

impl Quiesce {
    /// One look at an instance's connections, `established` of them by the kernel's own count.
    fn look(&mut self, id: InstanceId, connections: &[Connection], established: u32) -> Waiting {
        let mut waiting = Waiting {
            // Those that are not listed are not known to be idle: they are elsewhere, in a network of their own.
            connections: established.saturating_sub(count(connections.len())),
            is_fleeting: true,
        };
        waiting.is_fleeting = waiting.connections == 0;
        for connection in connections {
            let history = self
                .histories
                .entry((id, connection.socket))
                .and_modify(|history| history.look(connection))
                .or_insert_with(|| History::begin(connection));
            if !history.is_quiet(connection) {
                waiting.connections += 1;
                waiting.is_fleeting &= history.is_trusted();
            }
        }
        let listed: HashSet<u64> = connections.iter().map(|connection| connection.socket).collect();
        self.histories
            .retain(|(owner, socket), _| *owner != id || listed.contains(socket));
        waiting
    }

    pub(super) fn forget(&mut self, id: InstanceId) {
        self.histories.retain(|(owner, _), _| *owner != id);
    }
}

impl Task {
    /// What is in the way of the stop signals of these instances, which have not got it yet.
    pub(super) fn waiting(&mut self, ids: &[InstanceId]) -> HashMap<InstanceId, Waiting> {
        let listed = if ids.iter().any(|id| self.stop_when(*id) == StopWhen::InFlightDone) {
            self.connections_of(ids)
        } else {
            Some(HashMap::new())
        };
        let mut waiting = HashMap::new();
        for &id in ids {
            let Some(live) = self.live.get(&id) else { continue };
            let established = self.groups.load_of(live.row).established();
            let all = Waiting {
                connections: established,
                is_fleeting: false,
            };
            let found = match (self.stop_when(id), &listed) {
                (StopWhen::AtOnce, _) => Waiting::default(),
                (StopWhen::Closed, _) | (StopWhen::InFlightDone, None) => all,
                (StopWhen::InFlightDone, Some(listed)) => {
                    let connections = listed.get(&id).map_or(&[][..], Vec::as_slice);
                    self.quiesce.look(id, connections, established)
                }
            };
            waiting.insert(id, found);
        }
        waiting
    }

    /// Holds it still, looks once more, and has it told to end if nothing is in flight.
    pub(super) fn terminate_if_idle(&mut self, id: InstanceId) {
        let Some(live) = self.live.get(&id) else { return };
        if self.stop_when(id) != StopWhen::InFlightDone {
            self.tell_to_end(id, Audience::Servers);
            return self.inputs.push_front(Input::Terminated { instance: id });
        }
        let frozen = self.freezer.freeze(&live.cgroup, FREEZE_PATIENCE);
        let frozen = frozen.inspect_err(|error| tracing::warn!("worker {} can't be frozen: {error}", live.slot));
        let is_idle = self.connections_of(&[id]).is_some_and(|listed| {
            let connections = listed.get(&id).map_or(&[][..], Vec::as_slice);
            connections.iter().all(|connection| !connection.flow.is_in_flight())
        });
        if is_idle {
            let begun = self.tell_to_end(id, Audience::Servers);
            self.inputs.push_front(Input::Terminated { instance: id });
            if frozen.is_ok() && !begun.wait(BEGIN_PATIENCE) {
                tracing::debug!("the stop signal takes longer than {BEGIN_PATIENCE:?} to be sent");
            }
        }
        drop(frozen);
    }

    /// Sends the stop signal. From now on the kernel counts what is cut.
    pub(super) fn tell_to_end(&mut self, id: InstanceId, audience: Audience) -> Begun {
        let Some(live) = self.live.get_mut(&id) else {
            return Begun::NOTHING;
        };
        live.told_to_end.store(true, std::sync::atomic::Ordering::Release);
        let counting = match audience {
            Audience::Servers => Cuts::IN_FLIGHT,
            Audience::Everyone => Cuts::EVERYTHING,
        };
        self.groups.count_cuts(live.row, counting);
        self.quiesce.forget(id);
        self.look_now();
        let live = &self.live[&id];
        match audience {
            Audience::Servers => self.ask_to_end(live),
            Audience::Everyone => {
                let told = live.signalled.send_to_rest(&live.cgroup);
                tracing::debug!(
                    "{told} processes of worker {} are told to end with their connections",
                    live.slot
                );
                Begun::NOTHING
            }
        }
    }

    /// Established connections by instance; absent if they can't be seen, which people are told once.
    fn connections_of(&mut self, ids: &[InstanceId]) -> Option<HashMap<InstanceId, Vec<Connection>>> {
        let all = match self.groups.connections() {
            Ok(all) => all,
            Err(error) => {
                self.tell_of_blindness(&error);
                return None;
            }
        };
        let mut by_cgroup = HashMap::new();
        let mut by_row = HashMap::new();
        for &id in ids {
            let Some(live) = self.live.get(&id) else { continue };
            by_row.insert(live.row, id);
            by_cgroup.extend(
                live.cgroup
                    .ids()
                    .unwrap_or_default()
                    .into_iter()
                    .map(|cgroup| (cgroup, id)),
            );
        }
        let mut listed: HashMap<InstanceId, Vec<Connection>> = HashMap::new();
        for connection in all {
            let owner = match self.groups.moved_to(connection.cookie) {
                Some(row) => by_row.get(&row),
                None => by_cgroup.get(&connection.cgroup),
            };
            if let Some(&id) = owner {
                listed.entry(id).or_default().push(connection);
            }
        }
        Some(listed)
    }

    fn tell_of_blindness(&mut self, error: &BpfError) {
        if !std::mem::replace(&mut self.quiesce.is_blind, true) {
            self.console.warn(&format!(
                "requests in flight can't be seen ({error}): the stop signal waits until all connections of a worker are closed, or for \
                 --drain-timeout; `reuse-ctl doctor` says more"
            ));
        }
    }

    fn stop_when(&self, id: InstanceId) -> StopWhen {
        let options = self
            .live
            .get(&id)
            .map(|live: &Live| self.template.options(live.version));
        options
            .and_then(|options| options.stop.when)
            .unwrap_or(StopWhen::InFlightDone)
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reuse_common::in_flight::{Flow, PAUSE_IN_ANSWER_US};

    const ID: InstanceId = InstanceId(7);

    fn idle(socket: u64) -> Connection {
        Connection {
            socket,
            now_us: 10 * PAUSE_IN_ANSWER_US,
            ..Connection::default()
        }
    }

    fn busy(socket: u64, requests: u32) -> Connection {
        Connection {
            socket,
            flow: Flow {
                received: requests * 10,
                ..Flow::default()
            },
            ..Connection::default()
        }
    }

    #[test]
    fn what_is_not_listed_is_waited_for() {
        let mut quiesce = Quiesce::default();
        assert_eq!(quiesce.look(ID, &[idle(1), idle(2)], 2).connections, 0);
        assert_eq!(quiesce.look(ID, &[idle(1), idle(2)], 5).connections, 3);
        assert_eq!(
            quiesce.look(ID, &[], 0),
            Waiting {
                connections: 0,
                is_fleeting: true
            }
        );
    }

    #[test]
    fn histories_end_with_their_connections_and_instances() {
        let mut quiesce = Quiesce::default();
        quiesce.look(ID, &[idle(1), busy(2, 1)], 2);
        quiesce.look(InstanceId(8), &[idle(3)], 1);
        quiesce.look(ID, &[idle(1)], 1);
        assert_eq!(quiesce.histories.len(), 2);
        quiesce.forget(ID);
        assert_eq!(quiesce.histories.len(), 1);
    }

    #[test]
    fn only_clients_without_a_pause_are_fleeting() {
        let mut quiesce = Quiesce::default();
        assert!(!quiesce.look(ID, &[busy(1, 1)], 1).is_fleeting);
        let answered = |requests: u32| {
            let mut connection = busy(1, requests);
            connection.flow.read = connection.flow.received;
            connection.flow.acknowledged_at = connection.flow.received;
            connection
        };
        for requests in 1..4 {
            quiesce.look(ID, &[answered(requests)], 1);
        }
        assert_eq!(quiesce.look(ID, &[answered(4)], 1).connections, 0);
        assert_eq!(
            quiesce.look(ID, &[busy(1, 5)], 1),
            Waiting {
                connections: 1,
                is_fleeting: true
            }
        );
    }
}
