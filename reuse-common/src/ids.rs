//! The numbers by which the BPF programs and the controller name things. Each is a type of its own, so that the compiler catches a mix-up.
//!
//! Users name a [`SlotId`]. An instance is one process incarnation of a slot and has a [`Row`] of the load table for its whole life. In each
//! group where the instance listens, each of its listeners has a [`MemberIndex`]. While the instance is published, it has a
//! [`Seat`](crate::seats::Seat) in the group's table, with its slot, its row and its number of listeners. The position of a seat is its
//! [`Place`]. A key belongs to a [`Bucket`], and a bucket to a slot.
//!
//! | type | range | indexes |
//! |---|---|---|
//! | [`SlotId`] | 0…255 | `place_of_slot` of [`Membership`](crate::seats::Membership) |
//! | [`Row`] | 0…1023 | [`LoadTable`](crate::load::LoadTable), [`CutTable`](crate::cuts::CutTable) |
//! | [`Place`] | 0…255 | the seats of [`Membership`](crate::seats::Membership) |
//! | [`Bucket`] | 0…16383 | [`Buckets`](crate::rendezvous::Buckets), [`Places`](crate::places::Places) |
//! | [`MemberIndex`] | 0…131071 | `MEMBERS`, the sockarray of a group |
//!
//! A field of a map value may be wider or narrower than the type: a row stored by itself has 32 bits, a place in `Places` has 8.

use core::fmt;

use crate::{
    limits::{LISTENERS_PER_INSTANCE, MAX_ROWS, MAX_SLOTS},
    rendezvous::BUCKETS,
};

/// A slot's number, 0…255, as users write it. A request may contain a larger number, which no slot has.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotId(pub u16);

impl SlotId {
    /// The index into a table of all slots. Masked, so that the verifier sees that it is in bounds.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize & (MAX_SLOTS - 1)
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A row of the kernel's load table and of the table of cut connections, 0…1023. Row 0 is for the backstop listeners. Every other row
/// belongs to one instance at a time, and rests before it is reused.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Row(pub u16);

impl Row {
    /// The row of the backstop listeners. A backstop is the controller's own listener in a group: it keeps the group and its program alive,
    /// and holds connections while nobody is published.
    pub const BACKSTOP: Self = Self(0);

    /// The index into a table of all rows. Masked, so that the verifier sees that it is in bounds.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize & (MAX_ROWS - 1)
    }

    /// The row that a map value names. The values of `INSTANCES`, `LISTENERS`, `MIGRATED`, `DIRECTED` and `ROWS` have 32 bits.
    #[inline(always)]
    pub const fn from_map(value: u32) -> Self {
        Self(value as u16)
    }

    /// The map value that names this row.
    #[inline(always)]
    pub const fn to_map(self) -> u32 {
        self.0 as u32
    }
}

/// The position of a seat in its group, 0…255. The free seats come first, then those with a fixed share.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place(pub u32);

impl Place {
    /// The index into the seats. Masked, so that the verifier sees that it is in bounds.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize & (MAX_SLOTS - 1)
    }

    /// The place `by` seats further on, wrapping around after the last of `count` seats. `count` must not be 0.
    #[inline(always)]
    pub const fn further(self, by: u32, count: u32) -> Self {
        Self((self.0 + by) % count)
    }
}

/// One of the 16,384 parts that keys are divided into. Each has one owner.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of a key with this hash. It is given by the upper bits, which must be evenly spread.
    ///
    /// Those bits need no mixing: the kernel's hash of a 4-tuple is Jenkins' (`jhash`, with a secret), which is good in all bits, and a
    /// client's hash is mixed already. Other decisions from the same hash must use other bits.
    /// [`choose::listener`](crate::choose::listener) uses the lower half; if it used the same bits, the listeners of an instance with few
    /// buckets would be loaded unevenly. [`choose::by_load`](crate::choose::by_load) mixes its number itself.
    #[inline(always)]
    pub const fn of(hash: u32) -> Self {
        Self((hash >> (u32::BITS - BUCKETS.ilog2())) as u16)
    }

    /// Every bucket, in ascending order.
    #[cfg(not(target_arch = "bpf"))]
    pub fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS as u16).map(Self)
    }

    /// The index into a table of all buckets. Masked, so that the verifier sees that it is in bounds.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize & (BUCKETS - 1)
    }
}

/// The index of a listener in its group's sockarray, 0…131071. Each row has 128 entries, so a chosen instance needs no further look-up.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(u32);

impl MemberIndex {
    /// The index of listener number `nth` (0…127) of the instance in `row`.
    #[inline(always)]
    pub const fn new(row: Row, nth: u16) -> Self {
        Self(row.index() as u32 * LISTENERS_PER_INSTANCE as u32 + (nth as u32 & (LISTENERS_PER_INSTANCE as u32 - 1)))
    }

    /// The key in the sockarray.
    #[inline(always)]
    pub const fn key(self) -> u32 {
        self.0
    }
}

const _: () = assert!(size_of::<SlotId>() == 2 && size_of::<Row>() == 2 && size_of::<Bucket>() == 2);
const _: () = assert!(size_of::<Place>() == 4 && size_of::<MemberIndex>() == 4);
const _: () = assert!(
    BUCKETS.is_power_of_two() && BUCKETS <= 1 << 16,
    "a bucket's number fits into two bytes"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MEMBER_INDEXES;

    #[test]
    fn every_listener_has_an_index_of_its_own() {
        let rows = (0..MAX_ROWS as u16).map(Row);
        let listeners =
            rows.flat_map(|row| (0..LISTENERS_PER_INSTANCE as u16).map(move |nth| MemberIndex::new(row, nth)));
        assert!(listeners.map(MemberIndex::key).eq(0..MEMBER_INDEXES as u32));
    }

    #[test]
    fn numbers_out_of_range_stay_inside_the_tables() {
        assert!(SlotId(u16::MAX).index() < MAX_SLOTS && Row(u16::MAX).index() < MAX_ROWS);
        assert!(Place(u32::MAX).index() < MAX_SLOTS && Bucket::of(u32::MAX).index() < BUCKETS);
        assert!(MemberIndex::new(Row(u16::MAX), u16::MAX).key() < MEMBER_INDEXES as u32);
    }

    #[test]
    fn buckets_are_the_upper_bits_of_a_hash() {
        assert_eq!(Bucket::all().count(), BUCKETS);
        assert!(Bucket::all().map(Bucket::index).eq(0..BUCKETS));
        assert_eq!(Bucket::of(u32::MAX).index(), BUCKETS - 1);
        assert_eq!(Bucket::of((3 << 18) + 12_345), Bucket::of(3 << 18));
    }

    #[test]
    fn after_the_last_place_comes_the_first() {
        assert_eq!([0, 1, 2, 5].map(|by| Place(3).further(by, 5)), [3, 4, 0, 3].map(Place));
    }
}
