//! What the kernel does for an instance that is being ended: it counts connections that the processes end before their time, and holds back
//! further requests of busy clients until the others are answered.

use crate::{cell, limits::MAX_INSTANCES};

/// A request on an idle connection that comes less than this before the server closes it was sent at the same time: every client has to expect
/// that.
pub const WORKED_ON_US: u64 = 100_000;

/// One row of the table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// What is counted: [`Cuts::NOTHING`], [`Cuts::IN_FLIGHT`], [`Cuts::WORKED_ON`] or [`Cuts::EVERYTHING`]. The controller says so.
    pub counting: u32,
    /// Connections that ended with a request in flight.
    pub in_flight: u32,
    /// Others that ended while everything is counted.
    pub open: u32,
    /// What happens to connections on which nothing is in flight, each time the list of connections is read: [`Cuts::LEAVE`], [`Cuts::HOLD`] or
    /// [`Cuts::RELEASE`]. The controller says so.
    pub holding: u32,
}

const _: () = assert!(size_of::<Cuts>() == 16);

impl Cuts {
    /// The instance is not being ended: a server may close what it likes.
    pub const NOTHING: u32 = 0;
    /// It was told to end.
    pub const IN_FLIGHT: u32 = 1;
    /// It was told to end when nothing was in flight: only requests count that it had read, and worked on for [`WORKED_ON_US`] before the end.
    pub const WORKED_ON: u32 = 3;
    /// It is killed: whatever is open is cut.
    pub const EVERYTHING: u32 = 2;

    /// Nothing happens to them.
    pub const LEAVE: u32 = 0;
    /// The process is not woken for a further request: that waits unread.
    pub const HOLD: u32 = 1;
    /// It is woken again for what waits.
    pub const RELEASE: u32 = 2;
}

/// The rows of all instances.
#[repr(C)]
#[derive(Debug)]
pub struct CutTable {
    rows: [Cuts; MAX_INSTANCES],
}

/// The live table, in a map's memory.
#[derive(Debug, Clone, Copy)]
pub struct CutCounts {
    table: *mut CutTable,
}

impl CutCounts {
    /// # Safety
    /// The table must be valid as long as this and what is made of it is used. Others may read and write it, by means of this type.
    #[inline(always)]
    pub const unsafe fn new(table: *mut CutTable) -> Self {
        Self { table }
    }

    /// What is counted of the instance now.
    #[inline(always)]
    pub fn counting(&self, row: u16) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.row(row)).counting) }
    }

    /// From now on this is counted; what was counted stays.
    pub fn count(&self, row: u16, counting: u32) {
        // SAFETY: as above.
        unsafe { cell::write(&raw mut (*self.row(row)).counting, counting) }
    }

    /// What happens to the instance's connections at the next look.
    #[inline(always)]
    pub fn holding(&self, row: u16) -> u32 {
        // SAFETY: as above.
        unsafe { cell::read(&raw const (*self.row(row)).holding) }
    }

    /// From now on this happens.
    pub fn hold(&self, row: u16, holding: u32) {
        // SAFETY: as above.
        unsafe { cell::write(&raw mut (*self.row(row)).holding, holding) }
    }

    /// Counts a connection that has ended.
    #[inline(always)]
    pub fn add(&self, row: u16, in_flight: bool) {
        let row = self.row(row);
        // SAFETY: as above.
        unsafe {
            let counter = if in_flight {
                &raw mut (*row).in_flight
            } else {
                &raw mut (*row).open
            };
            cell::add_u32(counter, 1);
        }
    }

    /// Another instance has the row: begins anew.
    pub fn reset(&self, row: u16) {
        // SAFETY: as above.
        unsafe { self.row(row).write_volatile(Cuts::default()) }
    }

    /// What was counted.
    pub fn copy(&self, row: u16) -> Cuts {
        // SAFETY: as above.
        unsafe { self.row(row).read_volatile() }
    }

    #[inline(always)]
    fn row(&self, row: u16) -> *mut Cuts {
        // SAFETY: there is a place for each number below the size, which is a power of two.
        unsafe {
            (&raw mut (*self.table).rows)
                .cast::<Cuts>()
                .add(usize::from(row) & (MAX_INSTANCES - 1))
        }
    }
}

crate::plain_data!(Cuts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_counts_for_itself() {
        let mut table = CutTable {
            rows: [Cuts::default(); MAX_INSTANCES],
        };
        // SAFETY: the table outlives it.
        let counts = unsafe { CutCounts::new(&raw mut table) };
        counts.count(7, Cuts::EVERYTHING);
        counts.add(7, true);
        counts.add(7, false);
        counts.add(7, false);
        counts.add(8, true);
        assert_eq!(
            (counts.counting(7), counts.counting(8)),
            (Cuts::EVERYTHING, Cuts::NOTHING)
        );
        assert_eq!((counts.copy(7).in_flight, counts.copy(7).open), (1, 2));
        counts.reset(7);
        assert_eq!(counts.copy(7), Cuts::default());
        assert_eq!(counts.copy(8).in_flight, 1);
    }
}
