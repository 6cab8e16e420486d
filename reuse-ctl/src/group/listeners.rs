//! The members of all groups: how they come and go, and what the kernel says of them.

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

/// Up to so many service ports are asked for one by one, which spares the answers about everybody else's; for more, one question about
/// all of the machine's listeners is cheaper.
const PORTS_ASKED_FOR: usize = 3;

/// What became of a listener that appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appeared {
    /// It is a member of the group on this address.
    Member(SocketAddr),
    /// It has closed again, or its process has ended.
    Gone,
}

/// One listener of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The socket's number for its whole life.
    pub cookie: u64,
}

impl Groups {
    /// A listener of the instance in `row`, one of `pids`, listens now.
    ///
    /// # Errors
    /// It can't be a member; the reason is the listener's own (another uid, too many, …).
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
        Ok(Appeared::Member(addr))
    }

    /// A listener has closed; `pids_of` tells the processes of an instance's row.
    ///
    /// # Errors
    /// A map can't be written.
    pub fn disappeared(&mut self, cookie: u64, pids_of: impl Fn(Row) -> Vec<u32>) -> Result<(), GroupError> {
        for group in self.groups.values_mut() {
            if !group.members().iter().any(|member| member.cookie == cookie) {
                continue;
            }
            let gap = group.leave(cookie);
            // Fewer first: the last number is selectable no more from here on.
            group.publish(&self.published, &self.lingering)?;
            if let Some(gap) = gap
                && let Ok(Some(listener)) = member::duplicate(&pids_of(gap.last.row), gap.last.cookie)
            {
                group.renumber(&gap, &listener)?;
            }
        }
        Ok(())
    }

    /// Whether a rescue has closed this member's listener for an instant, and where it is. A notice that it has closed must be checked.
    pub fn was_reopened(&self, cookie: u64) -> Option<SocketAddr> {
        let group = self
            .groups
            .values()
            .find(|group| group.member(cookie).is_some_and(|member| member.reopenings > 0))?;
        Some(group.addr())
    }

    /// One notice that this member's listener has closed was that of a rescue.
    pub fn explain_reopening(&mut self, cookie: u64) {
        for group in self.groups.values_mut() {
            group.explain_reopening(cookie);
        }
    }

    /// Members whose listener is not among these: it has closed, or these were listed in the instant before it listened.
    pub fn unseen(&self, listeners: &[Queue]) -> Vec<u64> {
        let seen: BTreeSet<u64> = listeners.iter().map(|listener| listener.cookie).collect();
        let members = self.members().map(|(_, member)| member.cookie);
        members.filter(|cookie| !seen.contains(cookie)).collect()
    }

    /// Those of these that are neither members nor backstops.
    pub fn others<'a>(&self, listeners: &'a [Queue]) -> Vec<&'a Queue> {
        let members: BTreeSet<u64> = self.members().map(|(_, member)| member.cookie).collect();
        let is_ours = |cookie| members.contains(&cookie) || self.groups.values().any(|group| group.is_backstop(cookie));
        listeners.iter().filter(|listener| !is_ours(listener.cookie)).collect()
    }

    /// Whether this listener, which is no member, was made by a worker on an address that it serves, or may come to serve.
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

    /// Which questions show the queues of all members.
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

    /// The listeners of all members, and of strangers.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn dump(&self, diag: &mut Diag) -> Result<Vec<Queue>, DiagError> {
        let mut listeners = Vec::new();
        for (family, port) in self.questions() {
            listeners.append(&mut diag.queues(family, port)?);
        }
        Ok(listeners)
    }

    /// How many connections wait for accept() on each instance all of whose listeners the kernel tells of, by row.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn queues(&self, diag: &mut Diag) -> Result<BTreeMap<Row, u32>, DiagError> {
        Ok(self.queues_among(&self.dump(diag)?))
    }

    /// The same, by what the kernel has said already.
    pub fn queues_among(&self, listeners: &[Queue]) -> BTreeMap<Row, u32> {
        let members = self.members().map(|(_, member)| (member.row, member.cookie));
        sums(members, listeners)
    }

    /// How many connections wait for accept() on the listeners of the instance in `row` that a rescue can move.
    pub fn movable_among(&self, row: Row, listeners: &[Queue]) -> u32 {
        let movable = self.groups.values().filter(|group| group.is_served_without(row));
        let members = movable
            .flat_map(|group| group.members())
            .filter(|member| member.row == row);
        let cookies: BTreeSet<u64> = members.map(|member| member.cookie).collect();
        let theirs = listeners.iter().filter(|listener| cookies.contains(&listener.cookie));
        theirs.map(|listener| listener.queue).fold(0, u32::saturating_add)
    }

    /// Whether somebody else can be chosen for what comes to `addr`.
    pub fn is_served_without(&self, addr: SocketAddr, row: Row) -> bool {
        self.groups.get(&addr).is_some_and(|group| group.is_served_without(row))
    }

    /// Whether the instance in `row` has a listener.
    pub fn is_listening(&self, row: Row) -> bool {
        self.members().any(|(_, member)| member.row == row)
    }

    /// The listeners of the instance in `row` that are in groups.
    pub fn listeners_of(&self, row: Row) -> Vec<Listening> {
        let own = self.members().filter(|(_, member)| member.row == row);
        own.map(|(addr, member)| Listening {
            addr,
            cookie: member.cookie,
        })
        .collect()
    }

    /// Whether the instance in `row` can be chosen.
    pub fn is_published(&self, row: Row) -> bool {
        self.published.iter().any(|published| published.row == row)
    }

    /// The listener of the instance on this address that directed connections reach.
    pub fn directed_listener(&self, row: Row, addr: SocketAddr) -> Option<u64> {
        let members = self.groups.get(&addr).map(Group::members).unwrap_or_default();
        members
            .iter()
            .find(|member| member.row == row && member.nth == 0)
            .map(|member| member.cookie)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (SocketAddr, &Member)> {
        self.groups
            .values()
            .flat_map(|group| group.members().iter().map(|member| (group.addr(), member)))
    }
}

/// What waits on each row's members, given by row and cookie. A row of which any is not among the listeners is left out: nothing is known
/// of that one.
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
