//! Which clients came to another worker than before, and why.

use crate::kernel::Kernel;
use crate::outcome::Moves;
use crate::setup::Population;

const NOWHERE: u16 = u16::MAX;

/// Where every client was last.
#[derive(Debug)]
pub(crate) struct Travels {
    last: Vec<(u16, u64)>,
    published_ns: Vec<u64>,
    moves: Moves,
}

impl Travels {
    pub(crate) fn new(population: Population, slots: usize) -> Self {
        let clients = match population {
            Population::Strangers => 0,
            Population::Zipf { clients, .. } | Population::Ports { clients } => clients as usize,
        };
        Self {
            last: vec![(NOWHERE, 0); clients],
            published_ns: vec![0; slots],
            moves: Moves::default(),
        }
    }

    pub(crate) const fn moves(&self) -> Moves {
        self.moves
    }

    /// This slot may be chosen again.
    pub(crate) fn published(&mut self, slot: u16, now_ns: u64) {
        self.published_ns[slot as usize] = now_ns;
    }

    /// This client's connection is this slot's.
    pub(crate) fn arrived(&mut self, client: u32, slot: u16, now_ns: u64, kernel: &Kernel) {
        let Some(last) = self.last.get_mut(client as usize) else {
            return;
        };
        let (before, seen_ns) = std::mem::replace(last, (slot, now_ns));
        if before == NOWHERE {
            return;
        }
        let count = if before == slot {
            &mut self.moves.stayed
        } else if !kernel.is_published(before) {
            &mut self.moves.withdrawn
        } else if self.published_ns[slot as usize] > seen_ns {
            &mut self.moves.returned
        } else {
            &mut self.moves.needless
        };
        *count += 1;
    }
}
