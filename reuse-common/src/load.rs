//! What the kernel counts per instance, and the load that `least-loaded` compares.

use crate::{cell, limits::MAX_INSTANCES};

/// One cache line per instance. `select` and `track` add to it from every processor; the controller reads it and clears it
/// before an index is used again.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceLoad {
    /// Connections in ESTABLISHED or CLOSE_WAIT now. May be off by one for an instant while a connection migrates.
    established: u32,
    /// The slot that the instance stands for.
    slot: u16,
    /// Connections that wait in its accept queues, as the controller saw them last; more than 65,535 are shown as that many.
    queue: u16,
    /// Selections that have not become connections yet, by the epoch in which they were made.
    pending: [Pending; 2],
    selected_total: u64,
    established_total: u64,
    migrated_in_total: u64,
    migrated_out_total: u64,
    /// Of `established_total`, those that came before the program steered, and those that the controller directed (32 bits each).
    unsteered_total: u32,
    directed_total: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pending {
    epoch: u32,
    count: u32,
}

/// Selections are forgotten after one to two epochs of 2^28 ns (0.27 s), so that SYNs which never complete do not count for ever.
const EPOCH_SHIFT: u32 = 28;

/// How many established connections one that waits to be accepted counts for, beside itself: it is one of `established` already.
/// With 1 it counts twice, as a connection that the worker has, and as one that it has fallen behind with. A worker that keeps up has
/// an empty queue almost always, and one that has stopped is overtaken twice as soon.
pub const QUEUE_WEIGHT: u32 = 1;

/// Added to a load so that a counter which is off by a few below zero still compares as small.
const BIAS: u32 = 1 << 20;

/// The epoch of this moment.
#[inline(always)]
pub const fn epoch(now_ns: u64) -> u32 {
    (now_ns >> EPOCH_SHIFT) as u32
}

impl InstanceLoad {
    /// A fresh row for an instance of `slot`.
    pub fn new(slot: u16) -> Self {
        Self {
            slot,
            ..Self::default()
        }
    }

    /// Connections now; an instant's undershoot is shown as 0.
    pub fn established(&self) -> u32 {
        u32::try_from(self.established.cast_signed()).unwrap_or(0)
    }

    /// Connections that the server has not accepted yet, at most 65,535: what the controller wrote last.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Times that the program chose this instance.
    pub fn selected_total(&self) -> u64 {
        self.selected_total
    }

    /// Handshakes completed here.
    pub fn established_total(&self) -> u64 {
        self.established_total
    }

    /// Connections moved here from a listener that closed.
    pub fn migrated_in_total(&self) -> u64 {
        self.migrated_in_total
    }

    /// Connections moved away from here.
    pub fn migrated_out_total(&self) -> u64 {
        self.migrated_out_total
    }

    /// Connections that came before the program steered.
    pub fn unsteered_total(&self) -> u32 {
        self.unsteered_total
    }

    /// Connections that the controller directed here.
    pub fn directed_total(&self) -> u32 {
        self.directed_total
    }

    /// Whether nothing of the instance is left in the kernel, so that its index may be used again.
    pub fn is_at_rest(&self) -> bool {
        self.established() == 0
    }
}

const _: () = assert!(size_of::<InstanceLoad>() == 64 && align_of::<InstanceLoad>() == 64);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, queue) == 6);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, selected_total) == 24);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, directed_total) == 60);

crate::plain_data!(InstanceLoad);

/// All rows, as one map value: one look-up serves a scan over many workers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LoadTable {
    rows: [InstanceLoad; MAX_INSTANCES],
}

crate::plain_data!(LoadTable);

impl LoadTable {
    /// Every row, the lot's first.
    pub fn rows(&self) -> &[InstanceLoad; MAX_INSTANCES] {
        &self.rows
    }
}

/// A live view of the table in memory that every processor writes.
#[derive(Clone, Copy)]
pub struct Loads {
    rows: *mut InstanceLoad,
}

impl Loads {
    /// A view of `table`.
    ///
    /// # Safety
    /// `table` must stay valid for reads and writes as long as the view is used.
    #[inline(always)]
    pub const unsafe fn new(table: *mut LoadTable) -> Self {
        Self { rows: table.cast() }
    }

    #[inline(always)]
    fn row(&self, instance: u16) -> *mut InstanceLoad {
        // SAFETY: the mask keeps the offset inside the table (and lets the verifier see it).
        unsafe { self.rows.add(instance as usize & (MAX_INSTANCES - 1)) }
    }

    /// Connections now, as a comparable number (biased).
    #[inline(always)]
    pub fn established(&self, instance: u16) -> u32 {
        let row = self.row(instance);
        // SAFETY: `row` points into the table.
        unsafe { cell::read(&raw const (*row).established) }.wrapping_add(BIAS)
    }

