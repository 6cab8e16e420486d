//! A group's own copy of `select`, with its tables.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{MapData, ReusePortSockArray},
    programs::SkReuseport,
};
use reuse_common::{
    Share,
    group::GroupTable,
    ids::{MemberIndex, Row, SlotId},
    rendezvous::Buckets,
    seats::{Membership, Seat},
    tcp_layout::TcpLayout,
    verdict::VerdictCounts,
};

use super::{
    AppPrograms, BpfError, app::SharedMaps, in_map, mapped::MappedTable, program, quiet::Undisturbed, refused, removed,
    take,
};

/// Steers one group. Dropping it does not detach the program, which stays attached until the group's last listener closes or
/// [`detach`](Self::detach) is called.
pub struct GroupProgram {
    table: MappedTable<GroupTable>,
    members: ReusePortSockArray<MapData>,
    /// The owner of each bucket, among [`assigned`](Self::assigned).
    buckets: Box<Buckets>,
    /// The slots that `buckets` were computed for.
    assigned: Vec<(SlotId, Option<Share>)>,
    ebpf: Ebpf,
}

/// A copy of `select` with its maps, not yet verified. It uses nothing by name any more, so it may outlive the app.
pub struct UnverifiedProgram(GroupProgram);

impl UnverifiedProgram {
    /// Has the kernel verify the program. This takes a fifth of a second of CPU time, which can be many seconds on a busy machine.
    ///
    /// # Errors
    /// Fails if the kernel refuses the program.
    pub fn verify(self) -> Result<GroupProgram, BpfError> {
        let _undisturbed = Undisturbed::begin();
        let Self(mut group) = self;
        let select: &mut SkReuseport = program(&mut group.ebpf, "select")?;
        select.load().map_err(refused("load", "select"))?;
        Ok(group)
    }
}

impl GroupProgram {
    /// Loads a copy of `select` that uses the app's maps. No instance is published yet.
    ///
    /// # Errors
    /// Fails if the kernel refuses the program.
    pub fn load(app: &AppPrograms, refuse_when_empty: bool) -> Result<Self, BpfError> {
        Self::open(app.shared(), refuse_when_empty)?.verify()
    }

    /// The first half of [`load`](Self::load), which may run on another thread.
    pub fn loader(
        app: &AppPrograms,
        refuse_when_empty: bool,
    ) -> impl FnOnce() -> Result<UnverifiedProgram, BpfError> + Send + use<> {
        let shared = Arc::clone(app.shared());
        move || Self::open(&shared, refuse_when_empty)
    }

    fn open(shared: &SharedMaps, refuse_when_empty: bool) -> Result<UnverifiedProgram, BpfError> {
        let _undisturbed = Undisturbed::begin();
        let mut ebpf = shared.load_object(&TcpLayout::UNKNOWN)?;
        shared.follow_logs(&mut ebpf);
        let group = Self {
            table: MappedTable::new(&mut ebpf, "GROUP")?,
            members: take(&mut ebpf, "MEMBERS")?,
            buckets: Box::new(Buckets::EMPTY),
            assigned: Vec::new(),
            ebpf,
        };
        group.table.view().refuse_when_empty(refuse_when_empty);
        Ok(UnverifiedProgram(group))
    }

    /// Sets whether connections are refused, instead of parked, while nobody is published.
    pub fn set_refuse_when_empty(&mut self, refuse: bool) {
        self.table.view().refuse_when_empty(refuse);
    }

    /// Attaches the program to the group of this listener.
    ///
    /// # Errors
    /// Fails if the socket is not in a group, or is an MPTCP socket.
    pub fn attach(&mut self, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        let select: &mut SkReuseport = program(&mut self.ebpf, "select")?;
        select.attach(listener).map_err(refused("attach", "select"))
    }

    /// Detaches the program, so that the kernel's own hash decides again.
    ///
    /// # Errors
    /// Fails if no program is attached.
    pub fn detach(listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        SkReuseport::detach(listener).map_err(refused("detach", "select"))
    }

    /// Makes listener number `nth` of the instance in `row` selectable. It must be listening and a member of the group. The kernel removes
    /// it when it closes.
    ///
    /// # Errors
    /// EINVAL: not listening; EBADFD: of the other address family; EBUSY: in an array already.
    pub fn set_member(&mut self, row: Row, nth: u16, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.members
            .set(MemberIndex::new(row, nth).key(), &listener.as_fd().as_raw_fd(), 0)
            .map_err(in_map("MEMBERS"))
    }

    /// Removes the listener from the array, if it is there.
    ///
    /// # Errors
    /// Fails if the map can't be written.
    pub fn clear_member(&mut self, row: Row, nth: u16) -> Result<(), BpfError> {
        removed(self.members.clear_index(&MemberIndex::new(row, nth).key()), "MEMBERS")
    }

    /// Publishes exactly these seats (sorted by slot). Those with a share get exactly that share of new connections. A new connection sees
    /// either the old tables or the new ones: the tables are written where no program reads, and then switched to. But this does not wait
    /// for programs that are still reading. A program normally runs for less than a microsecond; if it stalls while this is called twice
    /// (its virtual CPU was descheduled), it may see a mixture of two valid sets. Its one connection then goes to an instance of either
    /// set, or is parked (or refused) as if nobody were published.
    ///
    /// # Errors
    /// Never fails at present: the tables are in mapped memory.
    pub fn publish(&mut self, seats: &[Seat]) -> Result<(), BpfError> {
        let slots: Vec<_> = seats.iter().map(|seat| (seat.slot(), seat.share())).collect();
        // A reload changes the instances, but not which slot owns a key.
        if !slots.is_empty() && slots != self.assigned {
            self.buckets.assign(&slots);
            self.assigned = slots;
        }
        let membership = Membership::new(seats.iter().copied());
        self.table.view().publish(membership, &self.buckets);
        Ok(())
    }

    /// How often the program has reached each verdict.
    ///
    /// # Errors
    /// Never fails at present, as [`publish`](Self::publish).
    pub fn verdicts(&self) -> Result<VerdictCounts, BpfError> {
        Ok(self.table.view().verdicts())
    }
}
