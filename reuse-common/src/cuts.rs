//! What the kernel does for an instance that is being ended: it counts connections that the processes end before their time, and holds back
//! further requests of busy clients until the others are answered.

use crate::{cell, ids::Row, limits::MAX_ROWS};

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
    rows: [Cuts; MAX_ROWS],
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
    pub fn counting(&self, row: Row) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.line(row)).counting) }
    }

    /// From now on this is counted; what was counted stays.
    pub fn count(&self, row: Row, counting: u32) {
        // SAFETY: as above.
        unsafe { cell::write(&raw mut (*self.line(row)).counting, counting) }
    }

    /// What happens to the instance's connections at the next look.
    #[inline(always)]
    pub fn holding(&self, row: Row) -> u32 {
        // SAFETY: as above.
        unsafe { cell::read(&raw const (*self.line(row)).holding) }
    }

    /// From now on this happens.
    pub fn hold(&self, row: Row, holding: u32) {
        // SAFETY: as above.
        unsafe { cell::write(&raw mut (*self.line(row)).holding, holding) }
    }

    /// Counts a connection that has ended.
    #[inline(always)]
    pub fn add(&self, row: Row, in_flight: bool) {
        let line = self.line(row);
        // SAFETY: as above.
        unsafe {
            let counter = if in_flight {
                &raw mut (*line).in_flight
            } else {
                &raw mut (*line).open
            };
            cell::add_u32(counter, 1);
        }
    }

    /// Another instance has the row: begins anew.
    pub fn reset(&self, row: Row) {
        // SAFETY: as above.
        unsafe { self.line(row).write_volatile(Cuts::default()) }
    }

    /// What was counted.
    pub fn copy(&self, row: Row) -> Cuts {
        // SAFETY: as above.
        unsafe { self.line(row).read_volatile() }
    }

    #[inline(always)]
    fn line(&self, row: Row) -> *mut Cuts {
        // SAFETY: an index is inside the table.
        unsafe { (&raw mut (*self.table).rows).cast::<Cuts>().add(row.index()) }
    }
}

crate::plain_data!(Cuts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_counts_for_itself() {
        let mut table = CutTable {
            rows: [Cuts::default(); MAX_ROWS],
        };
        // SAFETY: the table outlives it.
        let counts = unsafe { CutCounts::new(&raw mut table) };
        counts.count(Row(7), Cuts::EVERYTHING);
        counts.add(Row(7), true);
        counts.add(Row(7), false);
        counts.add(Row(7), false);
        counts.add(Row(8), true);
        assert_eq!(
            (counts.counting(Row(7)), counts.counting(Row(8))),
            (Cuts::EVERYTHING, Cuts::NOTHING)
        );
        assert_eq!((counts.copy(Row(7)).in_flight, counts.copy(Row(7)).open), (1, 2));
        counts.reset(Row(7));
        assert_eq!(counts.copy(Row(7)), Cuts::default());
        assert_eq!(counts.copy(Row(8)).in_flight, 1);
    }
}
