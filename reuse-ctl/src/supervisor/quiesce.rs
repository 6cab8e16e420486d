//! Decides when a worker that is being stopped may get its stop signal: as soon as no request is in flight on its connections.
//!
//! What a server does with the signal can't be known from outside. Node, Deno, Go and the JVM handle it themselves and exit at once; nginx
//! and unicorn have handlers that drop requests in progress. So the signal is held back. Each look compares the kernel's list of
//! connections with the look before ([`History`]). When nothing is in flight, the worker is frozen, looked at once more, and signalled
//! before it runs again, so that no request can come in between.
//!
//! Clients that send the next request at once leave no moment in which nothing is in flight. When only such clients are left, their further
//! requests are held back: as soon as one request is answered, the process is no longer woken for the next one, which waits unread. Soon
//! all are answered. A request that was held back then came too late: its client sees an idle connection close, and sends it again.

use super::{console::Console, live::Live, stop_signal::Begun, template::Template};
use crate::{
    app::options::{RunOptions, StopOptions, StopWhen},
    base::InstanceId,
    bpf::BpfError,
    group::Groups,
    process::{
        freeze::Freezer,
        known_servers::{self, Answer},
    },
};
use reuse_common::{
    cuts::Cuts,
    ids::Row,
    in_flight::{Connection, History},
};
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How long a worker may be frozen before it gets its signal or continues.
const FREEZE_PATIENCE: Duration = Duration::from_millis(20);

/// How long it may take to signal the first process of a frozen worker before the worker is thawed anyway. It takes some milliseconds,
/// unless the machine is overloaded. The guard thaws after half a second.
const BEGIN_PATIENCE: Duration = Duration::from_millis(250);

/// The condition that all connections of a worker must meet before it gets its stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// None: it is enough that the accept queue is empty.
    Nothing,
    /// The server has read every request. Such a server is known to answer what it has read.
    Read,
    /// Every request is answered.
    Answered,
    /// Every connection is closed.
    Closed,
}

impl Condition {
    /// The user's option takes precedence.
    fn of(options: &RunOptions) -> Self {
        let StopOptions {
            when, signal, message, ..
        } = options.stop;
        match when {
            Some(StopWhen::AtOnce) => Self::Nothing,
            Some(StopWhen::InFlightDone) => Self::Answered,
            Some(StopWhen::Closed) => Self::Closed,
            None if message => Self::Answered,
            None => match known_servers::find(&options.command).map(|server| server.finishes(signal)) {
                // A server with a time limit of its own would cut longer requests.
                Some(Answer::Finishes { within: None }) => Self::Read,
                Some(Answer::Finishes { .. } | Answer::FinishesRead { .. } | Answer::Cuts | Answer::Unknown) | None => {
                    Self::Answered
                }
            },
        }
    }

    /// Whether one listed connection meets the condition.
    fn is_met(self, connection: &Connection, history: &History) -> bool {
        match self {
            Self::Nothing => true,
            Self::Read => {
                let is_worked_on = connection.flow.is_in_flight() && !connection.flow.has_unread();
                is_worked_on || history.is_quiet(connection)
            }
            Self::Answered => history.is_quiet(connection) || history.is_held_back(connection),
            Self::Closed => false,
        }
    }

    /// Whether the condition requires a look at each connection.
    fn looks(self) -> bool {
        matches!(self, Self::Read | Self::Answered)
    }

    /// Which connections count as cut if they end after the signal. If everything was answered, a request that arrives right before the end
    /// came on an idle connection: its client has to try again, as with any server that closes idle connections.
    fn counting(self) -> u32 {
        match self {
            Self::Nothing | Self::Read => Cuts::IN_FLIGHT,
            Self::Answered | Self::Closed => Cuts::WORKED_ON,
        }
    }
}

/// How long to wait for a moment without requests before further requests of busy clients are held back.
const HOLD_AFTER: Duration = Duration::from_millis(200);

/// Longest time for which requests are held back. After that something is wrong, and all continue.
const HOLD_LIMIT: Duration = Duration::from_secs(1);

/// The current effort to reach the condition.
#[derive(Debug, Clone, Copy)]
enum Effort {
    /// Waiting, since this time.
    Waiting(Instant),
    /// Holding back further requests, since this time.
    Holding(Instant),
}

/// State between two looks.
#[derive(Debug, Default)]
pub(crate) struct Quiesce {
    histories: HashMap<(InstanceId, u64), History>,
    efforts: HashMap<InstanceId, Effort>,
    /// Whether users were told that connections can't be seen.
    is_blind: bool,
}

/// What the stop signal waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Number of connections with a request in flight, or what may be one.
    pub(crate) connections: u32,
    /// Whether all of them belong to clients that leave no pause between requests, so that a moment without requests is short.
    pub(crate) is_fleeting: bool,
}

