//! One group.

use std::{
    fs::File,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use reuse_common::{
    limits::{LISTENERS_PER_INSTANCE, LOT},
    seats::Seat,
    verdict::VerdictCounts,
};

use super::{GroupError, lot::Lot, member::Member};
use crate::bpf::{AppPrograms, GroupProgram};

/// The listeners of all instances on one address, the program that chooses among them, and the lot.
pub(super) struct Group {
    addr: SocketAddr,
    program: GroupProgram,
    lot: Lot,
    members: Vec<Member>,
    seats: Vec<Seat>,
    /// Connections to this address are expected even while no worker listens (`--listen`, or it was served once).
    pub(super) lasting: bool,
}

/// A group as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Connections that wait because nobody is published.
    pub parked: u32,
    /// What the program decided.
    pub verdicts: VerdictCounts,
}

impl Group {
    /// Puts a program in charge of the group of `first`, a worker's listener, or of a new one if there is none yet.
    pub(super) fn open(
        addr: SocketAddr,
        only_v6: bool,
        cgroup: &File,
        uid: u32,
        mut program: GroupProgram,
        first: Option<&OwnedFd>,
    ) -> Result<Self, GroupError> {
        // The program first: what comes from now on is steered, to the lot if need be.
        if let Some(first) = first {
            program.attach(first.as_fd())?;
        }
        let lot = Lot::open(addr, only_v6, cgroup, uid).map_err(|source| GroupError::Lot { addr, source })?;
        if first.is_none() {
            program.attach(lot.as_fd())?;
        }
        program.set_member(LOT, 0, lot.as_fd())?;
        Ok(Self {
            addr,
            program,
            lot,
            members: Vec::new(),
            seats: Vec::new(),
            lasting: first.is_none(),
        })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether the program can be asked of this group's address through the lot: stamps it like any listener.
    pub(super) fn stamp_lot(&self, app: &mut AppPrograms) -> Result<(), GroupError> {
        Ok(app.stamp(&self.lot.as_fd(), self.lot.cookie(), LOT)?)
    }

    /// Makes a listener a member; it can't be chosen before its instance is published.
    pub(super) fn join(&mut self, instance: u16, cookie: u64, listener: &OwnedFd) -> Result<(), GroupError> {
        if self.members.iter().any(|member| member.cookie == cookie) {
            return Ok(());
        }
        let nth = self.listeners_of(instance);
        if usize::from(nth) >= LISTENERS_PER_INSTANCE {
            return Err(GroupError::TooMany { addr: self.addr });
        }
        self.program.set_member(instance, nth, listener.as_fd())?;
        self.members.push(Member { instance, nth, cookie });
        Ok(())
    }

    /// A listener has closed. Returns its instance's remaining members, which have to be numbered anew, if it was not the last one.
    pub(super) fn leave(&mut self, cookie: u64) -> Option<Vec<Member>> {
        let place = self.members.iter().position(|member| member.cookie == cookie)?;
        let gone = self.members.swap_remove(place);
        let (theirs, others) = self
            .members
            .drain(..)
            .partition(|member| member.instance == gone.instance);
        self.members = others;
        for member in &theirs {
            self.take_out(member);
        }
        self.take_out(&gone);
        Some(theirs)
    }

    /// Forgets everything of an instance that has ended.
    pub(super) fn forget(&mut self, instance: u16) {
        let (theirs, others): (Vec<_>, Vec<_>) = self.members.drain(..).partition(|member| member.instance == instance);
        self.members = others;
        for member in &theirs {
            self.take_out(member);
        }
    }

    fn take_out(&mut self, member: &Member) {
        if let Err(error) = self.program.clear_member(member.instance, member.nth) {
            tracing::warn!("{}: {error}", self.addr);
        }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn listeners_of(&self, instance: u16) -> u16 {
        u16::try_from(self.members.iter().filter(|member| member.instance == instance).count()).expect("at most 8")
    }

    /// Lets the program choose among those of `published` (slot, instance) that have a listener here.
    pub(super) fn publish(&mut self, published: &[(u16, u16)]) -> Result<(), GroupError> {
        let seats: Vec<Seat> = published
            .iter()
            .map(|&(slot, instance)| Seat::new(slot, instance, self.listeners_of(instance)))
            .filter(|seat| seat.listeners() > 0)
            .collect();
        if seats != self.seats {
            self.program.publish(&seats)?;
            self.lasting |= !seats.is_empty();
            self.seats = seats;
        }
        self.release_parked()
    }

    /// Moves parked connections to workers, if any is published. Called again while time passes: a handshake that began while
    /// nobody was published ends in the lot even after somebody is.
    pub(super) fn release_parked(&mut self) -> Result<(), GroupError> {
        if self.seats.is_empty() || self.lot.parked() == 0 {
            return Ok(());
        }
        self.lot.release().map_err(GroupError::socket("shutdown and listen"))?;
        self.program.set_member(LOT, 0, self.lot.as_fd())?;
        Ok(())
    }

    /// Whether anybody can be chosen here.
    pub(super) fn is_served(&self) -> bool {
        !self.seats.is_empty()
    }

    pub(super) fn is_lot(&self, cookie: u64) -> bool {
        self.lot.cookie() == cookie
    }

    pub(super) fn view(&self) -> Result<GroupView, GroupError> {
        Ok(GroupView {
            addr: self.addr,
            parked: self.lot.parked(),
            verdicts: self.program.verdicts()?,
        })
    }
}
