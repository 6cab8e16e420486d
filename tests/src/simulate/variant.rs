//! `least-loaded` and `sticky` with other constants than theirs: written a second time, with the constants as numbers, and checked in a
//! test to choose as the real ones do when the constants are the real ones.

use reuse_common::{
    client::ClientKey,
    ids::{Place, Row, SlotId},
    limits::FULL_SCAN,
    load::{Loads, Moment, PENDING_AT_MOST, QUEUE_WEIGHT},
    places::Places,
    rendezvous::{BUCKETS, mix},
    seats::Membership,
};

/// The constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Up to so many seats, `least-loaded` looks at all.
    pub(crate) full_scan: u32,
    /// Above, at so many: two random ones (as it once was), or any other number of neighbours from a random one on.
    pub(crate) samples: u32,
    /// At most so many selections that are not connections yet count; absent: all.
    pub(crate) pending_cap: Option<u32>,
    /// Whether selections of the epoch before count less and less, instead of all until this one ends.
    pub(crate) fades: bool,
    /// There are 2^this buckets.
    pub(crate) bucket_bits: u32,
    /// Above this percentage of the mean, a worker is too full for a new client; absent: never.
    pub(crate) bound_percent: Option<u32>,
    /// What a connection that waits in the accept queue counts more than one that has been accepted.
    pub(crate) queue_weight: u32,
    /// A selection is forgotten after one to two epochs of 2^this nanoseconds.
    pub(crate) epoch_shift: u32,
    /// Whether a selection counts before it is a connection.
    pub(crate) reserves: bool,
    /// How many sticky clients are remembered.
    pub(crate) client_capacity: u32,
    /// Whether a client is remembered at its SYN instead of when the connection is established.
    pub(crate) remembers_at_syn: bool,
}

impl Tuning {
    /// What `reuse-common` and `reuse-ebpf` have.
    pub(crate) const REAL: Self = Self {
        full_scan: FULL_SCAN as u32,
        samples: FULL_SCAN as u32,
        pending_cap: Some(PENDING_AT_MOST),
        fades: true,
        bucket_bits: BUCKETS.ilog2(),
        bound_percent: Some(125),
        queue_weight: QUEUE_WEIGHT,
        epoch_shift: 28,
        reserves: true,
        client_capacity: 65_536,
        remembers_at_syn: false,
    };

    /// What was before reservations faded and were bounded.
    pub(crate) const ALL_RESERVATIONS: Self = Self {
        pending_cap: None,
        fades: false,
        ..Self::REAL
    };

    /// [`reuse_common::load::epoch`], of this length.
    pub(crate) const fn epoch(&self, now_ns: u64) -> u32 {
        (now_ns >> self.epoch_shift) as u32
    }

    /// [`Moment::at`], with epochs of this length.
    pub(crate) const fn moment(&self, now_ns: u64) -> Moment {
        Moment::new(self.epoch(now_ns), (now_ns >> (self.epoch_shift - 8)) as u8)
    }

    /// Whether the functions of `reuse-common` can be used as they are: what else differs is given to them, or is not theirs.
    pub(crate) fn chooses_as_the_real_one(&self) -> bool {
        let same = Self {
            epoch_shift: self.epoch_shift,
            reserves: self.reserves,
            client_capacity: self.client_capacity,
            remembers_at_syn: self.remembers_at_syn,
            ..Self::REAL
        };
        *self == same
    }
}

/// What `least-loaded` compares.
#[derive(Clone, Copy)]
pub(crate) struct Weighed<'a> {
    pub(crate) loads: Loads,
    pub(crate) tuning: &'a Tuning,
    pub(crate) now_ns: u64,
}

impl Weighed<'_> {
    fn load(&self, row: Row) -> u32 {
        let load = self.loads.copy(row);
        let (of_this_epoch, of_the_one_before) = load.pending(self.tuning.epoch(self.now_ns));
        let kept = if self.tuning.fades {
            let gone = (self.now_ns >> (self.tuning.epoch_shift - 8)) as u32 & 0xff;
            of_the_one_before * (256 - gone) / 256
        } else {
            of_the_one_before
        };
        let pending = of_this_epoch + kept;
        let pending = self.tuning.pending_cap.map_or(pending, |cap| pending.min(cap));
        self.loads.established(row) + pending + self.tuning.queue_weight * u32::from(load.queue())
    }
}

