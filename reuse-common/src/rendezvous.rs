//! Rendezvous hashing by table: which slot owns which of 16,384 buckets.
//!
//! A key belongs to a bucket, and a bucket to the published slot with the highest score for it. Removing a slot changes no other slot's
//! score, so no bucket of another slot moves. This is the exact property of rendezvous hashing, for one table look-up in the kernel,
//! however many workers there are. The controller fills its table when the membership changes (256 slots: a few milliseconds), and writes
//! each owner's place for the kernel: see [`places`](crate::places).
//!
//! A slot with a fixed share gets exactly that many buckets, the ones with its highest scores. The other slots divide the rest. A share
//! that grows only takes buckets, and a share that shrinks only gives buckets back.

#[cfg(not(target_arch = "bpf"))]
use crate::{
    ids::{Bucket, SlotId},
    limits::MAX_SLOTS,
    portion::{MAX_SHARES, Scale},
    share::Share,
};

/// Number of buckets. With 256 slots each owns 64 buckets on average, and this coarseness alone makes shares differ by about an eighth.
pub const BUCKETS: usize = 1 << 14;

/// The owner of each bucket.
#[cfg(not(target_arch = "bpf"))]
#[derive(Clone, PartialEq, Eq)]
pub struct Buckets {
    slots: [u8; BUCKETS],
}

#[cfg(not(target_arch = "bpf"))]
impl Buckets {
    /// All buckets belong to slot 0.
    pub const EMPTY: Self = Self { slots: [0; BUCKETS] };

    /// The slot that owns the bucket of a key with this hash.
    pub const fn owner(&self, hash: u32) -> SlotId {
        SlotId(self.slots[Bucket::of(hash).index()] as u16)
    }

    /// The owner of each bucket, in ascending order of buckets.
    pub fn owners(&self) -> impl Iterator<Item = SlotId> {
        self.slots.iter().map(|&slot| SlotId(slot.into()))
    }

