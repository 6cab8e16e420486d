//! The kernel's side: what `select` and `track` do with the functions of `reuse-common`, in the same order, on tables of the same types.

use reuse_common::{
    Policy, choose,
    client::{ClientKey, ClientMask, ClientRecord},
    ids::{Place, Row, SlotId},
    limits::{MAX_ROWS, MAX_SLOTS},
    load::{LoadTable, Loads},
    places::Places,
    rendezvous::Buckets,
    seats::{Membership, Seat},
};

use crate::lru::ClientTable;
use crate::setup::Chooser;
use crate::variant::{self, OtherBuckets, Tuning, Weighed};

/// What `select` knows of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    /// The kernel's hash of the 4-tuple.
    pub(crate) hash: u32,
    /// The client's IPv4 address, host byte order.
    pub(crate) client: u32,
}

/// How sticky clients fared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StickyCounts {
    pub(crate) placed: u64,
    /// Of the placed, those that are not on their own bucket's owner.
    pub(crate) away_from_home: u64,
}

/// Tables and counters of one group.
pub(crate) struct Kernel {
    chooser: Chooser,
    tuning: Tuning,
    membership: Membership,
    buckets: Box<Buckets>,
    places: Box<Places>,
    /// In place of both, if the tuning wants another number.
    other_buckets: Option<OtherBuckets>,
    loads: Box<LoadTable>,
    clients: ClientTable,
    slot_of_row: Vec<SlotId>,
    turns: u32,
    draws: u32,
    sticky: StickyCounts,
}

impl Kernel {
    pub(crate) fn new(chooser: Chooser, tuning: Tuning) -> Self {
        let clients = if chooser == Chooser::By(Policy::Sticky) {
            tuning.client_capacity
        } else {
            0
        };
        Self {
            chooser,
            tuning,
            membership: Membership::EMPTY,
            buckets: Box::new(Buckets::EMPTY),
            places: Box::new(Places::EMPTY),
            other_buckets: None,
            // SAFETY: a table of integers may be all zeroes.
            loads: unsafe { Box::<LoadTable>::new_zeroed().assume_init() },
            clients: ClientTable::new(clients),
            slot_of_row: vec![SlotId(0); MAX_ROWS],
            turns: 0,
            draws: 0,
            sticky: StickyCounts::default(),
        }
    }

    /// Lets these be chosen from now on.
    pub(crate) fn publish(&mut self, seats: &[Seat]) {
        for seat in seats {
            self.slot_of_row[seat.row().index()] = seat.slot();
        }
        self.membership = Membership::new(seats.iter().copied());
        if matches!(self.chooser, Chooser::By(Policy::Hash | Policy::Sticky)) {
            let slots: Vec<_> = seats.iter().map(|seat| (seat.slot(), seat.share())).collect();
            self.buckets.assign(&slots);
            *self.places = Places::new(&self.membership, &self.buckets);
            if self.tuning.bucket_bits != Tuning::REAL.bucket_bits {
                let slots: Vec<SlotId> = seats.iter().map(Seat::slot).collect();
                self.other_buckets = Some(OtherBuckets::new(self.tuning.bucket_bits, &slots));
            }
        }
    }

    /// The rows that may be chosen.
    pub(crate) fn seats(&self) -> &[Seat] {
        self.membership.seats()
    }

    /// Whether this slot may be chosen.
    pub(crate) fn is_published(&self, slot: u16) -> bool {
        (slot as usize) < MAX_SLOTS && self.membership.place_of(SlotId(slot)).is_some()
    }

    /// A SYN: the row of the listener that takes it.
    pub(crate) fn select(&mut self, now_ns: u64, packet: Packet) -> Row {
        let place = self.place(now_ns, packet);
        let row = self.membership.seat(place).row();
        self.loads().selected(row);
        if self.weighs_loads() && self.tuning.reserves {
            let epoch = self.tuning.epoch(now_ns);
            self.loads().reserve(row, epoch);
        }
        if self.tuning.remembers_at_syn {
            self.remember(now_ns, row, packet.client);
        }
        row
    }

    /// The handshake is complete.
    pub(crate) fn established(&mut self, now_ns: u64, row: Row, client: u32) {
        self.loads().entered(row, true);
        if self.weighs_loads() {
            let epoch = self.tuning.epoch(now_ns);
            self.loads().unreserve(row, epoch);
        }
        let slot = self.slot_of_row[row.index()];
        if self.is_sticky() && !self.clients.renew(&key(client), slot, now_ns) {
            self.remember(now_ns, row, client);
        }
    }

