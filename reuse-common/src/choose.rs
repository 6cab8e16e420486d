//! The four policies: pure functions from what is known of a connection to the place of a seat.

use crate::{
    cell,
    client::ClientKey,
    ids::{Place, Slot},
    limits::FULL_SCAN,
    load::{Loads, Moment},
    places::Places,
    rendezvous::mix,
    seats::Membership,
};

/// How many other buckets a new client tries when the worker of its own bucket has too many connections.
const STICKY_ATTEMPTS: u64 = 4;

/// The mean of `sticky`'s bound is taken over at most this many seats, to bound the work for a new client.
const MEAN_SAMPLE: u32 = 32;

/// `hash`: the owner of the connection's bucket. `hash` is the kernel's hash of the 4-tuple.
#[inline(always)]
pub const fn by_hash(places: &Places, hash: u32) -> Place {
    places.of(hash)
}

/// 2^32 over the golden ratio: its multiples, modulo 2^32, spread evenly however many are taken.
const GOLDEN: u32 = 0x9e37_79b9;

/// `round-robin` and `least-loaded`, before the policy: the seat with a fixed share whose turn it is, or `None` for the policy's choice
/// among the free seats. `draw` counts the connections of the group while it has such seats. Of any row of connections a seat gets its
/// share but for one or two.
#[inline(always)]
pub fn by_share(membership: &Membership, draw: u32) -> Option<Place> {
    // From 1 on, lest the very first one go to what may be a canary.
    membership.shared_place(draw.wrapping_add(1).wrapping_mul(GOLDEN))
}

/// `round-robin`: `turn` counts the connections of the group's free seats.
#[inline(always)]
pub fn by_turn(membership: &Membership, turn: u32) -> Place {
    // A count of 0 can't come here, but the division must be visibly safe.
    Place(turn % membership.free().max(1))
}

/// `least-loaded`: the smallest load of all free seats, or above [`FULL_SCAN`] of so many neighbours from a random one on. So requests
/// wait no longer than where there are [`FULL_SCAN`] workers; on the better of two random ones they wait twice as long
/// (`docs/simulation`). Ties are broken evenly by `random`.
#[inline(always)]
pub fn by_load(membership: &Membership, loads: Loads, moment: Moment, random: u32) -> Place {
    let count = membership.free();
    let mut draw = mix(random as u64);
    // One loop for both: the verifier would follow a second one, or another way into this one, all over again.
    let start = scale((draw >> 32) as u32, count) & cell::ones_if_less(FULL_SCAN as u32, count);
    let mut best = i64::MAX;
    for nth in 0..FULL_SCAN as u32 {
        if nth >= count {
            break;
        }
        draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // After the last place comes the first. No remainder: a division for each seat is what the processor would notice.
        let place = start + nth;
        let place = place - (count & !cell::ones_if_less(place, count));
        // load (31 bits) · tie-break (24 bits) · place (8 bits)
        let load = loads.load(membership.seat(Place(place)).row(), moment) as u64 & 0x7fff_ffff;
        best = cell::smaller(best, (load << 32 | (draw >> 40) << 8 | place as u64).cast_signed());
    }
    Place(best.cast_unsigned() as u32 & 0xff)
}

/// `sticky`, for a client that is remembered: its slot's seat, if that slot is published.
#[inline(always)]
pub fn by_record(membership: &Membership, recorded: Option<Slot>) -> Option<Place> {
    membership.place_of(recorded?)
}

/// `sticky`, for any other client: the owner of the client's bucket unless it has too many connections, else another bucket's, else the
/// least loaded. What a slot with a fixed share gets is decided by the first bucket alone.
#[inline(always)]
pub fn for_new_client(
    membership: &Membership,
    places: &Places,
    loads: Loads,
    client: &ClientKey,
    moment: Moment,
) -> Place {
    let bound = bound(membership, loads);
    let mut attempt = 0;
    while attempt < STICKY_ATTEMPTS {
        let place = places.of(client.hash(attempt) as u32);
        let is_shared = place.0 >= membership.free();
        let may_take = !is_shared && loads.established(membership.seat(place).row()) <= bound;
        if may_take || (is_shared && attempt == 0) {
            return place;
        }
        attempt += 1;
    }
    by_load(membership, loads, moment, client.hash(attempt) as u32)
}

/// More connections than this (biased) make a worker too full for a new client: the larger of 1.25 × mean and mean + 8 of the free seats.
#[inline(always)]
fn bound(membership: &Membership, loads: Loads) -> u32 {
    let mut sum = 0_u64;
    let mut seats = 0;
    while seats < MEAN_SAMPLE && seats < membership.free() {
        sum += u64::from(loads.established(membership.seat(Place(seats)).row()));
        seats += 1;
    }
    let mean = (sum / u64::from(seats.max(1))) as u32;
    // The bias is added to every number alike; only the quarter must be taken of the true mean.
    mean.saturating_add((mean.saturating_sub(Loads::BIAS) / 4).max(8))
}

/// Maps a random number to 0…count-1.
#[inline(always)]
const fn scale(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}

/// Which of an instance's listeners: by the lower half of the connection's hash first, so that it does not depend on the bucket.
#[inline(always)]
pub const fn listener(hash: u32, listeners: u16) -> u16 {
    if listeners <= 1 {
        0
    } else {
        scale(hash.rotate_left(16), listeners as u32) as u16
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
