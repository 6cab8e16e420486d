//! The published slots of one group. The controller writes them to the inactive buffer, then makes it the active one.

#[cfg(not(target_arch = "bpf"))]
use crate::portion::Scale;
use crate::{
    cell,
    ids::{Place, Row, SlotId},
    limits::MAX_SLOTS,
    portion::MAX_SHARES,
    share::Share,
};

/// One published slot in a group's table: the row of its instance, the instance's number of listeners in this group, and the slot's fixed
/// share if it has one. Its position in the table is a [`Place`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seat {
    row: Row,
    slot: SlotId,
    listeners: u16,
    /// Hundredths of a percent; 0 means no share.
    share: u16,
}

impl Seat {
    /// A seat for `slot`, held by the instance in `row` with `listeners` (1…128) members of the group, and without a share.
    pub const fn new(slot: SlotId, row: Row, listeners: u16) -> Self {
        Self {
            row,
            slot,
            listeners,
            share: 0,
        }
    }

    /// The same seat with this share.
    #[must_use]
    pub const fn with_share(mut self, share: Option<Share>) -> Self {
        self.share = match share {
            Some(share) => share.hundredths_of_a_percent(),
            None => 0,
        };
        self
    }

    /// The row of the seat's instance in the load table.
    #[inline(always)]
    pub const fn row(&self) -> Row {
        self.row
    }

    /// The slot.
    #[inline(always)]
    pub const fn slot(&self) -> SlotId {
        self.slot
    }

    /// Number of the group's members that belong to the instance.
    #[inline(always)]
    pub const fn listeners(&self) -> u16 {
        self.listeners
    }

    /// The slot's fixed share of new connections.
    pub const fn share(&self) -> Option<Share> {
        Share::from_hundredths_of_a_percent(self.share)
    }
}

/// Marks a slot without a seat.
const NO_SEAT: u16 = u16::MAX;

/// The published slots of one group: first the *free* seats, which divide connections by the policy, then those with a fixed share.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    count: u32,
    free: u32,
    seats: [Seat; MAX_SLOTS],
    /// The place of each slot's seat, or [`NO_SEAT`].
    place_of_slot: [u16; MAX_SLOTS],
    /// The last draw that falls to each seat with a share, ascending. Unused entries repeat the last used one.
    last_draws: [u32; MAX_SHARES],
}

impl Membership {
    /// No seats.
    pub const EMPTY: Self = Self {
        count: 0,
        free: 0,
        seats: [Seat::new(SlotId(0), Row::BACKSTOP, 0); MAX_SLOTS],
        place_of_slot: [NO_SEAT; MAX_SLOTS],
        last_draws: [0; MAX_SHARES],
    };

    /// The membership with these seats: at most one per slot and at most [`MAX_SLOTS`]; further ones are dropped. The first [`MAX_SHARES`]
    /// seats with a share keep it, scaled as [`Scale`] says.
    #[cfg(not(target_arch = "bpf"))]
    pub fn new(seats: impl IntoIterator<Item = Seat>) -> Self {
        let mut membership = Self::EMPTY;
        let mut shared = Vec::new();
        for seat in seats {
            let Some(entry) = membership.place_of_slot.get_mut(usize::from(seat.slot.0)) else {
                continue;
            };
            if *entry != NO_SEAT {
                continue;
            }
            // Filled in below, once the order of the seats is known.
            *entry = 0;
            if seat.share == 0 || shared.len() == MAX_SHARES {
                membership.take_place(seat.with_share(None));
            } else {
                shared.push(seat);
            }
        }
        membership.free = membership.count;
        let sum = shared.iter().map(|seat| u64::from(seat.share)).sum();
        let scale = Scale::new(sum, membership.free > 0);
        let mut end = 0;
        let mut last_draws = [0; MAX_SHARES];
        for (nth, last_draw) in last_draws.iter_mut().enumerate() {
            if let Some(&seat) = shared.get(nth) {
                membership.take_place(seat);
                end += u64::from(seat.share);
            }
            *last_draw = scale.part(end, 1 << 32).saturating_sub(1) as u32;
        }
        membership.last_draws = last_draws;
        membership
    }

    #[cfg(not(target_arch = "bpf"))]
    fn take_place(&mut self, seat: Seat) {
        self.place_of_slot[seat.slot.index()] = self.count as u16;
        self.seats[self.count as usize] = seat;
        self.count += 1;
    }