impl Quiesce {
    /// What is in the way of the stop signals of these instances, which have not got it yet.
    pub(crate) fn waiting(
        &mut self,
        ids: &[InstanceId],
        live: &HashMap<InstanceId, Live>,
        template: &Template,
        groups: &mut Groups,
        console: &Console,
    ) -> HashMap<InstanceId, Waiting> {
        let condition = |id: &InstanceId| condition(live.get(id), template);
        let listed = if ids.iter().any(|id| condition(id).looks()) {
            self.connections_of(ids, live, groups, console)
        } else {
            Some(HashMap::new())
        };
        let mut waiting = HashMap::new();
        for &id in ids {
            let Some(row) = live.get(&id).map(|live| live.row) else {
                continue;
            };
            let established = groups.load_of(row).established();
            let all = Waiting {
                connections: established,
                is_fleeting: false,
            };
            let found = match (condition(&id), &listed) {
                (Condition::Nothing, _) => Waiting::default(),
                (Condition::Closed, _) | (Condition::Read | Condition::Answered, None) => all,
                (condition @ (Condition::Read | Condition::Answered), Some(listed)) => {
                    let connections = listed.get(&id).map_or(&[][..], Vec::as_slice);
                    let found = self.look(id, condition, connections, established);
                    match self.effort(id, found, Instant::now()) {
                        Some(Cuts::RELEASE) => self.release(row, groups, console),
                        Some(holding) => groups.hold(row, holding),
                        None => {}
                    }
                    found
                }
            };
            waiting.insert(id, found);
        }
        waiting
    }

    /// Holds it still, looks once more, and sends the stop signal if nothing is in the way. Returns whether it was sent.
    pub(crate) fn terminate_if_idle(
        &mut self,
        id: InstanceId,
        live: &HashMap<InstanceId, Live>,
        template: &Template,
        groups: &mut Groups,
        freezer: &Freezer,
        console: &Console,
    ) -> bool {
        let condition = condition(live.get(&id), template);
        match condition {
            Condition::Nothing => {
                self.tell_servers(id, condition.counting(), live, template, groups, console);
                return true;
            }
            // A connection has come since.
            Condition::Closed => return false,
            Condition::Read | Condition::Answered => {}
        }
        let Some(instance) = live.get(&id) else { return false };
        let slot = instance.slot;
        let frozen = freezer.freeze(&instance.cgroup, FREEZE_PATIENCE);
        let frozen = frozen.inspect_err(|error| tracing::warn!("worker {slot} can't be frozen: {error}"));
        let established = groups.load_of(instance.row).established();
        let listed = self.connections_of(&[id], live, groups, console);
        let is_idle = listed.is_some_and(|listed| {
            let connections = listed.get(&id).map_or(&[][..], Vec::as_slice);
            self.look(id, condition, connections, established).connections == 0
        });
        if is_idle {
            let begun = self.tell_servers(id, condition.counting(), live, template, groups, console);
            if frozen.is_ok() && !begun.wait(BEGIN_PATIENCE) {
                tracing::warn!(
                    "worker {slot} goes on before its stop signal was sent: that takes longer than {BEGIN_PATIENCE:?}"
                );
            }
        }
        drop(frozen);
        is_idle
    }

    /// Sends the stop signal to those that are told first, whatever is in the way, once. From now on the kernel counts what is cut. What is
    /// returned is dropped by who does not wait for it: it goes on beside the task.
    pub(crate) fn tell_servers(
        &mut self,
        id: InstanceId,
        counting: u32,
        live: &HashMap<InstanceId, Live>,
        template: &Template,
        groups: &mut Groups,
        console: &Console,
    ) -> Begun {
        let live = live.get(&id);
        if self.is_holding(id)
            && let Some(live) = live
        {
            self.release(live.row, groups, console);
        }
        self.forget(id);
        let Some(live) = live else { return Begun::NOTHING };
        if live.told_to_end.swap(true, Ordering::AcqRel) {
            return Begun::NOTHING;
        }
        groups.count_cuts(live.row, counting);
        live.ask_to_end(&template.options(live.version).stop, groups)
    }

    /// Lets the requests go on that are held back on instances that are not to end any more.
    pub(crate) fn release_all_but(
        &mut self,
        ids: &[InstanceId],
        live: &HashMap<InstanceId, Live>,
        groups: &mut Groups,
        console: &Console,
    ) {
        let efforts = self.efforts.keys().copied();
        for id in efforts.filter(|id| !ids.contains(id)).collect::<Vec<_>>() {
            if self.is_holding(id)
                && let Some(live) = live.get(&id)
            {
                self.release(live.row, groups, console);
            }
            self.forget(id);
        }
    }