/// [`reuse_common::choose::by_load`].
pub(crate) fn by_load(membership: &Membership, weighed: Weighed<'_>, random: u32) -> Place {
    let count = membership.free();
    let load_of = |place| weighed.load(membership.seat(place).row());
    let mut draw = mix(u64::from(random));
    let start = scale((draw >> 32) as u32, count);
    if count > weighed.tuning.full_scan && weighed.tuning.samples == 2 {
        let first = scale(draw as u32, count);
        let second = scale((draw >> 32) as u32, count - 1);
        let (first, second) = (Place(first), Place(second + u32::from(second >= first)));
        return if load_of(second) < load_of(first) {
            second
        } else {
            first
        };
    }
    let tie_break = |_| {
        draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        draw >> 40
    };
    let tie_breaks: [u64; 256] = std::array::from_fn(tie_break);
    let (start, looked_at) = if count > weighed.tuning.full_scan {
        (start, weighed.tuning.samples.min(count))
    } else {
        (0, count)
    };
    (0..looked_at)
        .map(|nth| (Place(start).further(nth, count), nth))
        .min_by_key(|&(place, nth)| (load_of(place), tie_breaks[nth as usize], place))
        .map_or(Place(0), |(place, _)| place)
}

/// [`Buckets`](reuse_common::rendezvous::Buckets) of another number, for slots without shares.
#[derive(Debug, Default)]
pub(crate) struct OtherBuckets {
    slots: Vec<SlotId>,
}

impl OtherBuckets {
    /// So many buckets, all of them one of these slots'.
    pub(crate) fn new(bits: u32, slots: &[SlotId]) -> Self {
        let owner = |bucket| slots.iter().copied().max_by_key(|&slot| score(bucket, slot));
        Self {
            slots: (0..1 << bits)
                .map(|bucket| owner(bucket).unwrap_or(SlotId(0)))
                .collect(),
        }
    }

    fn owner(&self, hash: u32) -> SlotId {
        self.slots[(hash >> (u32::BITS - self.slots.len().ilog2())) as usize]
    }
}

const fn score(bucket: u64, slot: SlotId) -> u64 {
    let slot = slot.0 as u64;
    (mix(bucket << 16 | slot) & !0xff) | (slot & 0xff)
}

/// [`reuse_common::choose::by_hash`].
pub(crate) fn by_hash(membership: &Membership, buckets: &OtherBuckets, hash: u32) -> Place {
    // Nobody is an owner here who has no seat.
    membership.place_of(buckets.owner(hash)).unwrap_or(Place(0))
}

/// How many other buckets a new client tries.
const STICKY_ATTEMPTS: u64 = 4;
/// The mean is taken over at most so many seats.
const MEAN_SAMPLE: u32 = 32;
/// A worker may always have so many connections more than the mean.
const SLACK: u32 = 8;

/// [`reuse_common::choose::for_new_client`].
pub(crate) fn for_new_client(
    membership: &Membership,
    places: &Places,
    weighed: Weighed<'_>,
    client: &ClientKey,
) -> Place {
    let bound = bound(membership, weighed);
    for attempt in 0..STICKY_ATTEMPTS {
        let place = places.of(client.hash(attempt) as u32);
        let is_shared = place.0 >= membership.free();
        let may_take = !is_shared && weighed.loads.established(membership.seat(place).row()) <= bound;
        if may_take || (is_shared && attempt == 0) {
            return place;
        }
    }
    by_load(membership, weighed, client.hash(STICKY_ATTEMPTS) as u32)
}

fn bound(membership: &Membership, weighed: Weighed<'_>) -> u32 {
    let Some(percent) = weighed.tuning.bound_percent else {
        return u32::MAX;
    };
    let seats = &membership.seats()[..membership.free() as usize];
    let sample = &seats[..seats.len().min(MEAN_SAMPLE as usize)];
    let sum: u64 = sample
        .iter()
        .map(|seat| u64::from(weighed.loads.established(seat.row())))
        .sum();
    let mean = (sum / sample.len().max(1) as u64) as u32;
    let surplus = u64::from(mean.saturating_sub(Loads::BIAS)) * u64::from(percent - 100) / 100;
    mean.saturating_add((surplus as u32).max(SLACK))
}

