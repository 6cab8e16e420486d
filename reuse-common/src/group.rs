//! What the controller and a group's copy of `select` have in common: one map value, mapped into the controller's memory.
//!
//! One look-up serves the program for all of it. The first cache line is all that every connection reads besides its seat, and all that
//! it writes here.

#[cfg(not(target_arch = "bpf"))]
use crate::rendezvous::Buckets;
use crate::{
    cell,
    places::Places,
    seats::Membership,
    verdict::{Verdict, VerdictCounts},
};

/// The whole value.
#[repr(C, align(64))]
pub struct GroupTable {
    /// Which of the two buffers of membership and places is in use.
    active: u32,
    /// Not 0: refuse connections while nobody is published, instead of parking them.
    refuse_when_empty: u32,
    /// Counts connections that `round-robin` gave to free seats. Once in 2^32 turns it starts again from whatever seat is first.
    turns: u32,
    /// Counts connections while seats with a fixed share are published.
    draws: u32,
    verdicts: VerdictCounts,
    memberships: [Membership; 2],
    places: [Places; 2],
}

// What every selection writes is one line of the processor's cache, and full: a seventh verdict costs a second one.
const _: () = assert!(core::mem::offset_of!(GroupTable, memberships) == 64);

/// A live view of the table, in memory that every processor and the controller write.
#[derive(Clone, Copy)]
pub struct Group {
    table: *mut GroupTable,
}

/// Who may be chosen at this moment.
#[derive(Clone, Copy)]
pub struct Published<'a> {
    /// The seats.
    pub membership: &'a Membership,
    /// Where among them the owner of a key is.
    pub places: &'a Places,
}

impl Group {
    /// A view of `table`.
    ///
    /// # Safety
    /// `table` must stay valid for reads and writes as long as the view is used.
    #[inline(always)]
    pub const unsafe fn new(table: *mut GroupTable) -> Self {
        Self { table }
    }

    /// The tables in use. They stay as they are while the controller writes the next ones, and until it writes those after.
    #[inline(always)]
    pub fn published<'a>(&self) -> Published<'a> {
        // SAFETY: valid by the promise at `new`; an index of one bit is in bounds.
        unsafe {
            let active = cell::read(&raw const (*self.table).active) as usize & 1;
            Published {
                membership: &*(&raw const (*self.table).memberships).cast::<Membership>().add(active),
                places: &*(&raw const (*self.table).places).cast::<Places>().add(active),
            }
        }
    }

    /// Whether connections are refused while nobody is published.
    #[inline(always)]
    pub fn refuses_when_empty(&self) -> bool {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.table).refuse_when_empty) != 0 }
    }

    /// Takes a turn.
    #[inline(always)]
    pub fn next_turn(&self) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::add_u32(&raw mut (*self.table).turns, 1) }
    }

    /// Takes a number for the seats with a fixed share.
    #[inline(always)]
    pub fn next_draw(&self) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::add_u32(&raw mut (*self.table).draws, 1) }
    }

    /// Counts one run of the program. Not per processor: that line is one more to wait for, and this one is here already.
    #[inline(always)]
    pub fn count(&self, verdict: Verdict) {
        // SAFETY: valid by the promise at `new`; there is a counter for each verdict.
        unsafe {
            let counts = (&raw mut (*self.table).verdicts).cast::<u64>();
            cell::add_u64(counts.add(verdict as usize), 1);
        }
    }

    /// What the program has decided so far.
    pub fn verdicts(&self) -> VerdictCounts {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.table).verdicts) }
    }

    /// What is to become of connections while nobody is published.
    pub fn refuse_when_empty(&self, refuse: bool) {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::write(&raw mut (*self.table).refuse_when_empty, refuse.into()) };
    }

    /// From now on exactly these can be chosen, by key as these buckets say: written where no program reads, then switched to.
    #[cfg(not(target_arch = "bpf"))]
    pub fn publish(&self, membership: Membership, buckets: &Buckets) {
        let places = Places::new(&membership, buckets);
        // SAFETY: valid by the promise at `new`; only the controller writes the buffers, and programs read the other one.
        unsafe {
            let next = cell::read(&raw const (*self.table).active) as usize & 1 ^ 1;
            cell::write(
                (&raw mut (*self.table).memberships).cast::<Membership>().add(next),
                membership,
            );
            cell::write((&raw mut (*self.table).places).cast::<Places>().add(next), places);
            // An exchange, because it is a barrier too: whoever reads the number reads the tables.
            cell::exchange_u32(&raw mut (*self.table).active, next as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Place, Row, Slot},
        seats::Seat,
    };

    #[test]
    fn a_switch_shows_all_of_it() {
        // SAFETY: a table of integers may be all zeroes.
        let mut table = unsafe { Box::<GroupTable>::new_zeroed().assume_init() };
        // SAFETY: the table outlives the view.
        let group = unsafe { Group::new(&raw mut *table) };
        assert_eq!(group.published().membership.count(), 0);
        let mut buckets = Buckets::EMPTY;
        for slot in [5, 6, 7] {
            buckets.assign(&[(Slot(slot), None)]);
            // The other seat comes first, so that the owner's place is not what an empty table says.
            group.publish(
                Membership::new([slot + 100, slot].map(|slot| Seat::new(Slot(slot), Row(slot + 1), 1))),
                &buckets,
            );
            let Published { membership, places } = group.published();
            assert_eq!(membership.seat(Place(0)).slot(), Slot(slot + 100));
            assert_eq!(membership.seat(places.of(77)).slot(), Slot(slot));
        }
        group.publish(Membership::EMPTY, &buckets);
        assert_eq!(group.published().membership.count(), 0);
        assert_eq!(group.published().places.of(77), Place(0), "of no seat");
    }

    #[test]
    fn every_verdict_has_its_counter() {
        // SAFETY: a table of integers may be all zeroes.
        let mut table = unsafe { Box::<GroupTable>::new_zeroed().assume_init() };
        // SAFETY: the table outlives the view.
        let group = unsafe { Group::new(&raw mut *table) };
        for (nth, verdict) in Verdict::ALL.into_iter().enumerate() {
            for _ in 0..=nth {
                group.count(verdict);
            }
        }
        let counts = group.verdicts();
        assert_eq!(Verdict::ALL.map(|verdict| counts.get(verdict)), [1, 2, 3, 4, 5, 6],);
        assert_eq!((group.next_turn(), group.next_turn(), group.next_draw()), (0, 1, 0));
        group.refuse_when_empty(true);
        assert!(group.refuses_when_empty() && group.published().membership.count() == 0);
    }
}
