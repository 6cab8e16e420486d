//! The four policies as pure functions: from what is known about a connection to the place of a seat.

use crate::{
    cell,
    client::ClientKey,
    ids::{Place, SlotId},
    limits::FULL_SCAN,
    load::{Loads, Moment},
    places::Places,
    rendezvous::mix,
    seats::Membership,
};

/// How many buckets a new client tries before it goes to the least loaded worker.
const STICKY_ATTEMPTS: u64 = 4;

/// The mean in [`bound`] is taken over at most this many seats, which limits the work for a new client.
const MEAN_SAMPLE: u32 = 32;

/// `hash`: the owner of the connection's bucket. `hash` is the kernel's hash of the 4-tuple.
#[inline(always)]
pub const fn by_hash(places: &Places, hash: u32) -> Place {
    places.of(hash)
}

/// 2^32 divided by the golden ratio. Its multiples modulo 2^32 are evenly spread, however many are taken.
const GOLDEN: u32 = 0x9e37_79b9;

/// `round-robin` and `least-loaded`, before the policy: the seat with a fixed share that this connection falls to, or `None` if the policy
/// is to choose among the free seats. `draw` counts the group's connections while such seats are published. In any sequence of connections
/// a seat gets its share, give or take one or two.
#[inline(always)]
pub fn by_share(membership: &Membership, draw: u32) -> Option<Place> {
    // Counted from 1, so that the very first connection doesn't go to a canary.
    membership.shared_place(draw.wrapping_add(1).wrapping_mul(GOLDEN))
}

/// `round-robin`: `turn` counts the connections of the group's free seats.
#[inline(always)]
pub fn by_turn(membership: &Membership, turn: u32) -> Place {
    // The count is never 0 here, but the verifier must see that the division is safe.
    Place(turn % membership.free().max(1))
}

/// `least-loaded`: the free seat with the smallest load. Of more than [`FULL_SCAN`] free seats, only [`FULL_SCAN`] neighbours are compared,
/// from a random one on. Requests then wait no longer than with [`FULL_SCAN`] workers; with the better of two random workers they wait
/// twice as long (`docs/simulation`). Ties are broken evenly by `random`.
#[inline(always)]
pub fn by_load(membership: &Membership, loads: Loads, moment: Moment, random: u32) -> Place {
    let count = membership.free();
    let mut draw = mix(random as u64);
    // One loop for both cases: the verifier would follow a second loop, or a second entry into this one, all over again.
    let start = scale((draw >> 32) as u32, count) & cell::ones_if_less(FULL_SCAN as u32, count);
    let mut best = i64::MAX;
    for nth in 0..FULL_SCAN as u32 {
        if nth >= count {
            break;
        }
        draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Wraps around after the last place. No remainder: a division per seat is too slow.
        let place = start + nth;
        let place = place - (count & !cell::ones_if_less(place, count));
        // load (31 bits) · tie-break (24 bits) · place (8 bits)
        let load = loads.load(membership.seat(Place(place)).row(), moment) as u64 & 0x7fff_ffff;
        best = cell::smaller(best, (load << 32 | (draw >> 40) << 8 | place as u64).cast_signed());
    }
    Place(best.cast_unsigned() as u32 & 0xff)
}

/// `sticky`, for a known client: the seat of its recorded slot, if that slot is published.
#[inline(always)]
pub fn by_record(membership: &Membership, recorded: Option<SlotId>) -> Option<Place> {
    membership.place_of(recorded?)
}

/// `sticky`, for any other client: the owner of the client's bucket, unless that worker has too many connections; then the owner of another
/// bucket, and in the end the least loaded worker. A slot with a fixed share is chosen through the first bucket only.
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

/// The number of connections (biased) above which a worker is too full for a new client: the larger of 1.25 × mean and mean + 8 of the free
/// seats.
#[inline(always)]
fn bound(membership: &Membership, loads: Loads) -> u32 {
    let mut sum = 0_u64;
    let mut seats = 0;
    while seats < MEAN_SAMPLE && seats < membership.free() {
        sum += u64::from(loads.established(membership.seat(Place(seats)).row()));
        seats += 1;
    }
    let mean = (sum / u64::from(seats.max(1))) as u32;
    // Every number carries the bias, but the quarter must be taken from the true mean.
    mean.saturating_add((mean.saturating_sub(Loads::BIAS) / 4).max(8))
}

/// Maps a random number to the range 0…count-1.
#[inline(always)]
const fn scale(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}

/// The number of the listener among an instance's listeners. It depends on the lower half of the connection's hash first, so that it is
/// independent of the bucket.
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
