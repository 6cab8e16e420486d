//! The kernel's look-up table for keys: which place each bucket stands for in the published membership.
//!
//! The controller keeps the owner of each bucket by slot ([`Buckets`]), so that a change moves as few buckets as possible, and writes the
//! owner's current place here. So the look-up yields the seat at once, and the kernel needs neither the slot nor a rule for slots that are
//! not published.

use crate::{
    ids::{Bucket, Place},
    limits::MAX_SLOTS,
    rendezvous::BUCKETS,
};
#[cfg(not(target_arch = "bpf"))]
use crate::{rendezvous::Buckets, seats::Membership};

/// The place of each bucket's owner in the membership of the same buffer.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Places {
    places: [u8; BUCKETS],
}

impl Places {
    /// Every bucket stands for the first place.
    pub const EMPTY: Self = Self { places: [0; BUCKETS] };

    /// The places of the buckets' owners. Buckets whose owner has no seat are dealt out to all seats in turn. Without any seat, every
    /// bucket stands for the first place, which is empty then.
    #[cfg(not(target_arch = "bpf"))]
    pub fn new(membership: &Membership, buckets: &Buckets) -> Self {
        let mut places = Self::EMPTY;
        for (nth, (place, owner)) in places.places.iter_mut().zip(buckets.owners()).enumerate() {
            let of_owner = membership
                .place_of(owner)
                .unwrap_or(Place(nth as u32 % membership.count().max(1)));
            *place = u8::try_from(of_owner.0).expect("as many places as slots");
        }
        places
    }

    /// The place for a key with this hash ([`Bucket::of`] says which bits must be evenly spread). A read during a write may yield a place
    /// without a seat; [`Membership::seat`](crate::seats::Membership::seat) returns an empty one there.
    #[inline(always)]
    pub const fn of(&self, hash: u32) -> Place {
        Place(self.places[Bucket::of(hash).index()] as u32)
    }
}

const _: () = assert!(
    size_of::<Places>() == BUCKETS && MAX_SLOTS <= 256,
    "a place fits into a byte"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ids::{Row, SlotId},
        seats::Seat,
        share::Share,
    };

    fn slots(size: core::ops::Range<usize>) -> impl Strategy<Value = Vec<(SlotId, Option<Share>)>> {
        // 0 is no share.
        let share = prop_oneof![2 => Just(0), 1 => 1u16..2500].prop_map(Share::from_hundredths_of_a_percent);
        prop::collection::btree_map((0u16..256).prop_map(SlotId), share, size)
            .prop_map(|slots| slots.into_iter().collect())
    }

    fn membership(slots: &[(SlotId, Option<Share>)]) -> Membership {
        Membership::new(
            slots
                .iter()
                .map(|&(slot, share)| Seat::new(slot, Row(slot.0 + 1), 1).with_share(share)),
        )
    }

    /// Hashes that hit every bucket once.
    fn one_hash_each() -> impl Iterator<Item = u32> {
        (0..BUCKETS as u32).map(|bucket| bucket << (32 - BUCKETS.ilog2()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Owners and seats may differ in any way: slots were added or removed, or got a share in between.
        #[test]
        fn every_place_is_the_owners_or_anybodys(owners in slots(1..12), seated in slots(0..12), common in slots(0..12)) {
            let with_common = |mut slots: Vec<(SlotId, Option<Share>)>| {
                slots.retain(|(slot, _)| common.iter().all(|(other, _)| other != slot));
                slots.extend(&common);
                slots
            };
            let mut buckets = Box::new(Buckets::EMPTY);
            buckets.assign(&with_common(owners));
            let membership = membership(&with_common(seated));
            let places = Places::new(&membership, &buckets);
            for (hash, owner) in one_hash_each().zip(buckets.owners()) {
                let place = places.of(hash);
                prop_assert_eq!(owner, buckets.owner(hash));
                prop_assert!(place.0 < membership.count().max(1));
                if let Some(own) = membership.place_of(owner) {
                    prop_assert_eq!(place, own);
                    prop_assert_eq!(membership.seat(place).slot(), owner);
                }
            }
        }
    }

    #[test]
    fn the_buckets_of_a_slot_without_a_seat_are_divided() {
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&[(SlotId(9), None)]);
        let places = Places::new(&membership(&[1, 2, 3].map(|slot| (SlotId(slot), None))), &buckets);
        let mut counts = [0; 3];
        for hash in one_hash_each() {
            counts[places.of(hash).index()] += 1;
        }
        assert_eq!(counts, [BUCKETS / 3 + 1, BUCKETS / 3, BUCKETS / 3]);
    }

    #[test]
    fn nobody_published_is_the_first_place_without_a_seat() {
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&[(SlotId(9), None), (SlotId(200), None)]);
        assert!(Places::new(&Membership::EMPTY, &buckets) == Places::EMPTY);
        assert_eq!(Membership::EMPTY.seat(Place(0)).listeners(), 0);
    }
}
