//! Who may be chosen in one group: written by the controller into the buffer that is not in use, then switched to.

use crate::{limits::MAX_SLOTS, share::Share};

/// One published slot: which instance stands for it, and with how many listeners in this group.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seat {
    instance: u16,
    slot: u16,
    listeners: u16,
    reserved: u16,
}

impl Seat {
    /// A seat for `slot`, held by `instance` with `listeners` (1…8) members of the group.
    pub const fn new(slot: u16, instance: u16, listeners: u16) -> Self {
        Self {
            instance,
            slot,
            listeners,
            reserved: 0,
        }
    }

    /// The same seat with this share.
    #[must_use]
    pub const fn with_share(mut self, share: Option<Share>) -> Self {
        self.reserved = match share {
            Some(share) => share.hundredths_of_a_percent(),
            None => 0,
        };
        self
    }

    /// Row of the load table.
    #[inline(always)]
    pub const fn instance(&self) -> u16 {
        self.instance
    }

    /// The slot's number.
    #[inline(always)]
    pub const fn slot(&self) -> u16 {
        self.slot
    }

    /// Members of the group that belong to the instance.
    #[inline(always)]
    pub const fn listeners(&self) -> u16 {
        self.listeners
    }
}

/// Says that a slot has no seat.
pub const NO_SEAT: u16 = u16::MAX;

/// The published slots of one group.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    count: u32,
    reserved: u32,
    seats: [Seat; MAX_SLOTS],
    seat_of_slot: [u16; MAX_SLOTS],
}

impl Membership {
    /// Nobody.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        seats: [Seat::new(0, 0, 0); MAX_SLOTS],
        seat_of_slot: [NO_SEAT; MAX_SLOTS],
    };

    /// These seats, at most one per slot and at most [`MAX_SLOTS`]; further ones are left out.
    pub fn new(seats: impl IntoIterator<Item = Seat>) -> Self {
        let mut membership = Self::EMPTY;
        for seat in seats {
            let Some(entry) = membership.seat_of_slot.get_mut(seat.slot as usize) else {
                continue;
            };
            if *entry != NO_SEAT {
                continue;
            }
            *entry = membership.count as u16;
            membership.seats[membership.count as usize] = seat;
            membership.count += 1;
        }
        membership
    }

    /// How many seats there are.
    #[inline(always)]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The seat at this place; a place beyond [`count`](Self::count) holds a seat without listeners.
    #[inline(always)]
    pub const fn seat(&self, place: u32) -> &Seat {
        &self.seats[place as usize & (MAX_SLOTS - 1)]
    }

    /// The place of this slot's seat, if it is published.
    #[inline(always)]
    pub const fn place_of(&self, slot: u16) -> Option<u32> {
        let place = self.seat_of_slot[slot as usize & (MAX_SLOTS - 1)];
        if place == NO_SEAT { None } else { Some(place as u32) }
    }

    /// The seats, in the order in which they were given.
    pub fn seats(&self) -> &[Seat] {
        &self.seats[..self.count as usize]
    }
}

const _: () = assert!(size_of::<Seat>() == 8);
const _: () = assert!(size_of::<Membership>() == 8 + MAX_SLOTS * 8 + MAX_SLOTS * 2);

crate::plain_data!(Seat, Membership);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_at_most_one_seat() {
        let membership = Membership::new([
            Seat::new(3, 10, 1),
            Seat::new(3, 11, 1),
            Seat::new(900, 12, 1),
            Seat::new(0, 13, 2),
        ]);
        assert_eq!(membership.count(), 2);
        assert_eq!(membership.place_of(3), Some(0));
        assert_eq!(membership.seat(0).instance(), 10);
        assert_eq!(membership.place_of(0), Some(1));
        assert_eq!(membership.place_of(1), None);
    }
}