    /// The bias that [`established`](Self::established) and [`load`](Self::load) carry.
    pub const BIAS: u32 = BIAS;

    /// Connections, plus recent selections that are not connections yet, plus the queue by its weight (biased). Without a branch: the
    /// verifier follows a scan over sixteen of these, and every branch would double its work.
    #[inline(always)]
    pub fn load(&self, instance: u16, epoch: u32) -> u32 {
        let row = self.row(instance);
        // SAFETY: `row` points into the table.
        let (pending, queue): ([Pending; 2], u16) = unsafe {
            (
                [
                    cell::read(&raw const (*row).pending[0]),
                    cell::read(&raw const (*row).pending[1]),
                ],
                cell::read(&raw const (*row).queue),
            )
        };
        self.established(instance)
            .wrapping_add(pending[0].if_recent(epoch))
            .wrapping_add(pending[1].if_recent(epoch))
            .wrapping_add(u32::from(queue) * QUEUE_WEIGHT)
    }

    /// The slot of an instance.
    #[inline(always)]
    pub fn slot(&self, instance: u16) -> u16 {
        // SAFETY: `row` points into the table.
        unsafe { cell::read(&raw const (*self.row(instance)).slot) }
    }

    /// A copy of a row.
    pub fn copy(&self, instance: u16) -> InstanceLoad {
        // SAFETY: `row` points into the table.
        unsafe { cell::read(self.row(instance)) }
    }

    /// Begins a row anew. Nobody may be counting in it.
    pub fn reset(&self, instance: u16, row: InstanceLoad) {
        // SAFETY: `row` points into the table.
        unsafe { cell::write(self.row(instance), row) };
    }

    /// So many connections wait to be accepted by this instance.
    pub fn set_queue(&self, instance: u16, connections: u32) {
        let queue = u16::try_from(connections).unwrap_or(u16::MAX);
        // SAFETY: `row` points into the table; nobody but the controller writes this number.
        unsafe { cell::write(&raw mut (*self.row(instance)).queue, queue) };
    }

    /// The program chose this instance for a new connection.
    #[inline(always)]
    pub fn selected(&self, instance: u16) {
        // SAFETY: `row` points into the table.
        unsafe { cell::add_u64(&raw mut (*self.row(instance)).selected_total, 1) };
    }

    /// Counts a selection into the load until it is a connection, or forgotten.
    #[inline(always)]
    pub fn reserve(&self, instance: u16, epoch: u32) {
        // SAFETY: `row` points into the table; `epoch & 1` is below 2.
        unsafe {
            let pending = (&raw mut (*self.row(instance)).pending)
                .cast::<Pending>()
                .add(epoch as usize & 1);
            if cell::read(&raw const (*pending).epoch) != epoch {
                // Two processors may both start the epoch; one selection is forgotten then, for a quarter of a second.
                cell::write(&raw mut (*pending).count, 0);
                cell::write(&raw mut (*pending).epoch, epoch);
            }
            cell::add_u32(&raw mut (*pending).count, 1);
        }
    }

    /// The controller directed a connection here.
    #[inline(always)]
    pub fn directed(&self, instance: u16) {
        // SAFETY: `row` points into the table.
        unsafe { cell::add_u32(&raw mut (*self.row(instance)).directed_total, 1) };
    }

    /// A connection was established on this instance; `steered` unless the program was not attached yet.
    #[inline(always)]
    pub fn entered(&self, instance: u16, steered: bool) {
        let row = self.row(instance);
        // SAFETY: `row` points into the table.
        unsafe {
            cell::add_u32(&raw mut (*row).established, 1);
            cell::add_u64(&raw mut (*row).established_total, 1);
            if !steered {
                cell::add_u32(&raw mut (*row).unsteered_total, 1);
            }
        }
    }

    /// A selection of this instance, if any was [reserved](Self::reserve), has become a connection.
    #[inline(always)]
    pub fn settle(&self, instance: u16, epoch: u32) {
        let row = self.row(instance);
        // SAFETY: `row` points into the table; the pending index is below 2.
        unsafe {
            let pending = (&raw mut (*row).pending).cast::<Pending>();
            let before = pending.add(epoch.wrapping_sub(1) as usize & 1);
            let now = pending.add(epoch as usize & 1);
            if cell::read(before).has_any(epoch.wrapping_sub(1)) {
                cell::add_u32(&raw mut (*before).count, u32::MAX);
            } else if cell::read(now).has_any(epoch) {
                cell::add_u32(&raw mut (*now).count, u32::MAX);
            }
        }
    }

