//! What the kernel counts per instance, and the load that `least-loaded` compares.

use crate::{
    cell,
    ids::{Row, Slot},
    limits::MAX_ROWS,
};

/// One cache line per instance. `select` and `track` add to it from every processor; the controller reads it and clears it
/// before a row is used again.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceLoad {
    /// Connections in ESTABLISHED or CLOSE_WAIT now. May be off by one for an instant while a connection migrates.
    established: u32,
    /// The slot that the instance stands for.
    slot: Slot,
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

/// Selections count wholly in their epoch of 2^28 ns (0.27 s) and less and less in the next, so that SYNs which never complete do not
/// count for ever. Forgotten all at once, those of a flood drew everybody to the worker that forgot most.
const EPOCH_SHIFT: u32 = 28;

/// At most so many selections of an instance count that are not connections yet: beyond it is a flood, which says nothing of the worker.
pub const PENDING_AT_MOST: u32 = 128;

/// How many established connections one that waits to be accepted counts for, beside itself: it is one of `established` already. So it
/// counts twice: as a connection that the worker has, and as one that it has fallen behind with. Most open connections are idle, and how
/// many they are says little of who is behind; the queue does: a worker that is slower than the others gets less of what it can't do, and
/// event loops that keep up have empty queues. More of it would help with slower workers still (`docs/simulation`), but where workers take
/// one request at a time all have queues, and what the controller saw of them is old: with 4, requests of 1 and 100 ms had a 99th percentile of
/// 277 ms, with 1 of 245, with 0 of 240, and 248 behind nginx's least_conn (medians of four to six interleaved rounds, real servers).
pub const QUEUE_WEIGHT: u32 = 1;

/// Added to a load so that a counter which is off by a few below zero still compares as small.
const BIAS: u32 = 1 << 20;

/// The epoch of this moment.
#[inline(always)]
pub const fn epoch(now_ns: u64) -> u32 {
    (now_ns >> EPOCH_SHIFT) as u32
}

/// What the age of a selection is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    epoch: u32,
    /// 256ths of the epoch that are over.
    fraction: u8,
}

impl Moment {
    /// This many 256ths after the beginning of an epoch.
    #[inline(always)]
    pub const fn new(epoch: u32, fraction: u8) -> Self {
        Self { epoch, fraction }
    }

    /// The moment of a clock in nanoseconds.
    #[inline(always)]
    pub const fn at(now_ns: u64) -> Self {
        Self::new(epoch(now_ns), (now_ns >> (EPOCH_SHIFT - 8)) as u8)
    }
}

impl InstanceLoad {
    /// A fresh row for an instance of `slot`.
    pub fn new(slot: Slot) -> Self {
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

    /// Selections that are not connections yet: how many were made in this epoch, and how many in the one before.
    pub fn pending(&self, epoch: u32) -> (u32, u32) {
        let of = |epoch: u32| {
            let pending = self.pending[epoch as usize & 1];
            if pending.has_any(epoch) { pending.count } else { 0 }
        };
        (of(epoch), of(epoch.wrapping_sub(1)))
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

    /// Whether nothing of the instance is left in the kernel, so that the row may be used again.
    pub fn is_at_rest(&self) -> bool {
        self.established() == 0
    }
}

// One line of the processor's cache, and full: one more counter costs a second one in every selection (`benches/selection` says how much).
const _: () = assert!(size_of::<InstanceLoad>() == 64 && align_of::<InstanceLoad>() == 64);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, queue) == 6);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, selected_total) == 24);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, directed_total) == 60);

crate::plain_data!(InstanceLoad);

/// All rows, as one map value: one look-up serves a scan over many workers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LoadTable {
    rows: [InstanceLoad; MAX_ROWS],
}

crate::plain_data!(LoadTable);

