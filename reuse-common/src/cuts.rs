//! What the kernel does for an instance that is being stopped: it counts connections that the instance's processes close too early, and
//! holds back further requests of busy clients until the pending requests are answered.

use crate::{cell, ids::Row, limits::MAX_ROWS};

/// In microseconds. A request that arrives on an idle connection less than this before the server closes it crossed the close on the wire.
/// Every client must expect that, so the request isn't counted as cut.
pub const WORKED_ON_US: u64 = 100_000;

/// The counters and orders of one instance.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// Which connections are counted: [`Cuts::NOTHING`], [`Cuts::IN_FLIGHT`], [`Cuts::WORKED_ON`] or [`Cuts::EVERYTHING`]. Written by the
    /// controller.
    pub counting: u32,
    /// Number of connections that ended with a request in flight.
    pub in_flight: u32,
    /// Number of other connections that ended while everything was counted.
    pub open: u32,
    /// What is done to connections without a request in flight each time the list of connections is read: [`Cuts::LEAVE`], [`Cuts::HOLD`]
    /// or [`Cuts::RELEASE`]. Written by the controller.
    pub holding: u32,
}

const _: () = assert!(size_of::<Cuts>() == 16);

impl Cuts {
    /// The instance is not being stopped, and the server may close any connection.
    pub const NOTHING: u32 = 0;
    /// The instance was told to stop.
    pub const IN_FLIGHT: u32 = 1;
    /// The instance was told to stop while nothing was in flight. Counts only requests that it had read, and worked on for [`WORKED_ON_US`]
    /// before the connection ended.
    pub const WORKED_ON: u32 = 3;
    /// The instance is being killed: every open connection is cut.
    pub const EVERYTHING: u32 = 2;

    /// Connections are left alone.
    pub const LEAVE: u32 = 0;
    /// The process is not woken for a further request, which stays unread.
    pub const HOLD: u32 = 1;
    /// The process is woken again for waiting requests.
    pub const RELEASE: u32 = 2;
}

/// One entry for each row.
#[repr(C)]
#[derive(Debug)]
pub struct CutTable {
    rows: [Cuts; MAX_ROWS],
}

/// A live view of the table in a map's memory.
#[derive(Debug, Clone, Copy)]
pub struct CutCounts {
    table: *mut CutTable,
}

impl CutCounts {
    /// # Safety
    /// `table` must stay valid for reads and writes as long as the view is used. Others may access it at the same time, through this type
    /// only.
    #[inline(always)]
    pub const unsafe fn new(table: *mut CutTable) -> Self {
        Self { table }
    }

    /// Which connections of the instance are counted now.
    #[inline(always)]
    pub fn counting(&self, row: Row) -> u32 {
        // SAFETY: valid by the promise at `new`.
        unsafe { cell::read(&raw const (*self.line(row)).counting) }
    }

    /// Sets which connections are counted from now on. The counters keep their values.
    pub fn count(&self, row: Row, counting: u32) {
        // SAFETY: as above.
        unsafe { cell::write(&raw mut (*self.line(row)).counting, counting) }
    }

    /// What is done to the instance's connections at the next look.
    #[inline(always)]
    pub fn holding(&self, row: Row) -> u32 {
        // SAFETY: as above.
        unsafe { cell::read(&raw const (*self.line(row)).holding) }
    }

    /// Sets what is done to the instance's connections from the next look on.
    pub fn hold(&self, row: Row, holding: u32) {
        // SAFETY: as above.
        unsafe { cell::write(&raw mut (*self.line(row)).holding, holding) }
    }

    /// Counts a connection that was cut, with a request in flight or without.
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

    /// Clears the entry, because the row now belongs to another instance.
    pub fn reset(&self, row: Row) {
        // SAFETY: as above.
        unsafe { self.line(row).write_volatile(Cuts::default()) }
    }

    /// A copy of the entry.
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
