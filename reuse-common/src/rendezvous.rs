//! Rendezvous hashing by table: which slot owns which of 16,384 buckets.
//!
//! A key belongs to a bucket, and a bucket to the published slot that scores highest for it. Taking a slot away leaves every other
//! slot's score as it is, so no bucket of another slot moves: the exact property of rendezvous hashing, at the price of one
//! table look-up in the kernel, however many workers there are. The controller fills the table when membership changes
//! (256 slots: a few milliseconds); weights, which need logarithms, can be added there without a change in the kernel.

use crate::limits::MAX_SLOTS;

/// Number of buckets; with 256 slots each owns 64 of them, so shares differ by about an eighth from the granularity alone.
pub const BUCKETS: usize = 1 << 14;

/// The owner of each bucket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    slots: [u8; BUCKETS],
}

impl Buckets {
    /// All buckets belong to slot 0.
    pub const EMPTY: Self = Self { slots: [0; BUCKETS] };

    /// The slot that owns the bucket of `key`.
    #[inline(always)]
    pub const fn owner(&self, key: u64) -> u16 {
        self.slots[key as usize & (BUCKETS - 1)] as u16
    }

    /// Gives every bucket to the highest-scoring of `slots`. Without slots nothing changes.
    pub fn assign(&mut self, slots: &[u16]) {
        for (bucket, owner) in self.slots.iter_mut().enumerate() {
            if let Some(&best) = slots.iter().max_by_key(|&&slot| score(bucket as u64, slot)) {
                *owner = (best as usize & (MAX_SLOTS - 1)) as u8;
            }
        }
    }
}

/// How strongly a slot claims a bucket. The slot is part of the result, so that no two slots score alike.
const fn score(bucket: u64, slot: u16) -> u64 {
    (mix(bucket << 16 | slot as u64) & !0xff) | (slot as u64 & 0xff)
}

/// Spreads a key's bits evenly over the result (the finalizer of SplitMix64, Steele et al. 2014).
#[inline(always)]
pub const fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const _: () = assert!(
    size_of::<Buckets>() == BUCKETS && MAX_SLOTS <= 256,
    "a slot fits into a byte"
);

crate::plain_data!(Buckets);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn assigned(slots: &[u16]) -> Box<Buckets> {
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(slots);
        buckets
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn taking_a_slot_away_moves_only_its_own_buckets(slots in prop::collection::btree_set(0u16..256, 2..24), nth in any::<prop::sample::Index>()) {
            let all: Vec<u16> = slots.iter().copied().collect();
            let gone = all[nth.index(all.len())];
            let rest: Vec<u16> = all.iter().copied().filter(|&slot| slot != gone).collect();
            let (before, after) = (assigned(&all), assigned(&rest));
            for key in 0..BUCKETS as u64 {
                if before.owner(key) == gone {
                    prop_assert!(rest.contains(&after.owner(key)));
                } else {
                    prop_assert_eq!(before.owner(key), after.owner(key));
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_slots_does_not_matter() {
        assert!(assigned(&[0, 1, 2, 7]) == assigned(&[7, 2, 0, 1]));
    }

    #[test]
    fn shares_are_even_within_four_standard_deviations() {
        for slots in [2usize, 4, 8, 64, 256] {
            let buckets = assigned(&(0..slots as u16).collect::<Vec<_>>());
            let mut counts = vec![0u32; slots];
            for key in 0..BUCKETS as u64 {
                counts[buckets.owner(key) as usize] += 1;
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
