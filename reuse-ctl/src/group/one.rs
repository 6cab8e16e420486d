//! One group.

use std::{
    fs::File,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use reuse_common::{ids::Row, seats::Seat, verdict::VerdictCounts};

use super::{
    Choosable, GroupError,
    backstop::Backstop,
    member::Member,
    members::{Full, Members},
    rescue,
};
use crate::bpf::{AppPrograms, GroupProgram};

/// The listeners of all instances on one address, the program that chooses among them, and the backstop.
pub(super) struct Group {
    addr: SocketAddr,
    /// Whether it leaves IPv4 connections alone, if it is on all IPv6 addresses.
    only_v6: bool,
    /// Whether the controller has opened the listener for the workers (`--listen`).
    is_inherited: bool,
    program: GroupProgram,
    backstop: Backstop,
    members: Members,
    seats: Vec<Seat>,
    /// When the last worker stopped listening here while the app is served elsewhere.
    abandoned_since: Option<Instant>,
    /// Connections to this address are expected even while no worker listens (`--listen`, or a worker has served it before).
    lasting: bool,
    /// The app's instances listen elsewhere now: whoever still listens here is being stopped, and nobody will come back.
    is_left: bool,
    /// Some of the app's instances have listened here before and listen elsewhere now.
    some_have_left: bool,
    /// The configured value. New connections are refused anyway on an address that is left for good.
    refuse_when_empty: bool,
}

/// A number without a listener, and the member that must take it.
pub(super) struct Gap {
    nth: u16,
    pub(super) last: Member,
}

/// A group as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Connections that wait because nobody is published.
    pub parked: u32,
    /// How often the program has reached each verdict.
    pub verdicts: VerdictCounts,
}

impl Group {
    /// Attaches a program to the group of `first`, a worker's listener, or creates a new group if it is `None`.
    pub(super) fn open(
        addr: SocketAddr,
        only_v6: bool,
        cgroup: &File,
        uid: u32,
        app: &mut AppPrograms,
        mut program: GroupProgram,
        first: Option<&OwnedFd>,
    ) -> Result<Self, GroupError> {
        // The program first: from now on connections are steered, to the backstop if necessary.
        if let Some(first) = first {
            program.attach(first.as_fd())?;
        }
        let backstop = Backstop::open(addr, only_v6, cgroup, uid, |socket, cookie| {
            app.steered(socket, cookie, Row::BACKSTOP)
        })?;
        if first.is_none() {
            program.attach(backstop.as_fd())?;
        }
        program.set_member(Row::BACKSTOP, 0, backstop.as_fd())?;
        Ok(Self {
            addr,
            only_v6,
            is_inherited: first.is_none(),
            program,
            backstop,
            members: Members::default(),
            seats: Vec::new(),
            abandoned_since: None,
            lasting: first.is_none(),
            is_left: false,
            some_have_left: false,
            refuse_when_empty: false,
        })
    }

    pub(super) fn set_refuse_when_empty(&mut self, refuse: bool) {
        self.refuse_when_empty = refuse;
        self.program.set_refuse_when_empty(refuse || self.is_left);
    }

    /// The app's instances listen elsewhere from now on.
    pub(super) fn leave(&mut self) {
        (self.is_left, self.some_have_left) = (true, true);
        self.set_refuse_when_empty(self.refuse_when_empty);
    }

    /// Whether the app leaves this address, and only the instance in `row` still serves it.
    pub(super) fn is_left_to(&self, row: Row) -> bool {
        self.is_left && self.seats.iter().any(|seat| seat.row() == row)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether connections to `addr` come here if nobody listens on exactly that address.
    pub(super) fn covers(&self, addr: SocketAddr) -> bool {
        covers(self.addr, self.only_v6, addr)
    }

    /// Whether no worker listens here, and no option says that one will.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && !self.is_inherited
    }

    /// Connections that wait at the backstop listener.
    pub(super) fn parked(&self) -> u32 {
        self.backstop.parked()
    }