    /// Number of seats. Volatile: if the verifier knew the number on each way out of a loop over the seats, it would follow everything
    /// after the loop once for each.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        // SAFETY: a field of a live structure.
        unsafe { cell::read(&raw const self.count) }
    }

    /// Number of free seats, which come first.
    #[inline(always)]
    pub fn free(&self) -> u32 {
        // SAFETY: as for `count`, and for the same reason.
        unsafe { cell::read(&raw const self.free) }
    }

    /// Whether any seat has a fixed share.
    #[inline(always)]
    pub fn has_shares(&self) -> bool {
        self.free() != self.count()
    }

    /// The place of the seat with a share that this draw falls to, given evenly spread draws. `None` means that the draw falls to the free
    /// seats, of which there is at least one then. Call it only while some seat [has a share](Self::has_shares).
    #[inline(always)]
    pub fn shared_place(&self, draw: u32) -> Option<Place> {
        // Counts the ascending numbers below the draw by binary search, without a branch (see `cell::opaque`).
        let mut below = 0;
        let mut step = MAX_SHARES / 2;
        while step > 0 {
            below += step & self.mask_if_below(below + step - 1, draw);
            step /= 2;
        }
        below += 1 & self.mask_if_below(below, draw);
        (below < MAX_SHARES).then_some(Place(self.free + below as u32))
    }

    /// All ones if the seat's last draw is below this one, else 0.
    #[inline(always)]
    fn mask_if_below(&self, nth: usize, draw: u32) -> usize {
        // The compiler joins the halves with OR, after which the verifier of Linux 6.1 has lost the bounds; the mask shows them again.
        let nth = cell::opaque(nth as u64) as usize & (MAX_SHARES - 1);
        let difference = u64::from(self.last_draws[nth]).wrapping_sub(u64::from(draw));
        (cell::opaque(difference).cast_signed() >> 63).cast_unsigned() as usize
    }

    /// The seat at this place. Beyond [`count`](Self::count) it is an empty seat, without listeners.
    #[inline(always)]
    pub const fn seat(&self, place: Place) -> &Seat {
        &self.seats[place.index()]
    }

    /// The place of this slot's seat, if it is published.
    #[inline(always)]
    pub const fn place_of(&self, slot: SlotId) -> Option<Place> {
        let place = self.place_of_slot[slot.index()];
        if place == NO_SEAT {
            None
        } else {
            Some(Place(place as u32))
        }
    }

    /// The seats: free ones first, otherwise in the order given.
    pub fn seats(&self) -> &[Seat] {
        &self.seats[..self.count as usize]
    }
}

const _: () = assert!(size_of::<Seat>() == 8);
const _: () =
    assert!(size_of::<Membership>() == (8 + MAX_SLOTS * 8 + MAX_SLOTS * 2 + MAX_SHARES * 4).next_multiple_of(64));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(percent: u16) -> Option<Share> {
        Share::from_hundredths_of_a_percent(percent * 100)
    }

    #[test]
    fn every_slot_has_at_most_one_seat() {
        let membership = Membership::new([
            Seat::new(SlotId(3), Row(10), 1),
            Seat::new(SlotId(3), Row(11), 1),
            Seat::new(SlotId(900), Row(12), 1),
            Seat::new(SlotId(0), Row(13), 2),
        ]);
        assert_eq!(membership.count(), 2);
        assert_eq!(membership.place_of(SlotId(3)), Some(Place(0)));
        assert_eq!(membership.seat(Place(0)).row(), Row(10));
        assert_eq!(membership.place_of(SlotId(0)), Some(Place(1)));
        assert_eq!(membership.place_of(SlotId(1)), None);
        assert!(!membership.has_shares());
    }

    #[test]
    fn seats_with_a_share_come_last() {
        let membership = Membership::new([
            Seat::new(SlotId(0), Row(10), 1).with_share(percent(25)),
            Seat::new(SlotId(1), Row(11), 1),
            Seat::new(SlotId(2), Row(12), 1).with_share(percent(50)),
            Seat::new(SlotId(3), Row(13), 1),
        ]);
        let slots: Vec<u16> = membership.seats().iter().map(|seat| seat.slot().0).collect();
        assert_eq!((slots, membership.free()), (vec![1, 3, 0, 2], 2));
        assert_eq!(membership.place_of(SlotId(0)), Some(Place(2)));
        let quarter = 1 << 30;
        for (draw, place) in [
            (0, Some(Place(2))),
            (quarter - 1, Some(Place(2))),
            (quarter, Some(Place(3))),
            (3 * quarter - 1, Some(Place(3))),
            (3 * quarter, None),
            (u32::MAX, None),
        ] {
            assert_eq!(membership.shared_place(draw), place, "{draw}");
        }
    }

    #[test]
    fn a_share_too_many_is_none() {
        let seats = (0..40).map(|slot| Seat::new(SlotId(slot), Row(slot + 1), 1).with_share(percent(1)));
        let membership = Membership::new(seats);
        assert_eq!((membership.count(), membership.free()), (40, 8));
        assert_eq!(membership.shared_place(0), Some(Place(8)));
        assert_eq!(membership.shared_place(u32::MAX), None);
        assert_eq!(membership.seat(Place(0)).slot(), SlotId(32));
        assert_eq!(membership.seat(Place(0)).share(), None);
    }

    proptest! {
        #[test]
        fn a_draw_falls_to_the_first_that_reaches_it(shares in prop::collection::vec(0u16..5000, 1..60), draw: u32) {
            let seats = shares.iter().enumerate().map(|(slot, &share)| {
                Seat::new(SlotId(slot as u16), Row(slot as u16 + 1), 1).with_share(Share::from_hundredths_of_a_percent(share))
            });
            let membership = Membership::new(seats);
            prop_assume!(membership.has_shares());
            let shared = (membership.count() - membership.free()) as usize;
            let expected = membership.last_draws[..shared].iter().position(|&last| draw <= last);
            prop_assert_eq!(membership.shared_place(draw), expected.map(|nth| Place(membership.free() + nth as u32)));
            if membership.free() == 0 {
                prop_assert_eq!(membership.last_draws[shared - 1], u32::MAX);
            }
        }
    }
}
