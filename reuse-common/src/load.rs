//! What the kernel counts per instance, and the load that `least-loaded` compares.

use crate::{
    cell,
    ids::{Row, SlotId},
    limits::MAX_ROWS,
};

/// The counters of one instance: one cache line. `select` and `track` add to them from every CPU. The controller reads them, and clears
/// them before a row is reused.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceLoad {
    /// Connections in ESTABLISHED or CLOSE_WAIT now. May briefly be off by one while a connection migrates.
    established: u32,
    /// The slot that the instance stands for.
    slot: SlotId,
    /// Connections waiting in the instance's accept queues when the controller last looked; at most 65,535.
    queue: u16,
    /// Selections that have not become connections yet, by the epoch in which they were made.
    pending: [Pending; 2],
    selected_total: u64,
    established_total: u64,
    migrated_in_total: u64,
    migrated_out_total: u64,
    /// Two numbers of 32 bits: of `established_total`, the connections that came before the program steered; of `selected_total`, those that the
    /// controller directed.
    unsteered_total: u32,
    directed_total: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pending {
    epoch: u32,
    count: u32,
}

/// What was counted for instances since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceTotals {
    /// How often the program has chosen them.
    pub selected: u64,
    /// Handshakes completed.
    pub established: u64,
    /// Connections moved to them.
    pub migrated_in: u64,
    /// Connections moved away from them.
    pub migrated_out: u64,
    /// Of `established`, the connections that came before the program steered.
    pub unsteered: u64,
    /// Of `selected`, the connections that the controller directed to them.
    pub directed: u64,
}

impl core::ops::AddAssign for InstanceTotals {
    fn add_assign(&mut self, other: Self) {
        let Self {
            selected,
            established,
            migrated_in,
            migrated_out,
            unsteered,
            directed,
        } = self;
        *selected += other.selected;
        *established += other.established;
        *migrated_in += other.migrated_in;
        *migrated_out += other.migrated_out;
        *unsteered += other.unsteered;
        *directed += other.directed;
    }
}

/// Selections count fully in their epoch of 2^28 ns (0.27 s) and fade out during the next, so that SYNs which never complete don't count
/// for ever. They fade because selections of a flood that were dropped all at once drew every connection to the worker that dropped most.
const EPOCH_SHIFT: u32 = 28;

/// At most this many selections of an instance count before they become connections. More than that is a flood, which says nothing about
/// the worker.
pub const PENDING_AT_MOST: u32 = 128;

/// How many extra connections each queued connection counts as in the load. It is part of `established` already, so with 1 it counts twice.
/// Most open connections are idle and say little about which worker is behind; the queue does. A slower worker thus gets fewer connections,
/// and event loops that keep up have empty queues. A larger weight would help more with slower workers (`docs/simulation`), but where
/// workers take one request at a time all of them have queues, and the controller's last look is out of date: with requests of 1 and 100 ms
/// the 99th percentile was 277 ms with weight 4, 245 with 1, 240 with 0, and 248 behind nginx's least_conn (medians of four to six
/// interleaved rounds, real servers).
pub const QUEUE_WEIGHT: u32 = 1;

/// Added to a load, so that a counter which is slightly below zero still compares as small.
const BIAS: u32 = 1 << 20;

/// The epoch of a clock in nanoseconds.
#[inline(always)]
pub const fn epoch(now_ns: u64) -> u32 {
    (now_ns >> EPOCH_SHIFT) as u32
}

/// The current time, as far as the age of a selection needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    epoch: u32,
    /// The elapsed part of the epoch, in 256ths.
    fraction: u8,
}

impl Moment {
    /// `fraction` 256ths after the beginning of `epoch`.
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
    pub fn new(slot: SlotId) -> Self {
        Self {
            slot,
            ..Self::default()
        }
    }

    /// Connections now. A counter that is briefly below zero is shown as 0.
    pub fn established(&self) -> u32 {
        u32::try_from(self.established.cast_signed()).unwrap_or(0)
    }

    /// Connections that the server had not accepted yet when the controller last looked, at most 65,535.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Selections that are not connections yet: those of this epoch, and those of the previous one.
    pub fn pending(&self, epoch: u32) -> (u32, u32) {
        let of = |epoch: u32| {
            let pending = self.pending[epoch as usize & 1];
            if pending.has_any(epoch) { pending.count } else { 0 }
        };
        (of(epoch), of(epoch.wrapping_sub(1)))
    }

    /// How often the program has chosen this instance.
    pub fn selected_total(&self) -> u64 {
        self.selected_total
    }

    /// Handshakes completed on this instance.
    pub fn established_total(&self) -> u64 {
        self.established_total
    }

    /// Connections moved here from a listener that closed.
    pub fn migrated_in_total(&self) -> u64 {
        self.migrated_in_total
    }

    /// Connections moved away from this instance.
    pub fn migrated_out_total(&self) -> u64 {
        self.migrated_out_total
    }

    /// All that only grows.
    pub fn totals(&self) -> InstanceTotals {
        // Taken apart, so that a new counter can't be forgotten.
        let Self {
            established: _,
            slot: _,
            queue: _,
            pending: _,
            selected_total,
            established_total,
            migrated_in_total,
            migrated_out_total,
            unsteered_total,
            directed_total,
        } = *self;
        InstanceTotals {
            selected: selected_total,
            established: established_total,
            migrated_in: migrated_in_total,
            migrated_out: migrated_out_total,
            unsteered: unsteered_total.into(),
            directed: directed_total.into(),
        }
    }

