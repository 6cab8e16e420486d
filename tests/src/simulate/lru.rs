//! The kernel's table of sticky clients: an LRU hash as `kernel/bpf/bpf_lru_list.c` keeps it, for one processor. It is not exact: a look-up
//! only marks the entry, and room is made 128 entries at a time from an inactive list.

use std::collections::HashMap;

use reuse_common::{
    client::{ClientKey, ClientRecord},
    ids::SlotId,
};

/// How many entries are freed, and looked at, at a time (`LOCAL_FREE_TARGET`).
const BATCH: usize = 128;
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Inactive,
    Active,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    entry: Option<(ClientKey, ClientRecord)>,
    referenced: bool,
    place: Place,
    newer: u32,
    older: u32,
}

/// A doubly linked list through the nodes.
#[derive(Debug, Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        len: 0,
    };
}

/// The table.
#[derive(Debug)]
pub(crate) struct ClientTable {
    node_of: HashMap<ClientKey, u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    inactive: List,
    active: List,
    evicted: u64,
}

impl ClientTable {
    /// A table for so many clients, more than [`BATCH`].
    pub(crate) fn new(capacity: u32) -> Self {
        let empty = Node {
            entry: None,
            referenced: false,
            place: Place::Free,
            newer: NONE,
            older: NONE,
        };
        Self {
            node_of: HashMap::with_capacity(capacity as usize),
            nodes: vec![empty; capacity as usize],
            free: (0..capacity).rev().collect(),
            inactive: List::EMPTY,
            active: List::EMPTY,
            evicted: 0,
        }
    }

    /// What is remembered of the client.
    pub(crate) fn get(&mut self, client: &ClientKey) -> Option<ClientRecord> {
        let node = &mut self.nodes[*self.node_of.get(client)? as usize];
        node.referenced = true;
        node.entry.map(|(_, record)| record)
    }

    /// Marks the client's record as seen now, if it is of this slot.
    pub(crate) fn renew(&mut self, client: &ClientKey, slot: SlotId, now_ns: u64) -> bool {
        let Some(&number) = self.node_of.get(client) else {
            return false;
        };
        let node = &mut self.nodes[number as usize];
        node.referenced = true;
        // SAFETY: the record is borrowed for the length of the call.
        node.entry
            .as_mut()
            .is_some_and(|(_, record)| unsafe { ClientRecord::renew(record, slot, now_ns) })
    }

    /// Remembers it. Like the kernel, this takes a new node first, and frees the client's old one afterwards.
    pub(crate) fn insert(&mut self, client: ClientKey, record: ClientRecord) {
        let new = self.take_free();
        let old = self.node_of.insert(client, new);
        self.nodes[new as usize].entry = Some((client, record));
        self.nodes[new as usize].referenced = old.is_some();
        self.link(new, Place::Inactive);
        if let Some(old) = old {
            self.release(old);
        }
    }

    /// How many were forgotten for want of room.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn take_free(&mut self) -> u32 {
        if self.free.is_empty() {
            self.rotate();
            self.shrink();
        }
        self.free.pop().expect("making room frees an entry at least")
    }

    /// Lets the entries that were used move to the active list, and the active ones that were not move back.
    fn rotate(&mut self) {
        if self.inactive.len < self.active.len {
            for _ in 0..BATCH.min(self.active.len) {
                let oldest = self.active.oldest;
                let used = std::mem::take(&mut self.nodes[oldest as usize].referenced);
                self.move_to(oldest, if used { Place::Active } else { Place::Inactive });
            }
        }
    }

    fn shrink(&mut self) {
        let mut freed = 0;
        for _ in 0..BATCH.min(self.inactive.len) {
            let oldest = self.inactive.oldest;
            if std::mem::take(&mut self.nodes[oldest as usize].referenced) {
                self.move_to(oldest, Place::Active);
            } else {
                self.evict(oldest);
                freed += 1;
            }
        }
        if freed == 0 {
            let oldest = if self.inactive.len > 0 {
                self.inactive.oldest
            } else {
                self.active.oldest
            };
            self.evict(oldest);
        }
    }

    fn evict(&mut self, node: u32) {
        if let Some((client, _)) = self.nodes[node as usize].entry {
            self.node_of.remove(&client);
        }
        self.evicted += 1;
        self.release(node);
    }

    fn release(&mut self, node: u32) {
        self.unlink(node);
        self.nodes[node as usize].entry = None;
        self.free.push(node);
    }

    fn move_to(&mut self, node: u32, place: Place) {
        self.unlink(node);
        self.link(node, place);
    }

    fn link(&mut self, node: u32, place: Place) {
        let list = match place {
            Place::Active => &mut self.active,
            Place::Inactive | Place::Free => &mut self.inactive,
        };
        let second = std::mem::replace(&mut list.newest, node);
        list.len += 1;
        if second == NONE {
            list.oldest = node;
        } else {
            self.nodes[second as usize].newer = node;
        }
        let entry = &mut self.nodes[node as usize];
        (entry.place, entry.newer, entry.older) = (place, NONE, second);
    }

    fn unlink(&mut self, node: u32) {
        let Node {
            place, newer, older, ..
        } = self.nodes[node as usize];
        let list = match place {
            Place::Active => &mut self.active,
            Place::Inactive => &mut self.inactive,
            Place::Free => return,
        };
        list.len -= 1;
        if newer == NONE {
            list.newest = older;
        } else {
            self.nodes[newer as usize].older = older;
        }
        if older == NONE {
            list.oldest = newer;
        } else {
            self.nodes[older as usize].newer = newer;
        }
        self.nodes[node as usize].place = Place::Free;
    }
}

#[cfg(test)]
mod tests {
    use reuse_common::client::ClientMask;

    use super::*;

    fn client(number: u32) -> ClientKey {
        ClientKey::from_v4(number, &ClientMask::new(32, 64))
    }

    fn slot(table: &mut ClientTable, number: u32) -> Option<SlotId> {
        table.get(&client(number)).and_then(|record| record.slot(0, 0))
    }

    #[test]
    fn a_client_keeps_its_newest_record() {
        let mut table = ClientTable::new(1000);
        table.insert(client(1), ClientRecord::new(SlotId(3), 0));
        table.insert(client(1), ClientRecord::new(SlotId(4), 0));
        assert_eq!(slot(&mut table, 1), Some(SlotId(4)));
        assert_eq!(slot(&mut table, 2), None);
        assert_eq!(table.evicted(), 0);
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut table = ClientTable::new(1000);
        for round in 0..20 {
            for regular in 0..300 {
                if round == 0 || slot(&mut table, regular).is_some() {
                    table.insert(client(regular), ClientRecord::new(SlotId(1), 0));
                }
            }
            for stranger in 0..300 {
                table.insert(client(1000 + round * 300 + stranger), ClientRecord::new(SlotId(2), 0));
            }
        }
        let regulars = (0..300).filter(|&regular| slot(&mut table, regular).is_some()).count();
        assert_eq!(regulars, 300);
        assert!(table.evicted() > 4000, "{}", table.evicted());
        assert!(table.node_of.len() <= 1000);
        assert_eq!(table.node_of.len(), table.inactive.len + table.active.len);
    }
}