    /// The process is told of what was held back. It takes one walk through the connections, as holding them does.
    fn release(&mut self, row: Row, groups: &mut Groups, console: &Console) {
        groups.hold(row, Cuts::RELEASE);
        if let Err(error) = groups.connections() {
            self.tell_of_blindness(&error, console);
        }
        groups.hold(row, Cuts::LEAVE);
    }

    /// Established connections by instance; absent if they can't be seen, which people are told once.
    fn connections_of(
        &mut self,
        ids: &[InstanceId],
        live: &HashMap<InstanceId, Live>,
        groups: &mut Groups,
        console: &Console,
    ) -> Option<HashMap<InstanceId, Vec<Connection>>> {
        let all = match groups.connections() {
            Ok(all) => {
                self.is_blind = false;
                all
            }
            Err(error) => {
                self.tell_of_blindness(&error, console);
                return None;
            }
        };
        let mut by_cgroup = HashMap::new();
        let mut by_row = HashMap::new();
        for &id in ids {
            let Some(live) = live.get(&id) else { continue };
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
            let owner = match groups.moved_to(connection.cookie) {
                Some(row) => by_row.get(&row),
                None => by_cgroup.get(&connection.cgroup),
            };
            if let Some(&id) = owner {
                listed.entry(id).or_default().push(connection);
            }
        }
        Some(listed)
    }

    fn tell_of_blindness(&mut self, error: &BpfError, console: &Console) {
        if !std::mem::replace(&mut self.is_blind, true) {
            console.warn(&format!(
                "requests in flight can't be seen ({error}): the stop signal waits until all connections of a worker are closed, or for \
                 --drain-timeout; `reuse-ctl doctor` says more"
            ));
        }
    }

    /// One look at an instance's connections, `established` of them by the kernel's own count.
    fn look(&mut self, id: InstanceId, condition: Condition, connections: &[Connection], established: u32) -> Waiting {
        // Those that are not listed are not known to be idle: they are elsewhere, in a network of their own.
        let elsewhere = established.saturating_sub(count(connections.len()));
        let mut waiting = Waiting {
            connections: elsewhere,
            is_fleeting: elsewhere == 0,
        };
        for connection in connections {
            let history = self
                .histories
                .entry((id, connection.socket))
                .and_modify(|history| history.look(connection))
                .or_insert_with(|| History::begin(connection));
            if !condition.is_met(connection, history) {
                waiting.connections += 1;
                waiting.is_fleeting &= history.is_trusted();
            }
        }
        let listed: HashSet<u64> = connections.iter().map(|connection| connection.socket).collect();
        self.histories
            .retain(|(owner, socket), _| *owner != id || listed.contains(socket));
        waiting
    }

    pub(crate) fn forget(&mut self, id: InstanceId) {
        self.histories.retain(|(owner, _), _| *owner != id);
        self.efforts.remove(&id);
    }

    /// What to do with further requests, if that changes: [`Cuts::HOLD`] or [`Cuts::RELEASE`].
    fn effort(&mut self, id: InstanceId, waiting: Waiting, now: Instant) -> Option<u32> {
        let effort = self.efforts.entry(id).or_insert(Effort::Waiting(now));
        match *effort {
            Effort::Waiting(since) if waiting.connections > 0 && waiting.is_fleeting && now - since >= HOLD_AFTER => {
                *effort = Effort::Holding(now);
                Some(Cuts::HOLD)
            }
            Effort::Holding(since) if !waiting.is_fleeting || now - since >= HOLD_LIMIT => {
                *effort = Effort::Waiting(now);
                Some(Cuts::RELEASE)
            }
            Effort::Waiting(_) | Effort::Holding(_) => None,
        }
    }

    fn is_holding(&self, id: InstanceId) -> bool {
        matches!(self.efforts.get(&id), Some(Effort::Holding(_)))
    }
}

/// Sends the stop signal to those that are told last, or ends them if they need not be told.
pub(crate) fn tell_rest(live: &Live, groups: &Groups) {
    groups.count_cuts(live.row, Cuts::EVERYTHING);
    if !live.signalled.tells_rest() {
        // It was told under another --kill-mode than the app has now: there is nothing to wait for.
        return live.kill();
    }
    let told = live.signalled.send_to_rest(&live.cgroup);
    tracing::debug!(
        "{told} processes of worker {} are told to end with their connections",
        live.slot
    );
}