/// Maps a random number to 0…count-1.
const fn scale(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use reuse_common::{
        Share, choose,
        client::ClientMask,
        load::{LoadTable, epoch},
        rendezvous::Buckets,
        seats::Seat,
    };

    use super::*;

    #[test]
    fn with_the_real_constants_it_chooses_as_the_real_functions() {
        let mut random = Rng::with_seed(1);
        for _ in 0..300 {
            // SAFETY: a table of integers may be all zeroes.
            let mut table = unsafe { Box::<LoadTable>::new_zeroed().assume_init() };
            // SAFETY: the table outlives the view.
            let loads = unsafe { Loads::new(&raw mut *table) };
            let count = if random.bool() {
                random.u16(1..=20)
            } else {
                random.u16(1..=256)
            };
            let slots: Vec<SlotId> = (0..256)
                .filter(|_| random.u16(0..256) < count)
                .chain([3])
                .map(SlotId)
                .collect();
            let shares: Vec<(SlotId, Option<Share>)> = slots
                .iter()
                .map(|&slot| {
                    (
                        slot,
                        Share::from_hundredths_of_a_percent(random.u16(0..500).saturating_sub(480)),
                    )
                })
                .collect();
            let seats = shares
                .iter()
                .map(|&(slot, share)| Seat::new(slot, Row(slot.0 + 1), 1).with_share(share));
            let membership = Membership::new(seats);
            if membership.free() == 0 {
                // `least-loaded` is never asked then.
                continue;
            }
            let mut buckets = Box::new(Buckets::EMPTY);
            // Of an earlier membership, now and then.
            buckets.assign(if random.u8(0..4) == 0 {
                &[(SlotId(7), None), (SlotId(200), None)]
            } else {
                &shares
            });
            let places = Box::new(Places::new(&membership, &buckets));
            // Few have more selections than may count.
            let crowd = random.u32(0..if slots.len() <= 20 { 400 } else { 60 });
            for _ in 0..membership.count() * crowd {
                let row = Row(slots[random.usize(..slots.len())].0 + 1);
                loads.reserve(row, 8 + random.u32(0..3));
                if random.bool() {
                    loads.entered(row, true);
                    loads.unreserve(row, 10);
                }
                loads.set_queue(row, random.u32(0..3));
            }
            let weighed = Weighed {
                loads,
                tuning: &Tuning::REAL,
                now_ns: (10 << Tuning::REAL.epoch_shift) + random.u64(..1 << Tuning::REAL.epoch_shift),
            };
            let moment = Moment::at(weighed.now_ns);
            for _ in 0..50 {
                let draw = random.u32(..);
                assert_eq!(
                    by_load(&membership, weighed, draw),
                    choose::by_load(&membership, loads, moment, draw)
                );
                let client = ClientKey::from_v4(draw, &ClientMask::new(32, 64));
                assert_eq!(
                    for_new_client(&membership, &places, weighed, &client),
                    choose::for_new_client(&membership, &places, loads, &client, moment)
                );
            }
        }
    }

    #[test]
    fn the_real_number_of_buckets_gives_the_real_owners() {
        let slots = [0, 3, 7, 8, 200].map(SlotId);
        let membership = Membership::new(slots.iter().map(|&slot| Seat::new(slot, Row(slot.0 + 1), 1)));
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&slots.map(|slot| (slot, None)));
        let places = Places::new(&membership, &buckets);
        let other = OtherBuckets::new(Tuning::REAL.bucket_bits, &slots);
        for hash in (0..u32::MAX).step_by(1 << 14) {
            assert_eq!(by_hash(&membership, &other, hash), choose::by_hash(&places, hash));
        }
    }

    #[test]
    fn a_reservation_fades_in_its_second_epoch() {
        // SAFETY: a table of integers may be all zeroes.
        let mut table = unsafe { Box::<LoadTable>::new_zeroed().assume_init() };
        // SAFETY: the table outlives the view.
        let loads = unsafe { Loads::new(&raw mut *table) };
        for _ in 0..8 {
            loads.reserve(Row(5), 10);
        }
        loads.reserve(Row(5), 11);
        let load = |tuning: Tuning, quarters: u64| {
            let now_ns = (11 << tuning.epoch_shift) + (quarters << (tuning.epoch_shift - 2));
            let weighed = Weighed {
                loads,
                tuning: &tuning,
                now_ns,
            };
            weighed.load(Row(5)) - Loads::BIAS
        };
        assert_eq!([0, 1, 2, 3].map(|quarters| load(Tuning::REAL, quarters)), [9, 7, 5, 3]);
        assert_eq!(
            [0, 1, 2, 3].map(|quarters| load(Tuning::ALL_RESERVATIONS, quarters)),
            [9; 4]
        );
    }

    #[test]
    fn the_real_moment_is_that_of_the_tuning() {
        for now_ns in [0, 1 << 28, 12_345_678_901_234] {
            assert_eq!(Tuning::REAL.moment(now_ns), Moment::at(now_ns));
            assert_eq!(Tuning::REAL.epoch(now_ns), epoch(now_ns));
        }
    }
}
