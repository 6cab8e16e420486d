//! Assigns rows of the load table to instances, and keeps the counters of every slot.

use reuse_common::{
    ids::{Row, SlotId},
    limits::MAX_ROWS,
    load::{InstanceLoad, InstanceTotals},
};

/// Assigns rows to instances. A free row rests as long as possible, and is not reused while a connection still counts in it, because its
/// counters still belong to its last slot.
#[derive(Debug)]
pub struct Registry {
    /// The last slot of each row. Row 0 is for the backstops.
    owners: Vec<Option<SlotId>>,
    /// Indexed by row.
    in_use: Vec<bool>,
    /// Where the search for a free row begins.
    next: usize,
    /// Indexed by slot: the counters of rows that have since been given to other slots.
    earlier: Vec<InstanceTotals>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            owners: vec![None; MAX_ROWS],
            in_use: vec![false; MAX_ROWS],
            next: 1,
            earlier: Vec::new(),
        }
    }
}

impl Registry {
    /// Allocates a row for an instance of `slot`; the caller must clear it. `None` if every row is in use, which can't happen as the number
    /// of instances per slot is bounded.
    pub fn allocate(&mut self, slot: SlotId, load_of: impl Fn(Row) -> InstanceLoad) -> Option<Row> {
        let candidates = (self.next..MAX_ROWS).chain(1..self.next);
        let index = candidates
            .into_iter()
            .find(|&index| !self.in_use[index] && load_of(row_at(index)).is_at_rest())?;
        if let Some(owner) = self.owners[index].replace(slot) {
            *self.earlier_of(owner) += load_of(row_at(index)).totals();
        }
        self.in_use[index] = true;
        self.next = index + 1;
        Some(row_at(index))
    }

    /// Frees the row of an instance that has ended.
    pub fn release(&mut self, row: Row) {
        self.in_use[usize::from(row.0)] = false;
    }

    /// What was counted for a slot, over all its instances.
    pub fn totals(&self, slot: SlotId, load_of: impl Fn(Row) -> InstanceLoad) -> InstanceTotals {
        let mut sum = self.earlier.get(usize::from(slot.0)).copied().unwrap_or_default();
        for (index, owner) in self.owners.iter().enumerate() {
            if *owner == Some(slot) {
                sum += load_of(row_at(index)).totals();
            }
        }
        sum
    }

    fn earlier_of(&mut self, slot: SlotId) -> &mut InstanceTotals {
        let index = usize::from(slot.0);
        if self.earlier.len() <= index {
            self.earlier.resize(index + 1, InstanceTotals::default());
        }
        &mut self.earlier[index]
    }
}

fn row_at(index: usize) -> Row {
    Row(u16::try_from(index).expect("a row's number is below 1,024"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_rest_and_counters_stay() {
        let mut registry = Registry::default();
        let idle = |_| InstanceLoad::default();
        let first = registry.allocate(SlotId(0), idle).expect("a row");
        registry.release(first);
        let second = registry.allocate(SlotId(0), idle).expect("a row");
        assert_ne!(first, second, "a released row rests");
        for _ in 2..MAX_ROWS - 1 {
            let row = registry.allocate(SlotId(3), idle).expect("a row");
            registry.release(row);
        }
        assert_eq!(registry.allocate(SlotId(1), idle), Some(first), "after all others");
        assert_eq!(registry.owners[0], None, "the backstop's row is never given away");
    }

    #[test]
    fn all_rows_in_use_is_said() {
        let mut registry = Registry::default();
        for _ in 1..MAX_ROWS {
            assert!(registry.allocate(SlotId(0), |_| InstanceLoad::default()).is_some());
        }
        assert_eq!(registry.allocate(SlotId(0), |_| InstanceLoad::default()), None);
    }
}
