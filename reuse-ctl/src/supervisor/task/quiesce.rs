//! What the task does about [`quiesce`](crate::supervisor::quiesce).

use crate::supervisor::quiesce::*;
use crate::supervisor::{stop_signal::Begun, task::Task};
use crate::{base::InstanceId, bpf::BpfError};
use reuse_common::{cuts::Cuts, in_flight::Connection};
use reuse_machine::interface::{Audience, Input};
use std::{collections::HashMap, sync::atomic::Ordering, time::Instant};

impl Task {
    /// What is in the way of the stop signals of these instances, which have not got it yet.
    pub(crate) fn waiting(&mut self, ids: &[InstanceId]) -> HashMap<InstanceId, Waiting> {
        let listed = if ids.iter().any(|id| self.condition(*id).looks()) {
            self.connections_of(ids)
        } else {
            Some(HashMap::new())
        };
        let mut waiting = HashMap::new();
        for &id in ids {
            let Some(live) = self.live.get(&id) else { continue };
            let row = live.row;
            let established = self.groups.load_of(row).established();
            let all = Waiting {
                connections: established,
                is_fleeting: false,
            };
            let found = match (self.condition(id), &listed) {
                (Condition::Nothing, _) => Waiting::default(),
                (Condition::Closed, _) | (Condition::Read | Condition::Answered, None) => all,
                (condition @ (Condition::Read | Condition::Answered), Some(listed)) => {
                    let connections = listed.get(&id).map_or(&[][..], Vec::as_slice);
                    let found = self.quiesce.look(id, condition, connections, established);
                    match self.quiesce.effort(id, found, Instant::now()) {
                        Some(Cuts::RELEASE) => self.release(id),
                        Some(holding) => self.groups.hold(row, holding),
                        None => {}
                    }
                    found
                }
            };
            waiting.insert(id, found);
        }
        waiting
    }

    /// Holds it still, looks once more, and has it told to end if nothing is in the way.
    pub(crate) fn terminate_if_idle(&mut self, id: InstanceId) {
        let condition = self.condition(id);
        match condition {
            Condition::Nothing => {
                self.tell_servers(id, condition.counting());
                return self.inputs.push_front(Input::Terminated { instance: id });
            }
            // A connection has come since.
            Condition::Closed => return,
            Condition::Read | Condition::Answered => {}
        }
        let Some(live) = self.live.get(&id) else { return };
        let (slot, row) = (live.slot, live.row);
        let frozen = self.freezer.freeze(&live.cgroup, FREEZE_PATIENCE);
        let frozen = frozen.inspect_err(|error| tracing::warn!("worker {slot} can't be frozen: {error}"));
        let established = self.groups.load_of(row).established();
        let is_idle = self.connections_of(&[id]).is_some_and(|listed| {
            let connections = listed.get(&id).map_or(&[][..], Vec::as_slice);
            self.quiesce.look(id, condition, connections, established).connections == 0
        });
        if is_idle {
            let begun = self.tell_servers(id, condition.counting());
            self.inputs.push_front(Input::Terminated { instance: id });
            if frozen.is_ok() && !begun.wait(BEGIN_PATIENCE) {
                tracing::warn!(
                    "worker {slot} goes on before its stop signal was sent: that takes longer than {BEGIN_PATIENCE:?}"
                );
            }
        }
        drop(frozen);
    }

    /// Sends the stop signal, whatever is in the way. From now on the kernel counts what is cut.
    pub(crate) fn tell_to_end(&mut self, id: InstanceId, audience: Audience) {
        match audience {
            // It goes on beside the task.
            Audience::Servers => drop(self.tell_servers(id, Cuts::IN_FLIGHT)),
            Audience::Everyone => {
                let Some(live) = self.live.get(&id) else { return };
                self.groups.count_cuts(live.row, Cuts::EVERYTHING);
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
        }
    }

    /// Lets the requests go on that are held back on instances that are not to end any more.
    pub(crate) fn release_all_but(&mut self, ids: &[InstanceId]) {
        let efforts = self.quiesce.efforts.keys().copied();
        for id in efforts.filter(|id| !ids.contains(id)).collect::<Vec<_>>() {
            if self.quiesce.is_holding(id) {
                self.release(id);
            }
            self.quiesce.forget(id);
        }
    }

    /// The process is told of what was held back. It takes one walk through the connections, as holding them does.
    fn release(&mut self, id: InstanceId) {
        let Some(row) = self.live.get(&id).map(|live| live.row) else {
            return;
        };
        self.groups.hold(row, Cuts::RELEASE);
        if let Err(error) = self.groups.connections() {
            self.tell_of_blindness(&error);
        }
        self.groups.hold(row, Cuts::LEAVE);
    }

    fn tell_servers(&mut self, id: InstanceId, counting: u32) -> Begun {
        if self.quiesce.is_holding(id) {
            self.release(id);
        }
        self.quiesce.forget(id);
        self.look_now();
        let Some(live) = self.live.get(&id) else {
            return Begun::NOTHING;
        };
        if live.told_to_end.swap(true, Ordering::AcqRel) {
            return Begun::NOTHING;
        }
        self.groups.count_cuts(live.row, counting);
        live.ask_to_end(&self.template.options(live.version).stop, &self.groups)
    }

    /// Established connections by instance; absent if they can't be seen, which people are told once.
    fn connections_of(&mut self, ids: &[InstanceId]) -> Option<HashMap<InstanceId, Vec<Connection>>> {
        let all = match self.groups.connections() {
            Ok(all) => {
                self.quiesce.is_blind = false;
                all
            }
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
            self.announcer.console.warn(&format!(
                "requests in flight can't be seen ({error}): the stop signal waits until all connections of a worker are closed, or for \
                 --drain-timeout; `reuse-ctl doctor` says more"
            ));
        }
    }

    fn condition(&self, id: InstanceId) -> Condition {
        let live = self.live.get(&id);
        live.map_or(Condition::Answered, |live| {
            Condition::of(self.template.options(live.version))
        })
    }
}
