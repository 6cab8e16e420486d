//! The members of all groups: how they come and go, and what the kernel reports about them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    os::fd::AsFd,
};

use reuse_common::ids::Row;
use socket2::SockRef;

use super::{
    GroupError,
    diag::{Diag, DiagError, Family, Queue},
    discover,
    groups::{Groups, without_scope},
    member::{self, Member},
    one::Group,
};

/// Up to this many service ports are requested one by one, which avoids answers about other programs' listeners. For more ports, one
/// request for all listeners is cheaper.
const PORTS_ASKED_FOR: usize = 3;

/// The outcome for a listener that appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appeared {
    /// It is now a member of the group on this address.
    Member(SocketAddr),
    /// It has closed again, or its process has ended.
    Gone,
}

/// One listener of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The socket's cookie.
    pub cookie: u64,
}

impl Groups {
    /// Makes a listener of the instance in `row`, opened by one of `pids`, a member.
    ///
    /// # Errors
    /// Fails if it can't be a member. The reason is specific to the listener (another uid, too many listeners, …).
    pub fn appeared(&mut self, row: Row, pids: &[u32], cookie: u64) -> Result<Appeared, GroupError> {
        let duplicate = member::duplicate(pids, cookie).map_err(|error| GroupError::Socket {
            call: "pidfd_getfd",
            source: error.source,
        })?;
        let Some(listener) = duplicate else {
            return Ok(Appeared::Gone);
        };
        let addr = discover::local_addr(listener.as_fd()).map_err(GroupError::socket("getsockname"))?;
        let addr = without_scope(addr);
        if !self.groups.contains_key(&addr) {
            let only_v6 = addr.is_ipv6() && SockRef::from(&listener).only_v6().unwrap_or(false);
            self.open_group(addr, only_v6, Some(&listener))?;
        }
        let group = self.groups.get_mut(&addr).expect("opened above");
        group.join(row, cookie, &listener)?;
        self.app.steered(&listener, cookie, row)?;
        let group = self.groups.get_mut(&addr).expect("opened above");
        group.publish(&self.published, &self.lingering)?;
        self.drop_covered();
        Ok(Appeared::Member(addr))
    }

    /// Removes a listener that has closed. `pids_of` returns the processes of a row's instance. Returns where it listened, if it was a member.
    ///
    /// # Errors
    /// Fails if a map can't be written.
    pub fn disappeared(
        &mut self,
        cookie: u64,
        pids_of: impl Fn(Row) -> Vec<u32>,
    ) -> Result<Option<SocketAddr>, GroupError> {
        self.closed.add([cookie]);
        let is_it = |group: &&mut Group| group.members().get(cookie).is_some();
        let Some(group) = self.groups.values_mut().find(is_it) else {
            return Ok(None);
        };
        let gap = group.remove_member(cookie);
        // First publish one listener less: from here on the last number is not selected any more.
        group.publish(&self.published, &self.lingering)?;
        if let Some(gap) = gap
            && let Ok(Some(listener)) = member::duplicate(&pids_of(gap.last.row), gap.last.cookie)
        {
            group.renumber(&gap, &listener)?;
        }
        let addr = group.addr();
        self.drop_covered();
        Ok(Some(addr))
    }

    /// The address of this member's listener if a rescue has closed it for a moment. A notice that it has closed must be checked then.
    pub fn was_reopened(&self, cookie: u64) -> Option<SocketAddr> {
        let group = self
            .groups
            .values()
            .find(|group| group.members().get(cookie).is_some_and(|member| member.reopenings > 0))?;
        Some(group.addr())
    }

    /// Records that one notice about this member's listener came from a rescue.
    pub fn explain_reopening(&mut self, cookie: u64) {
        for group in self.groups.values_mut() {
            group.explain_reopening(cookie);
        }
    }

    /// Members whose listener is not in this list. Either it has closed, or the list was made just before it listened.
    pub fn unseen(&self, listeners: &[Queue]) -> Vec<u64> {
        let seen: BTreeSet<u64> = listeners.iter().map(|listener| listener.cookie).collect();
        let members = self.members().map(|(_, member)| member.cookie);
        members.filter(|cookie| !seen.contains(cookie)).collect()
    }