fn condition(live: Option<&Live>, template: &Template) -> Condition {
    live.map_or(Condition::Answered, |live| {
        Condition::of(template.options(live.version))
    })
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
                received: requests * 100,
                ..Flow::default()
            },
            ..Connection::default()
        }
    }

    #[test]
    fn what_is_not_listed_is_waited_for() {
        let mut quiesce = Quiesce::default();
        assert_eq!(
            quiesce
                .look(ID, Condition::Answered, &[idle(1), idle(2)], 2)
                .connections,
            0
        );
        assert_eq!(
            quiesce
                .look(ID, Condition::Answered, &[idle(1), idle(2)], 5)
                .connections,
            3
        );
        assert_eq!(
            quiesce.look(ID, Condition::Answered, &[], 0),
            Waiting {
                connections: 0,
                is_fleeting: true
            }
        );
    }

    #[test]
    fn histories_end_with_their_connections_and_instances() {
        let mut quiesce = Quiesce::default();
        quiesce.look(ID, Condition::Answered, &[idle(1), busy(2, 1)], 2);
        quiesce.look(InstanceId(8), Condition::Answered, &[idle(3)], 1);
        quiesce.look(ID, Condition::Answered, &[idle(1)], 1);
        assert_eq!(quiesce.histories.len(), 2);
        quiesce.forget(ID);
        assert_eq!(quiesce.histories.len(), 1);
    }

    #[test]
    fn only_clients_without_a_pause_are_fleeting() {
        let mut quiesce = Quiesce::default();
        assert!(!quiesce.look(ID, Condition::Answered, &[busy(1, 1)], 1).is_fleeting);
        let answered = |requests: u32| {
            let mut connection = busy(1, requests);
            connection.flow.read = connection.flow.received;
            connection.flow.acknowledged_at = connection.flow.received;
            connection
        };
        for requests in 1..4 {
            quiesce.look(ID, Condition::Answered, &[answered(requests)], 1);
        }
        assert_eq!(quiesce.look(ID, Condition::Answered, &[answered(4)], 1).connections, 0);
        assert_eq!(
            quiesce.look(ID, Condition::Answered, &[busy(1, 5)], 1),
            Waiting {
                connections: 1,
                is_fleeting: true
            }
        );
    }

    #[test]
    fn a_server_that_answers_what_it_has_read_need_only_have_read() {
        let mut quiesce = Quiesce::default();
        let mut worked_on = busy(1, 1);
        assert_eq!(quiesce.look(ID, Condition::Read, &[worked_on], 1).connections, 1);
        worked_on.flow.read = worked_on.flow.received;
        assert!(worked_on.flow.is_in_flight());
        assert_eq!(quiesce.look(ID, Condition::Read, &[worked_on], 1).connections, 0);
        assert_eq!(quiesce.look(ID, Condition::Answered, &[worked_on], 1).connections, 1);
        let mut fresh = idle(2);
        fresh.last_packet_us = fresh.now_us;
        assert_eq!(
            quiesce.look(ID, Condition::Read, &[worked_on, fresh], 2).connections,
            1,
            "its request may be on the way"
        );
    }

    #[test]
    fn what_a_person_says_comes_before_what_is_known() {
        let of = |line: &str| {
            let spec = crate::app::AppSpec {
                arguments: line.split(' ').map(Into::into).collect(),
                variables: Vec::new(),
            };
            Condition::of(&spec.resolve().expect("right"))
        };
        assert_eq!(of("-- node server.js"), Condition::Answered);
        assert_eq!(of("-- nginx"), Condition::Answered, "it drops requests on SIGTERM");
        assert_eq!(of("--stop-signal QUIT -- nginx"), Condition::Read);
        assert_eq!(of("--stop-signal QUIT --stop-message -- nginx"), Condition::Answered);
        assert_eq!(
            of("--stop-signal QUIT --stop-when in-flight-done -- nginx"),
            Condition::Answered
        );
        assert_eq!(of("--stop-when at-once -- node server.js"), Condition::Nothing);
        assert_eq!(of("--stop-when closed -- node server.js"), Condition::Closed);
    }

    #[test]
    fn requests_are_held_back_only_while_nothing_else_is_in_the_way_and_not_for_long() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let waiting = |connections, is_fleeting| Waiting {
            connections,
            is_fleeting,
        };
        let mut quiesce = Quiesce::default();
        assert_eq!(quiesce.effort(ID, waiting(3, true), began), None);
        assert_eq!(
            quiesce.effort(ID, waiting(3, false), after(300)),
            None,
            "a slow request is waited for"
        );
        assert_eq!(quiesce.effort(ID, waiting(3, true), after(301)), Some(Cuts::HOLD));
        assert_eq!(quiesce.effort(ID, waiting(2, true), after(400)), None);
        assert_eq!(quiesce.effort(ID, waiting(2, false), after(500)), Some(Cuts::RELEASE));
        assert_eq!(quiesce.effort(ID, waiting(2, true), after(700)), Some(Cuts::HOLD));
        assert_eq!(quiesce.effort(ID, waiting(1, true), after(1700)), Some(Cuts::RELEASE));
        assert_eq!(quiesce.effort(ID, waiting(1, true), after(1701)), None);
    }
}
