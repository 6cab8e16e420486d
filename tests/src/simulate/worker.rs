//! Workers and connections as the simulation keeps them: connections in one table, and lists of them through their own links, so that no
//! event allocates.

use reuse_common::ids::Row;

/// No connection.
pub(crate) const NONE: u32 = u32::MAX;

/// A connection, or the handshake that becomes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    /// The next in the same list.
    next: u32,
    pub(crate) client: u32,
    pub(crate) hash: u32,
    pub(crate) row: Row,
    /// After the one that is being waited for.
    pub(crate) requests_left: u16,
    /// When it was established, or when the request came.
    pub(crate) waits_since_ns: u64,
    /// What the request takes.
    pub(crate) service_ns: u64,
    /// The controller's own: it only shows whether the worker accepts.
    pub(crate) is_wake_probe: bool,
}

/// First come, first served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FifoQueue {
    first: u32,
    last: u32,
    pub(crate) len: u32,
}

impl FifoQueue {
    pub(crate) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        len: 0,
    };
}

/// One instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worker {
    /// The accept queue.
    pub(crate) queue: FifoQueue,
    /// Accepted connections whose next request has come since the loop's turn began.
    pub(crate) ready: FifoQueue,
    /// What the loop's turn has still to answer.
    pub(crate) batch: FifoQueue,
    /// What it is doing, or [`NONE`].
    pub(crate) running: u32,
    pub(crate) frozen: bool,
    /// What it is doing takes so much longer, because it was frozen meanwhile.
    pub(crate) owed_ns: u64,
    pub(crate) accepted: u64,
    /// Connections, accepted or not.
    pub(crate) open: u32,
}

impl Worker {
    pub(crate) const IDLE: Self = Self {
        queue: FifoQueue::EMPTY,
        ready: FifoQueue::EMPTY,
        batch: FifoQueue::EMPTY,
        running: NONE,
        frozen: false,
        owed_ns: 0,
        accepted: 0,
        open: 0,
    };

    /// Whether it would begin at once with what comes.
    pub(crate) const fn is_idle(&self) -> bool {
        self.running == NONE && !self.frozen
    }
}

/// All connections that there are.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    all: Vec<Connection>,
    free: Vec<u32>,
}

impl Connections {
    /// Keeps a connection and says its number.
    pub(crate) fn add(&mut self, client: u32, hash: u32, row: Row, service_ns: u64, requests_left: u16) -> u32 {
        let connection = Connection {
            next: NONE,
            client,
            hash,
            row,
            requests_left,
            waits_since_ns: 0,
            service_ns,
            is_wake_probe: false,
        };
        if let Some(number) = self.free.pop() {
            self.all[number as usize] = connection;
            return number;
        }
        self.all.push(connection);
        self.all.len() as u32 - 1
    }

    pub(crate) fn remove(&mut self, number: u32) {
        self.free.push(number);
    }

    pub(crate) fn get(&mut self, number: u32) -> &mut Connection {
        &mut self.all[number as usize]
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Puts a connection at the end of a line.
    pub(crate) fn push(&mut self, line: &mut FifoQueue, number: u32) {
        self.all[number as usize].next = NONE;
        if line.len == 0 {
            line.first = number;
        } else {
            self.all[line.last as usize].next = number;
        }
        line.last = number;
        line.len += 1;
    }

    /// Takes the first of a line.
    pub(crate) fn pop(&mut self, line: &mut FifoQueue) -> Option<u32> {
        if line.len == 0 {
            return None;
        }
        let number = line.first;
        line.first = self.all[number as usize].next;
        line.len -= 1;
        Some(number)
    }

    /// Puts all of `from` at the end of `to`.
    pub(crate) fn append(&mut self, to: &mut FifoQueue, from: &mut FifoQueue) {
        if from.len == 0 {
            return;
        }
        if to.len == 0 {
            *to = *from;
        } else {
            self.all[to.last as usize].next = from.first;
            to.last = from.last;
            to.len += from.len;
        }
        *from = FifoQueue::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order() {
        let mut connections = Connections::default();
        let numbers: Vec<u32> = (0..5).map(|client| connections.add(client, 0, Row(0), 0, 0)).collect();
        let (mut one, mut two) = (FifoQueue::EMPTY, FifoQueue::EMPTY);
        connections.push(&mut one, numbers[3]);
        connections.push(&mut two, numbers[1]);
        connections.push(&mut two, numbers[4]);
        connections.append(&mut one, &mut two);
        connections.push(&mut one, numbers[0]);
        assert_eq!((one.len, two.len), (4, 0));
        let order: Vec<_> = std::iter::from_fn(|| connections.pop(&mut one)).collect();
        assert_eq!(order, [3, 1, 4, 0]);
        connections.remove(2);
        assert_eq!(connections.add(9, 0, Row(0), 0, 0), 2);
        assert_eq!(connections.count(), 5);
    }
}