    /// Divides the buckets among these slots. Without slots nothing changes.
    ///
    /// The slots with a share come first: the first [`MAX_SHARES`] of them, in ascending order, each take their number of buckets
    /// ([`Scale`] says how many), the ones with the slot's highest scores that are not taken yet. Each other bucket goes to the slot
    /// without a share that scores highest for it. If every slot has a share and rounding leaves a bucket over, all slots compete for it.
    pub fn assign(&mut self, slots: &[(SlotId, Option<Share>)]) {
        let mut shared: Vec<(SlotId, Share)> = slots.iter().filter_map(|&(slot, share)| Some((slot, share?))).collect();
        shared.sort_unstable();
        shared.truncate(MAX_SHARES);
        let is_free = |slot: SlotId| shared.iter().all(|&(other, _)| other != slot);
        let mut rest: Vec<SlotId> = slots
            .iter()
            .map(|&(slot, _)| slot)
            .filter(|&slot| is_free(slot))
            .collect();
        let any_free = !rest.is_empty();
        if !any_free {
            rest = shared.iter().map(|&(slot, _)| slot).collect();
        }

        let sum = shared
            .iter()
            .map(|(_, share)| u64::from(share.hundredths_of_a_percent()))
            .sum();
        let scale = Scale::new(sum, any_free);
        let mut untaken: Vec<Bucket> = Bucket::all().collect();
        for &(slot, share) in &shared {
            let wanted = scale.part(share.hundredths_of_a_percent().into(), BUCKETS as u64) as usize;
            // Rounding never takes the last bucket from the slots without a share.
            let wanted = wanted.min(untaken.len() - usize::from(any_free));
            untaken.sort_unstable_by_key(|&bucket| core::cmp::Reverse(score(bucket, slot)));
            for bucket in untaken.drain(..wanted) {
                self.slots[bucket.index()] = owner_byte(slot);
            }
        }
        for bucket in untaken {
            if let Some(&best) = rest.iter().max_by_key(|&&slot| score(bucket, slot)) {
                self.slots[bucket.index()] = owner_byte(best);
            }
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
const fn owner_byte(slot: SlotId) -> u8 {
    slot.index() as u8
}

/// A slot's score for a bucket. The slot is part of the result, so that no two slots have the same score.
#[cfg(not(target_arch = "bpf"))]
const fn score(bucket: Bucket, slot: SlotId) -> u64 {
    let slot = slot.0 as u64;
    (mix((bucket.index() as u64) << 16 | slot) & !0xff) | (slot & 0xff)
}

/// Spreads a key's bits evenly over the result (the finalizer of SplitMix64, Steele et al. 2014).
#[inline(always)]
pub const fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(not(target_arch = "bpf"))]
const _: () = assert!(MAX_SLOTS <= 256, "a slot fits into a byte");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn assigned(slots: &[(SlotId, Option<Share>)]) -> Box<Buckets> {
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(slots);
        buckets
    }

    fn free(slots: impl IntoIterator<Item = u16>) -> Vec<(SlotId, Option<Share>)> {
        slots.into_iter().map(|slot| (SlotId(slot), None)).collect()
    }

    fn share(hundredths: u16) -> Option<Share> {
        Share::from_hundredths_of_a_percent(hundredths)
    }

    fn count(buckets: &Buckets, slot: SlotId) -> usize {
        buckets.owners().filter(|&owner| owner == slot).count()
    }

    /// Slots, some with a share (0 is none).
    fn some_slots(size: core::ops::Range<usize>) -> impl Strategy<Value = Vec<(SlotId, Option<Share>)>> {
        let share_of = prop_oneof![2 => Just(0), 1 => 1u16..2500];
        prop::collection::btree_map(0u16..256, share_of, size).prop_map(|slots| {
            slots
                .into_iter()
                .map(|(slot, hundredths)| (SlotId(slot), share(hundredths)))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn taking_a_slot_away_moves_only_its_own_buckets(slots in some_slots(3..24), nth in any::<prop::sample::Index>()) {
            let free: Vec<SlotId> = slots.iter().filter(|(_, share)| share.is_none()).map(|&(slot, _)| slot).collect();
            prop_assume!(free.len() >= 2);
            let gone = free[nth.index(free.len())];
            let rest: Vec<_> = slots.iter().copied().filter(|&(slot, _)| slot != gone).collect();
            let (before, after) = (assigned(&slots), assigned(&rest));
            for (before, after) in before.owners().zip(after.owners()) {
                if before == gone {
                    prop_assert!(free.contains(&after) && after != gone);
                } else {
                    prop_assert_eq!(before, after);
                }
            }
        }

        #[test]
        fn a_share_that_grows_only_takes(slots in some_slots(2..16), nth in any::<prop::sample::Index>(), more in 1u16..2500) {
            let free = slots.iter().filter(|(_, share)| share.is_none()).count();
            let shared: Vec<usize> = (0..slots.len()).filter(|&nth| slots[nth].1.is_some()).collect();
            prop_assume!(free > 0 && !shared.is_empty());
            let grows = shared[nth.index(shared.len())];
            let mut larger = slots.clone();
            larger[grows].1 = share(slots[grows].1.map_or(0, Share::hundredths_of_a_percent) + more);
            let sum: u16 = larger.iter().filter_map(|(_, share)| *share).map(Share::hundredths_of_a_percent).sum();
            prop_assume!(sum < Share::WHOLE);
            let (before, after) = (assigned(&slots), assigned(&larger));
            for (_, after) in before.owners().zip(after.owners()).filter(|&(before, _)| before == slots[grows].0) {
                prop_assert_eq!(after, slots[grows].0);
            }
        }

        #[test]
        fn shares_are_exact_and_nobody_goes_without(slots in some_slots(1..40)) {
            let buckets = assigned(&slots);
            let sum: u16 = slots.iter().filter_map(|(_, share)| *share).map(Share::hundredths_of_a_percent).sum();
            let any_free = slots.iter().any(|(_, share)| share.is_none());
            for &(slot, share) in &slots {
                let owned = count(&buckets, slot);
                match share {
                    Some(share) if any_free && sum < Share::WHOLE - 100 => {
                        let exact = f64::from(share.hundredths_of_a_percent()) / 10_000.0 * BUCKETS as f64;
                        prop_assert!((owned as f64 - exact).abs() <= 0.5, "{owned} instead of {exact}");
                    }
                    _ if any_free && sum < Share::WHOLE / 2 => prop_assert!(owned > 0),
                    _ => {}
                }
            }
            prop_assert!(!any_free || slots.iter().any(|&(slot, share)| share.is_none() && count(&buckets, slot) > 0));
        }
    }

    #[test]
    fn shares_of_all_fill_the_table() {
        let buckets = assigned(&[0, 1, 2].map(|slot| (SlotId(slot), share(100))));
        let counts = [0, 1, 2].map(|slot| count(&buckets, SlotId(slot)));
        assert_eq!(counts.iter().sum::<usize>(), BUCKETS);
        assert!(
            counts.iter().all(|count| count.abs_diff(BUCKETS / 3) <= 1),
            "{counts:?}"
        );
        assert_eq!(count(&assigned(&[(SlotId(7), share(1))]), SlotId(7)), BUCKETS);
    }

    #[test]
    fn the_order_of_the_slots_does_not_matter() {
        assert!(assigned(&free([0, 1, 2, 7])) == assigned(&free([7, 2, 0, 1])));
        let (two, seven) = ((SlotId(2), share(700)), (SlotId(7), share(3000)));
        assert!(assigned(&[(SlotId(0), None), two, seven]) == assigned(&[seven, (SlotId(0), None), two]));
    }

    #[test]
    fn shares_are_even_within_four_standard_deviations() {
        for slots in [2usize, 4, 8, 64, 256] {
            let buckets = assigned(&free(0..slots as u16));
            let mut counts = vec![0u32; slots];
            for owner in buckets.owners() {
                counts[owner.index()] += 1;
            }
            let mean = BUCKETS as f64 / slots as f64;
            let bound = 4.5 * mean.sqrt();
            assert!(
                counts.iter().all(|&count| (f64::from(count) - mean).abs() < bound),
                "{slots} slots: {counts:?}"
            );
            assert_eq!(
                counts.iter().filter(|&&count| count > 0).collect::<Vec<_>>().len(),
                slots
            );
        }
        assert_eq!((0..1000).map(mix).collect::<BTreeSet<_>>().len(), 1000);
    }
}