    /// The listeners in this list that are neither members nor backstops.
    pub fn others<'a>(&self, listeners: &'a [Queue]) -> Vec<&'a Queue> {
        let members: BTreeSet<u64> = self.members().map(|(_, member)| member.cookie).collect();
        let is_ours = |cookie| members.contains(&cookie) || self.groups.values().any(|group| group.is_backstop(cookie));
        listeners.iter().filter(|listener| !is_ours(listener.cookie)).collect()
    }

    /// Whether this listener, which is no member, was created by a worker on a port that the app serves or may come to serve.
    pub fn is_missed(&self, cookie: u64) -> bool {
        self.app.knows_listener(cookie)
    }

    /// The group that a listener on `addr` shares a port with, if any.
    pub fn joined_by(&self, addr: SocketAddr) -> Option<SocketAddr> {
        let addr = without_scope(addr);
        self.groups.contains_key(&addr).then_some(addr)
    }

    /// The addresses on which the instance in `row` listens.
    pub fn served_by(&self, row: Row) -> BTreeSet<SocketAddr> {
        self.groups
            .values()
            .filter(|group| group.listeners_of(row) > 0)
            .map(Group::addr)
            .collect()
    }

    /// The requests that return the queues of all members.
    fn questions(&self) -> BTreeSet<(Family, u16)> {
        let questions: BTreeSet<_> = self
            .groups
            .keys()
            .map(|&addr| (Family::of(addr), addr.port()))
            .collect();
        if questions.len() <= PORTS_ASKED_FOR {
            return questions;
        }
        questions.iter().map(|&(family, _)| (family, 0)).collect()
    }

    /// The listeners of all members, and those of other programs that the same requests return.
    ///
    /// # Errors
    /// Fails if the kernel does not answer.
    pub fn dump(&self, diag: &mut Diag) -> Result<Vec<Queue>, DiagError> {
        let mut listeners = Vec::new();
        for (family, port) in self.questions() {
            listeners.append(&mut diag.queues(family, port)?);
        }
        Ok(listeners)
    }

    /// Number of connections that wait for accept() on each instance, by row. An instance is left out unless the kernel lists all of its
    /// listeners.
    ///
    /// # Errors
    /// Fails if the kernel does not answer.
    pub fn queues(&self, diag: &mut Diag) -> Result<BTreeMap<Row, u32>, DiagError> {
        Ok(self.queues_among(&self.dump(diag)?))
    }

    /// As [`queues`](Self::queues), from a list that the kernel has returned already.
    pub fn queues_among(&self, listeners: &[Queue]) -> BTreeMap<Row, u32> {
        let members = self.members().map(|(_, member)| (member.row, member.cookie));
        sums(members, listeners)
    }

    /// Number of waiting connections on the listeners of the instance in `row` that a rescue can move.
    pub fn movable_among(&self, row: Row, listeners: &[Queue]) -> u32 {
        let movable = self.groups.values().filter(|group| group.is_served_without(row));
        let members = movable.flat_map(|group| group.members().of(row));
        let cookies: BTreeSet<u64> = members.map(|member| member.cookie).collect();
        let theirs = listeners.iter().filter(|listener| cookies.contains(&listener.cookie));
        theirs.map(|listener| listener.queue).fold(0, u32::saturating_add)
    }

    /// Whether another instance can be chosen for connections to `addr`.
    pub fn is_served_without(&self, addr: SocketAddr, row: Row) -> bool {
        self.groups.get(&addr).is_some_and(|group| group.is_served_without(row))
    }

    /// Whether the instance in `row` has a listener.
    pub fn is_listening(&self, row: Row) -> bool {
        self.groups.values().any(|group| group.listeners_of(row) > 0)
    }

    /// The listeners of the instance in `row` that are in groups.
    pub fn listeners_of(&self, row: Row) -> Vec<Listening> {
        let own = |group: &Group| {
            let addr = group.addr();
            let members = group.members().of(row).iter();
            members
                .map(|member| Listening {
                    addr,
                    cookie: member.cookie,
                })
                .collect::<Vec<_>>()
        };
        self.groups.values().flat_map(own).collect()
    }

    /// Whether the instance in `row` is published.
    pub fn is_published(&self, row: Row) -> bool {
        self.published.iter().any(|published| published.row == row)
    }

    /// The cookie of the instance's listener on this address that directed connections reach.
    pub fn directed_listener(&self, row: Row, addr: SocketAddr) -> Option<u64> {
        let members = self.groups.get(&addr)?.members().of(row);
        members
            .iter()
            .find(|member| member.nth == 0)
            .map(|member| member.cookie)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (SocketAddr, &Member)> {
        self.groups
            .values()
            .flat_map(|group| group.members().iter().map(|member| (group.addr(), member)))
    }
}

/// The queue of each row, summed over its members, which are given by row and cookie. A row is left out if any of its members is not in the
/// list.
fn sums(members: impl Iterator<Item = (Row, u64)>, listeners: &[Queue]) -> BTreeMap<Row, u32> {
    let queues: HashMap<u64, u32> = listeners
        .iter()
        .map(|listener| (listener.cookie, listener.queue))
        .collect();
    let mut sums: BTreeMap<Row, Option<u32>> = BTreeMap::new();
    for (row, cookie) in members {
        let sum = sums.entry(row).or_insert(Some(0));
        *sum = sum
            .zip(queues.get(&cookie))
            .map(|(sum, &queue)| sum.saturating_add(queue));
    }
    sums.into_iter().filter_map(|(row, sum)| Some((row, sum?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_left_out_if_any_of_its_listeners_was_not_seen() {
        let seen = |cookie, queue| Queue {
            cookie,
            queue,
            addr: ([127, 0, 0, 1], 80).into(),
        };
        let listeners = [seen(1, 3), seen(2, 4), seen(3, 5), seen(9, 100)];
        let members = [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 3)].map(|(row, cookie)| (Row(row), cookie));
        assert_eq!(sums(members.into_iter(), &listeners), BTreeMap::from([(Row(0), 7)]));
    }
}