    /// Connections that came before the program steered.
    pub fn unsteered_total(&self) -> u32 {
        self.unsteered_total
    }

    /// Connections that the controller directed here.
    pub fn directed_total(&self) -> u32 {
        self.directed_total
    }

    /// Whether no connection of the instance is left in the kernel, so that the row may be reused.
    pub fn is_at_rest(&self) -> bool {
        self.established() == 0
    }
}

// One full cache line: one more counter would cost a second line in every selection (`benches/selection` measures it).
const _: () = assert!(size_of::<InstanceLoad>() == 64 && align_of::<InstanceLoad>() == 64);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, queue) == 6);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, selected_total) == 24);
const _: () = assert!(core::mem::offset_of!(InstanceLoad, directed_total) == 60);

crate::plain_data!(InstanceLoad);

/// All rows in one map value, so that a scan over many workers needs one look-up.
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

/// A live view of the table, which every CPU writes to.
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
        // SAFETY: an index is always inside the table.
        unsafe { self.rows.add(row.index()) }
    }

    /// Connections now, biased by [`BIAS`](Self::BIAS) so that the numbers compare.
    #[inline(always)]
    pub fn established(&self, row: Row) -> u32 {
        let line = self.line(row);
        // SAFETY: a line points into the table.
        unsafe { cell::read(&raw const (*line).established) }.wrapping_add(BIAS)
    }

    /// The bias that [`established`](Self::established) and [`load`](Self::load) carry.
    pub const BIAS: u32 = BIAS;

    /// The load: connections, plus recent selections that are not connections yet (at most [`PENDING_AT_MOST`]), plus the queue times its
    /// weight, plus the bias. Without a branch: the verifier follows a scan over sixteen of these, and each branch would double its work.
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
    pub fn slot(&self, row: Row) -> SlotId {
        // SAFETY: a line points into the table.
        unsafe { cell::read(&raw const (*self.line(row)).slot) }
    }

    /// A copy of a row.
    pub fn copy(&self, row: Row) -> InstanceLoad {
        // SAFETY: a line points into the table.
        unsafe { cell::read(self.line(row)) }
    }

    /// Starts a row anew. No program may be counting in it.
    pub fn reset(&self, row: Row, load: InstanceLoad) {
        // SAFETY: a line points into the table.
        unsafe { cell::write(self.line(row), load) };
    }

    /// Sets the number of connections that wait to be accepted by this instance.
    pub fn set_queue(&self, row: Row, connections: u32) {
        let queue = u16::try_from(connections).unwrap_or(u16::MAX);
        // SAFETY: a line points into the table; nobody but the controller writes this number.
        unsafe { cell::write(&raw mut (*self.line(row)).queue, queue) };
    }

    /// Counts a new connection for which the program chose this instance.
    #[inline(always)]
    pub fn selected(&self, row: Row) {
        // SAFETY: a line points into the table.
        unsafe { cell::add_u64(&raw mut (*self.line(row)).selected_total, 1) };
    }

    /// Adds a selection to the load until it becomes a connection or expires.
    #[inline(always)]
    pub fn reserve(&self, row: Row, epoch: u32) {
        // SAFETY: a line points into the table; `epoch & 1` is below 2.
        unsafe {
            let pending = (&raw mut (*self.line(row)).pending)
                .cast::<Pending>()
                .add(epoch as usize & 1);
            if cell::read(&raw const (*pending).epoch) != epoch {
                // If two CPUs start the epoch at the same time, one selection is lost, for a quarter of a second.
                cell::write(&raw mut (*pending).count, 0);
                cell::write(&raw mut (*pending).epoch, epoch);
            }
            cell::add_u32(&raw mut (*pending).count, 1);
        }
    }

    /// Counts a connection that the controller directed here.
    #[inline(always)]
    pub fn directed(&self, row: Row) {
        // SAFETY: a line points into the table.
        unsafe { cell::add_u32(&raw mut (*self.line(row)).directed_total, 1) };
    }

    /// Counts a connection that was established on this instance. `steered` is false if the program was not attached yet.
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

    /// A selection of this instance, if one was [reserved](Self::reserve), has become a connection.
    #[inline(always)]
    pub fn unreserve(&self, row: Row, epoch: u32) {
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

    /// Counts the end of a connection of this instance.
    #[inline(always)]
    pub fn left(&self, row: Row) {
        // SAFETY: a line points into the table.
        unsafe { cell::add_u32(&raw mut (*self.line(row)).established, u32::MAX) };
    }

    /// Moves an established connection from one instance's count to another's.
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

    /// Counts the move of a connection that has ended already, and so is in no count of open connections.
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
    /// 256 times the count that is left: all of it in its own epoch, less and less in the next, then nothing. Branch-free.
    #[inline(always)]
    fn in_256ths(self, moment: Moment) -> i64 {
        // Another CPU's clock may be slightly ahead: an age of -1 counts as 0.
        let age = i64::from(moment.epoch.wrapping_sub(self.epoch).cast_signed());
        let is_of_this_epoch = cell::ones_if_negative(age - 1);
        let is_recent = cell::ones_if_negative(age - 2);
        let part = (256 - (i64::from(moment.fraction) & !is_of_this_epoch)) & is_recent;
        // Signed: the count may be one or two below zero (see `settle`).
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