impl LoadTable {
    /// Every row, the backstop's first.
    pub fn rows(&self) -> &[InstanceLoad; MAX_ROWS] {
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
    fn line(&self, row: Row) -> *mut InstanceLoad {
        // SAFETY: an index is inside the table.
        unsafe { self.rows.add(row.index()) }
    }

    /// Connections now, as a comparable number (biased).
    #[inline(always)]
    pub fn established(&self, row: Row) -> u32 {
        let line = self.line(row);
        // SAFETY: a line points into the table.
        unsafe { cell::read(&raw const (*line).established) }.wrapping_add(BIAS)
    }

    /// The bias that [`established`](Self::established) and [`load`](Self::load) carry.
    pub const BIAS: u32 = BIAS;

    /// Connections, plus recent selections that are not connections yet (at most [`PENDING_AT_MOST`]), plus the queue by its weight
    /// (biased). Without a branch: the verifier follows a scan over sixteen of these, and every branch would double its work.
    #[inline(always)]
    pub fn load(&self, row: Row, moment: Moment) -> u32 {
        let line = self.line(row);
        // SAFETY: a line points into the table.
        let (pending, queue): ([Pending; 2], u16) = unsafe {
            (
                [
                    cell::read(&raw const (*line).pending[0]),
                    cell::read(&raw const (*line).pending[1]),
                ],
                cell::read(&raw const (*line).queue),
            )
        };
        let pending = (pending[0].in_256ths(moment) + pending[1].in_256ths(moment)) >> 8;
        self.established(row)
            .wrapping_add(cell::smaller(pending, PENDING_AT_MOST.into()).cast_unsigned() as u32)
            .wrapping_add(u32::from(queue) * QUEUE_WEIGHT)
    }

    /// The slot of the row's instance.
    #[inline(always)]
    pub fn slot(&self, row: Row) -> Slot {
        // SAFETY: a line points into the table.
        unsafe { cell::read(&raw const (*self.line(row)).slot) }
    }

    /// A copy of a row.
    pub fn copy(&self, row: Row) -> InstanceLoad {
        // SAFETY: a line points into the table.
        unsafe { cell::read(self.line(row)) }
    }

    /// Begins a row anew. Nobody may be counting in it.
    pub fn reset(&self, row: Row, load: InstanceLoad) {
        // SAFETY: a line points into the table.
        unsafe { cell::write(self.line(row), load) };
    }

    /// So many connections wait to be accepted by this instance.
    pub fn set_queue(&self, row: Row, connections: u32) {
        let queue = u16::try_from(connections).unwrap_or(u16::MAX);
        // SAFETY: a line points into the table; nobody but the controller writes this number.
        unsafe { cell::write(&raw mut (*self.line(row)).queue, queue) };
    }

    /// The program chose this instance for a new connection.
    #[inline(always)]
    pub fn selected(&self, row: Row) {
        // SAFETY: a line points into the table.
        unsafe { cell::add_u64(&raw mut (*self.line(row)).selected_total, 1) };
    }

    /// Counts a selection into the load until it is a connection, or forgotten.
    #[inline(always)]
    pub fn reserve(&self, row: Row, epoch: u32) {
        // SAFETY: a line points into the table; `epoch & 1` is below 2.
        unsafe {
            let pending = (&raw mut (*self.line(row)).pending)
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
    pub fn directed(&self, row: Row) {
        // SAFETY: a line points into the table.
        unsafe { cell::add_u32(&raw mut (*self.line(row)).directed_total, 1) };
    }

    /// A connection was established on this instance; `steered` unless the program was not attached yet.
    #[inline(always)]
    pub fn entered(&self, row: Row, steered: bool) {
        let line = self.line(row);
        // SAFETY: a line points into the table.
        unsafe {
            cell::add_u32(&raw mut (*line).established, 1);
            cell::add_u64(&raw mut (*line).established_total, 1);
            if !steered {
                cell::add_u32(&raw mut (*line).unsteered_total, 1);
            }
        }
    }

    /// A selection of this instance, if any was [reserved](Self::reserve), has become a connection.
    #[inline(always)]
    pub fn settle(&self, row: Row, epoch: u32) {
        let line = self.line(row);
        // SAFETY: a line points into the table; the pending index is below 2.
        unsafe {
            let pending = (&raw mut (*line).pending).cast::<Pending>();
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
    pub fn left(&self, row: Row) {
        // SAFETY: a line points into the table.
        unsafe { cell::add_u32(&raw mut (*self.line(row)).established, u32::MAX) };
    }

    /// An established connection moved from one instance's queue to another's.
    #[inline(always)]
    pub fn migrated(&self, from: Row, to: Row) {
        let (from, to) = (self.line(from), self.line(to));
        // SAFETY: both lines point into the table.
        unsafe {
            cell::add_u32(&raw mut (*from).established, u32::MAX);
            cell::add_u64(&raw mut (*from).migrated_out_total, 1);
            cell::add_u32(&raw mut (*to).established, 1);
            cell::add_u64(&raw mut (*to).migrated_in_total, 1);
        }
    }

    /// A connection that has ended already moved from one instance's queue to another's.
    #[inline(always)]
    pub fn migrated_closed(&self, from: Row, to: Row) {
        let (from, to) = (self.line(from), self.line(to));
        // SAFETY: both lines point into the table.
        unsafe {
            cell::add_u64(&raw mut (*from).migrated_out_total, 1);
            cell::add_u64(&raw mut (*to).migrated_in_total, 1);
        }
    }
}

impl Pending {
    /// 256 times what is left of the count: all of it in its own epoch, less and less in the next, then nothing. Branch-free.
    #[inline(always)]
    fn in_256ths(self, moment: Moment) -> i64 {
        // Another processor's clock may be ahead by an instant: an age of -1 is as good as 0.
        let age = i64::from(moment.epoch.wrapping_sub(self.epoch).cast_signed());
        let is_of_this_epoch = cell::ones_if_negative(age - 1);
        let is_recent = cell::ones_if_negative(age - 2);
        let part = (256 - (i64::from(moment.fraction) & !is_of_this_epoch)) & is_recent;
        // Signed: the count may be below zero by one or two (see `settle`).
        i64::from(self.count.cast_signed()) * part
    }

    #[inline(always)]
    const fn has_any(self, epoch: u32) -> bool {
        self.epoch == epoch && self.count.cast_signed() > 0
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