    /// The connection has ended.
    pub(crate) fn left(&mut self, now_ns: u64, row: Row, client: u32) {
        self.loads().left(row);
        if self.is_sticky() {
            let slot = self.slot_of_row[row.index()];
            self.clients.renew(&key(client), slot, now_ns);
        }
    }

    /// A connection was queued on a listener that closes: the row of the one that gets it.
    pub(crate) fn migrate(&mut self, now_ns: u64, from: Row, packet: Packet) -> Row {
        let place = self.place(now_ns, packet);
        let row = self.membership.seat(place).row();
        self.loads().migrated(from, row);
        self.remember(now_ns, row, packet.client);
        row
    }

    /// The controller has looked at this accept queue.
    pub(crate) fn note_queue(&mut self, row: Row, queue: u32) {
        self.loads().set_queue(row, queue);
    }

    /// Sticky clients that were forgotten for want of room.
    pub(crate) const fn evicted(&self) -> u64 {
        self.clients.evicted()
    }

    pub(crate) const fn sticky_counts(&self) -> StickyCounts {
        self.sticky
    }

    /// Selections so far.
    pub(crate) fn selected_total(&self, row: Row) -> u64 {
        self.loads.rows()[row.index()].selected_total()
    }

    fn place(&mut self, now_ns: u64, packet: Packet) -> Place {
        match self.chooser {
            Chooser::Plain => Place(((u64::from(packet.hash) * u64::from(self.membership.count())) >> 32) as u32),
            Chooser::By(Policy::Hash) => match &self.other_buckets {
                Some(buckets) => variant::by_hash(&self.membership, buckets, packet.hash),
                None => choose::by_hash(&self.places, packet.hash),
            },
            Chooser::By(Policy::Sticky) => self.by_client(now_ns, packet.client),
            Chooser::By(policy @ (Policy::RoundRobin | Policy::LeastLoaded)) => {
                if let Some(place) = self.by_share() {
                    place
                } else if policy == Policy::RoundRobin {
                    self.turns = self.turns.wrapping_add(1);
                    choose::by_turn(&self.membership, self.turns.wrapping_sub(1))
                } else {
                    self.by_load(now_ns, packet.hash)
                }
            }
        }
    }

    fn by_share(&mut self) -> Option<Place> {
        if !self.membership.has_shares() {
            return None;
        }
        self.draws = self.draws.wrapping_add(1);
        choose::by_share(&self.membership, self.draws.wrapping_sub(1))
    }

    fn by_load(&mut self, now_ns: u64, hash: u32) -> Place {
        let (loads, moment) = (self.loads(), self.tuning.moment(now_ns));
        if self.tuning.chooses_as_the_real_one() {
            choose::by_load(&self.membership, loads, moment, hash)
        } else {
            variant::by_load(&self.membership, self.weighed(loads, now_ns), hash)
        }
    }

    fn by_client(&mut self, now_ns: u64, client: u32) -> Place {
        let key = key(client);
        let recorded = self.clients.get(&key).and_then(|record| record.slot(now_ns, 0));
        if let Some(place) = choose::by_record(&self.membership, recorded) {
            return place;
        }
        let (loads, moment) = (self.loads(), self.tuning.moment(now_ns));
        let place = if self.tuning.chooses_as_the_real_one() {
            choose::for_new_client(&self.membership, &self.places, loads, &key, moment)
        } else {
            variant::for_new_client(&self.membership, &self.places, self.weighed(loads, now_ns), &key)
        };
        let home = self.buckets.owner(key.hash(0) as u32);
        self.sticky.placed += 1;
        self.sticky.away_from_home += u64::from(self.membership.seat(place).slot() != home);
        place
    }

    fn remember(&mut self, now_ns: u64, row: Row, client: u32) {
        if self.is_sticky() {
            let record = ClientRecord::new(self.slot_of_row[row.index()], now_ns);
            self.clients.insert(key(client), record);
        }
    }

    fn is_sticky(&self) -> bool {
        self.chooser == Chooser::By(Policy::Sticky)
    }

    fn weighs_loads(&self) -> bool {
        matches!(self.chooser, Chooser::By(policy) if policy.weighs_loads())
    }

    fn weighed(&self, loads: Loads, now_ns: u64) -> Weighed<'_> {
        Weighed {
            loads,
            tuning: &self.tuning,
            now_ns,
        }
    }

    fn loads(&mut self) -> Loads {
        // SAFETY: the table lives as long as `self`; no view outlives the method that makes it.
        unsafe { Loads::new(&raw mut *self.loads) }
    }
}

fn key(client: u32) -> ClientKey {
    ClientKey::from_v4(client.to_be(), &ClientMask::new(32, 64))
}
