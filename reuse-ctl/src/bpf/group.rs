//! One group's copy of `select`, with its tables.

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
    ids::{MemberIndex, Row, Slot},
    rendezvous::Buckets,
    seats::{Membership, Seat},
    tcp_layout::TcpLayout,
    verdict::VerdictCounts,
};

use super::{
    AppPrograms, BpfError, app::SharedMaps, in_map, mapped::MappedTable, program, quiet::Undisturbed, refused, removed,
    take,
};

/// Steers one group. Dropping it does not detach the program: that ends with the group's last listener, or by [`detach`](Self::detach).
pub struct GroupProgram {
    table: MappedTable<GroupTable>,
    members: ReusePortSockArray<MapData>,
    /// Whose each key is, among [`assigned`](Self::assigned).
    buckets: Box<Buckets>,
    /// The slots that `buckets` were made for.
    assigned: Vec<(Slot, Option<Share>)>,
    ebpf: Ebpf,
}

/// A copy of `select` with its maps, which uses nothing by name any more: whoever has it may outlive the app.
pub struct UnverifiedProgram(GroupProgram);

impl UnverifiedProgram {
    /// Has the kernel verify it: a fifth of a second of a processor, which can be many seconds where processors are short.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn verify(self) -> Result<GroupProgram, BpfError> {
        let _undisturbed = Undisturbed::begin();
        let Self(mut group) = self;
        let select: &mut SkReuseport = program(&mut group.ebpf, "select")?;
        select.load().map_err(refused("load", "select"))?;
        Ok(group)
    }
}

impl GroupProgram {
    /// Loads a copy of `select` onto the app's maps. Nobody is published yet.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(app: &AppPrograms, refuse_when_empty: bool) -> Result<Self, BpfError> {
        Self::open(app.shared(), refuse_when_empty)?.verify()
    }

    /// The first half of [`load`](Self::load), to be called on another thread.
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

    /// Whether it refuses connections, rather than to let them wait, while nobody is published.
    pub fn set_refuse_when_empty(&mut self, refuse: bool) {
        self.table.view().refuse_when_empty(refuse);
    }

    /// Puts the program in charge of the group that this listener belongs to.
    ///
    /// # Errors
    /// When the socket is not in a group, or is an MPTCP one.
    pub fn attach(&mut self, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        let select: &mut SkReuseport = program(&mut self.ebpf, "select")?;
        select.attach(listener).map_err(refused("attach", "select"))
    }

    /// Leaves the group to the kernel's own hash again.
    ///
    /// # Errors
    /// When no program is attached.
    pub fn detach(listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        SkReuseport::detach(listener).map_err(refused("detach", "select"))
    }

    /// Makes the listener number `nth` of the instance in `row` selectable. It must be listening and a member of the group; it leaves by
    /// itself when it closes.
    ///
    /// # Errors
    /// EINVAL: not listening; EBADFD: of the other address family; EBUSY: in the array already.
    pub fn set_member(&mut self, row: Row, nth: u16, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.members
            .set(MemberIndex::new(row, nth).key(), &listener.as_fd().as_raw_fd(), 0)
            .map_err(in_map("MEMBERS"))
    }

    /// Takes the listener out of the array, if it is there.
    ///
    /// # Errors
    /// When the map can't be written.
    pub fn clear_member(&mut self, row: Row, nth: u16) -> Result<(), BpfError> {
        removed(self.members.clear_index(&MemberIndex::new(row, nth).key()), "MEMBERS")
    }

    /// From now on exactly these (sorted by slot) can be chosen, those with a share for just that many new connections. New connections
    /// see the old set or the new one: the tables are written where no program reads, and then switched to. Nobody waits for programs
    /// that still read, though. One that stalls while this is called twice (its virtual processor was descheduled; it runs for less than a
    /// microsecond else) may see a mixture of two valid sets: its one connection goes to an instance of either, or is parked (or
    /// refused) as if nobody were published.
    ///
    /// # Errors
    /// None at present: the tables are memory that is mapped here.
    pub fn publish(&mut self, seats: &[Seat]) -> Result<(), BpfError> {
        let slots: Vec<_> = seats.iter().map(|seat| (seat.slot(), seat.share())).collect();
        // A reload changes who sits there, but not whose the keys are.
        if !slots.is_empty() && slots != self.assigned {
            self.buckets.assign(&slots);
            self.assigned = slots;
        }
        let membership = Membership::new(seats.iter().copied());
        self.table.view().publish(membership, &self.buckets);
        Ok(())
    }

    /// What the program has decided so far.
    ///
    /// # Errors
    /// None at present, as for [`publish`](Self::publish).
    pub fn verdicts(&self) -> Result<VerdictCounts, BpfError> {
        Ok(self.table.view().verdicts())
    }
}