    /// Makes a listener of the instance in `row` a member. It is not chosen before the instance is published. A listener that is a member
    /// already may have been closed and opened again; then it is put back into the array.
    pub(super) fn join(&mut self, row: Row, cookie: u64, listener: &OwnedFd) -> Result<(), GroupError> {
        if let Some(member) = self.members.get(cookie) {
            return match self.program.set_member(member.row, member.nth, listener.as_fd()) {
                Err(error) if !error.is_busy() => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let addr = self.addr;
        let nth = self.members.next(row).map_err(|full| match full {
            Full::Instance => GroupError::TooManyOfWorker { addr },
            Full::Group => GroupError::TooManyOfApp { addr },
        })?;
        self.program.set_member(row, nth, listener.as_fd())?;
        self.members.add(Member::new(row, nth, cookie));
        Ok(())
    }

    /// Removes a listener that has closed. An instance's listeners must be numbered without gaps: if another one must take the free number,
    /// it is returned. It stays selectable under its old number until it is [`renumbered`](Self::renumber).
    pub(super) fn remove_member(&mut self, cookie: u64) -> Option<Gap> {
        let gone = self.members.remove(cookie)?;
        self.take_out(&gone);
        let last = self.members.of(gone.row).iter().max_by_key(|member| member.nth);
        last.filter(|last| last.nth > gone.nth).map(|last| Gap {
            nth: gone.nth,
            last: last.clone(),
        })
    }

    /// Moves a member to the free number. `listener` is a duplicate of it.
    pub(super) fn renumber(&mut self, gap: &Gap, listener: &OwnedFd) -> Result<(), GroupError> {
        let Some(member) = self.members.get_mut(gap.last.cookie) else {
            return Ok(());
        };
        // A socket can be in the array only once.
        self.program.clear_member(member.row, member.nth)?;
        self.program.set_member(member.row, gap.nth, listener.as_fd())?;
        member.nth = gap.nth;
        Ok(())
    }

    /// Removes everything about the instance in `row`, which has ended.
    pub(super) fn forget(&mut self, row: Row) {
        for member in &self.members.remove_all(row) {
            self.take_out(member);
        }
    }

    fn take_out(&mut self, member: &Member) {
        if let Err(error) = self.program.clear_member(member.row, member.nth) {
            tracing::warn!("{}: {error}", self.addr);
        }
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// Takes the queued connections away from a member, through a duplicate of its listener. Returns false if there was nothing to take.
    pub(super) fn reopen(&mut self, member: &Member, listener: &OwnedFd) -> Result<bool, GroupError> {
        if !rescue::reopen(self.addr, listener)? {
            return Ok(false);
        }
        if let Some(reopened) = self.members.get_mut(member.cookie) {
            reopened.reopenings = reopened.reopenings.saturating_add(1);
        }
        // The kernel removed it from the array when it was closed.
        self.program.set_member(member.row, member.nth, listener.as_fd())?;
        Ok(true)
    }

    /// Records that the notice about one of this member's reopenings has arrived.
    pub(super) fn explain_reopening(&mut self, cookie: u64) {
        if let Some(member) = self.members.get_mut(cookie) {
            member.reopenings = member.reopenings.saturating_sub(1);
        }
    }

    pub(super) fn listeners_of(&self, row: Row) -> u16 {
        self.members.count(row)
    }

    /// Publishes those of `published` that have a listener here. If there is none and the app leaves this address, publishes those of
    /// `lingering`.
    pub(super) fn publish(&mut self, published: &[Choosable], lingering: &[Choosable]) -> Result<(), GroupError> {
        let mut seats = self.seats_of(published);
        // Every published instance listens here (again), so none has left.
        self.some_have_left &= seats.is_empty() || seats.len() < published.len();
        if !seats.is_empty() && self.is_left {
            self.is_left = false;
            self.set_refuse_when_empty(self.refuse_when_empty);
        } else if self.is_left {
            seats = self.seats_of(lingering);
        }
        if seats != self.seats {
            self.program.publish(&seats)?;
            self.lasting |= !seats.is_empty();
            self.seats = seats;
        }
        self.release_parked()
    }

    fn seats_of(&self, choosable: &[Choosable]) -> Vec<Seat> {
        let seats = choosable
            .iter()
            .map(|&Choosable { slot, row, share }| Seat::new(slot, row, self.listeners_of(row)).with_share(share));
        seats.filter(|seat| seat.listeners() > 0).collect()
    }

    /// Moves parked connections to workers, if any is published. Must be repeated: a handshake that began while nobody was published ends
    /// in the backstop even if an instance is published by then.
    pub(super) fn release_parked(&mut self) -> Result<(), GroupError> {
        let is_lame = !self.backstop.is_listening();
        if !is_lame && (self.seats.is_empty() || self.backstop.parked() == 0) {
            return Ok(());
        }
        self.backstop
            .release()
            .map_err(GroupError::socket("shutdown and listen"))?;
        self.program.set_member(Row::BACKSTOP, 0, self.backstop.as_fd())?;
        Ok(())
    }

    /// Resets the connections parked here, and returns their number. Does nothing if a worker listens. When the last listener of a group
    /// closes, the kernel resets its queue, since there is no listener to move the connections to.
    pub(super) fn reset_parked(&mut self) -> Result<u32, GroupError> {
        let parked = self.backstop.parked();
        if !self.members.is_empty() {
            return Ok(0);
        }
        if parked > 0 {
            self.backstop
                .release()
                .map_err(GroupError::socket("shutdown and listen"))?;
            // The group and its program ended with the last listener.
            self.program.attach(self.backstop.as_fd())?;
            self.program.set_member(Row::BACKSTOP, 0, self.backstop.as_fd())?;
        }
        Ok(parked)
    }

    /// Whether no worker has listened here for `hold` while the app is served elsewhere. A group in which no worker was ever published
    /// counts as abandoned at once.
    pub(super) fn is_abandoned(&mut self, served_elsewhere: bool, hold: Duration) -> bool {
        if !self.members.is_empty() || (self.lasting && !self.is_left && !served_elsewhere) {
            self.abandoned_since = None;
            return false;
        }
        let since = *self.abandoned_since.get_or_insert_with(Instant::now);
        !self.lasting || self.is_left || self.some_have_left || since.elapsed() >= hold
    }

    /// Whether any instance can be chosen here.
    pub(super) fn is_served(&self) -> bool {
        !self.seats.is_empty()
    }

    /// Whether any instance other than the one in `row` can be chosen here.
    pub(super) fn is_served_without(&self, row: Row) -> bool {
        self.seats.iter().any(|seat| seat.row() != row)
    }

    pub(super) fn is_backstop(&self, cookie: u64) -> bool {
        self.backstop.cookie() == cookie
    }

    pub(super) fn view(&self) -> Result<GroupView, GroupError> {
        Ok(GroupView {
            addr: self.addr,
            parked: self.parked(),
            verdicts: self.program.verdicts()?,
        })
    }
}

/// Whether a listener on all addresses, `any`, takes the connections to `addr` on which nobody else listens.
fn covers(any: SocketAddr, only_v6: bool, addr: SocketAddr) -> bool {
    let same_family = any.is_ipv4() == addr.is_ipv4();
    let is_dual = any.is_ipv6() && !only_v6;
    any.port() == addr.port() && any.ip().is_unspecified() && !addr.ip().is_unspecified() && (same_family || is_dual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_what() {
        for (any, only_v6, addr, expected) in [
            ("0.0.0.0:80", false, "127.0.0.1:80", true),
            ("0.0.0.0:80", false, "127.0.0.1:81", false),
            ("0.0.0.0:80", false, "0.0.0.0:80", false),
            ("0.0.0.0:80", false, "[::1]:80", false),
            ("[::]:80", false, "127.0.0.1:80", true),
            ("[::]:80", true, "127.0.0.1:80", false),
            ("[::]:80", true, "[::1]:80", true),
            ("127.0.0.1:80", false, "127.0.0.1:80", false),
        ] {
            let (any, addr) = (any.parse().expect("an address"), addr.parse().expect("an address"));
            assert_eq!(covers(any, only_v6, addr), expected, "{any} {only_v6} {addr}");
        }
    }
}