    /// A connection of this instance ended.
    #[inline(always)]
    pub fn left(&self, instance: u16) {
        // SAFETY: `row` points into the table.
        unsafe { cell::add_u32(&raw mut (*self.row(instance)).established, u32::MAX) };
    }

    /// An established connection moved from one instance's queue to another's.
    #[inline(always)]
    pub fn migrated(&self, from: u16, to: u16) {
        let (from, to) = (self.row(from), self.row(to));
        // SAFETY: both rows point into the table.
        unsafe {
            cell::add_u32(&raw mut (*from).established, u32::MAX);
            cell::add_u64(&raw mut (*from).migrated_out_total, 1);
            cell::add_u32(&raw mut (*to).established, 1);
            cell::add_u64(&raw mut (*to).migrated_in_total, 1);
        }
    }
}

impl Pending {
    /// The count if it was made in this epoch or the one before, else 0; branch-free.
    #[inline(always)]
    fn if_recent(self, epoch: u32) -> u32 {
        // Age 0 and 1 become negative, hence a mask of ones; anything older becomes 0.
        let age_less_two = epoch.wrapping_sub(self.epoch).wrapping_sub(2).cast_signed();
        self.count & cell::opaque((age_less_two >> 31).cast_unsigned().into()) as u32
    }

    #[inline(always)]
    const fn has_any(self, epoch: u32) -> bool {
        self.epoch == epoch && self.count.cast_signed() > 0
    }
}

#[cfg(test)]
mod tests {
    use core::ptr;

    use super::*;

    fn table() -> Box<LoadTable> {
        Box::new(LoadTable {
            rows: [InstanceLoad::default(); MAX_INSTANCES],
        })
    }

    #[test]
    fn the_tables_fit_into_little_memory() {
        assert_eq!(size_of::<LoadTable>(), 64 * 1024);
        assert_eq!(ptr::from_ref(&*table()).align_offset(64), 0);
    }

    #[test]
    fn a_selection_counts_until_it_is_a_connection() {
        let mut table = table();
        // SAFETY: the table outlives the view.
        let loads = unsafe { Loads::new(&raw mut *table) };
        let load = |epoch| loads.load(5, epoch) - Loads::BIAS;
        loads.reserve(5, 100);
        loads.reserve(5, 100);
        assert_eq!(load(100), 2);
        loads.entered(5, true);
        loads.settle(5, 100);
        assert_eq!(load(100), 2, "one established, one pending");
        assert_eq!(load(101), 2, "still recent");
        assert_eq!(load(102), 1, "the SYN that never completed is forgotten");
        loads.reserve(5, 102);
        assert_eq!(load(102), 2);
        loads.entered(5, true);
        loads.settle(5, 103);
        assert_eq!(load(103), 2);
        loads.left(5);
        loads.left(5);
        assert_eq!(load(103), 0);
        loads.left(5);
        assert!(
            loads.load(5, 103) < loads.load(6, 103),
            "an undershoot compares as small"
        );
        assert_eq!(table.rows()[5].established(), 0);
    }

    #[test]
    fn what_waits_counts_twice_until_the_row_begins_anew() {
        let mut table = table();
        // SAFETY: the table outlives the view.
        let loads = unsafe { Loads::new(&raw mut *table) };
        loads.reset(5, InstanceLoad::new(300));
        loads.entered(5, true);
        loads.settle(5, 100);
        loads.set_queue(5, 1);
        assert_eq!(loads.load(5, 100) - Loads::BIAS, 1 + QUEUE_WEIGHT);
        assert_eq!(loads.established(5) - Loads::BIAS, 1);
        assert_eq!((loads.slot(5), loads.copy(5).queue()), (300, 1));
        loads.set_queue(5, 1_000_000);
        assert_eq!(loads.copy(5).queue(), u16::MAX);
        assert!(loads.load(5, 100) & 0x8000_0000 == 0, "31 bits are compared");
        loads.reset(5, InstanceLoad::new(2));
        assert_eq!((loads.copy(5).queue(), loads.load(5, 100)), (0, Loads::BIAS));
    }

    #[test]
    fn a_migration_keeps_the_sum() {
        let mut table = table();
        // SAFETY: the table outlives the view.
        let loads = unsafe { Loads::new(&raw mut *table) };
        loads.entered(1, true);
        loads.entered(1, false);
        loads.migrated(1, 2);
        let [_, one, two, ..] = table.rows();
        assert_eq!((one.established(), two.established()), (1, 1));
        assert_eq!(
            (one.migrated_out_total(), two.migrated_in_total(), one.unsteered_total()),
            (1, 1, 1)
        );
    }
}
