//! The map value that the controller and a group's copy of `select` share. The controller maps it into its own memory.
//!
//! The program finds everything with one map look-up. A connection writes only the first cache line of this value. It reads that line, the
//! counts of the membership, the seats that its policy looks at, and under `hash` and `sticky` the place of a bucket.

#[cfg(not(target_arch = "bpf"))]
use crate::rendezvous::Buckets;
use crate::{
    cell,
    places::Places,
    seats::Membership,
    verdict::{Verdict, VerdictCounts},
};

/// The whole map value.
#[repr(C, align(64))]
pub struct GroupTable {
    /// Which of the two buffers of membership and places is in use: 0 or 1.
    active: u32,
    /// Not 0 if connections are refused, instead of parked, while nobody is published.
    refuse_when_empty: u32,
    /// Counts connections that `round-robin` gave to free seats. It wraps around after 2^32 and then starts at the first seat again.
    turns: u32,
    /// Counts connections while seats with a fixed share are published.
    draws: u32,
    verdicts: VerdictCounts,
    memberships: [Membership; 2],
    places: [Places; 2],
}

// Every selection writes to this one cache line, and it is full: a seventh verdict would cost a second line.
const _: () = assert!(core::mem::offset_of!(GroupTable, memberships) == 64);

/// A live view of the table, which every CPU and the controller write to.
#[derive(Clone, Copy)]
pub struct Group {
    table: *mut GroupTable,
}

/// The tables that say which instances may be chosen now.
#[derive(Clone, Copy)]
pub struct Published<'a> {
    /// The published seats.
    pub membership: &'a Membership,
    /// The place of the owner of each bucket.
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

    /// The tables in use. They don't change while the controller writes the next ones, only when it writes those after next.
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

    /// Returns the current turn of `round-robin` and moves on to the next.
    #[inline(always)]
    pub fn next_turn(&self) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::add_u32(&raw mut (*self.table).turns, 1) }
    }

    /// Returns the next number for the choice of a seat with a fixed share.
    #[inline(always)]
    pub fn next_draw(&self) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::add_u32(&raw mut (*self.table).draws, 1) }
    }

    /// Counts one run of the program. The counter is not per CPU: that would be one more cache line to fetch, and this one is loaded
    /// already.
    #[inline(always)]
    pub fn count(&self, verdict: Verdict) {
        // SAFETY: valid by the promise at `new`; there is a counter for each verdict.
        unsafe {
            let counts = (&raw mut (*self.table).verdicts).cast::<u64>();
            cell::add_u64(counts.add(verdict as usize), 1);
        }
    }

    /// How often the program has reached each verdict.
    pub fn verdicts(&self) -> VerdictCounts {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.table).verdicts) }
    }

    /// Sets whether connections are refused while nobody is published.
    pub fn refuse_when_empty(&self, refuse: bool) {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::write(&raw mut (*self.table).refuse_when_empty, refuse.into()) };
    }

    /// Publishes exactly these seats, and the owners of keys given by `buckets`. Both are written to the buffer that no program reads,
    /// which is then made the active one.
    #[cfg(not(target_arch = "bpf"))]
    pub fn publish(&self, membership: Membership, buckets: &Buckets) {
        let places = Places::new(&membership, buckets);
        // SAFETY: valid by the promise at `new`. Only the controller writes the buffers, and programs read the other one.
        unsafe {
            let next = cell::read(&raw const (*self.table).active) as usize & 1 ^ 1;
            cell::write(
                (&raw mut (*self.table).memberships).cast::<Membership>().add(next),
                membership,
            );
            cell::write((&raw mut (*self.table).places).cast::<Places>().add(next), places);
            // An exchange is also a barrier: a program that reads the new number also reads the new tables.
            cell::exchange_u32(&raw mut (*self.table).active, next as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Place, Row, SlotId},
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
            buckets.assign(&[(SlotId(slot), None)]);
            // The other seat comes first, so that the owner's place is not what an empty table says.
            group.publish(
                Membership::new([slot + 100, slot].map(|slot| Seat::new(SlotId(slot), Row(slot + 1), 1))),
                &buckets,
            );
            let Published { membership, places } = group.published();
            assert_eq!(membership.seat(Place(0)).slot(), SlotId(slot + 100));
            assert_eq!(membership.seat(places.of(77)).slot(), SlotId(slot));
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
