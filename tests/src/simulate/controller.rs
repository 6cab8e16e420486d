//! The controller's side of the simulation: who is published, and what a look at the queues leads to.

use reuse_common::{
    ids::{Row, SlotId},
    seats::Seat,
};

use crate::agenda::{Event, MILLISECOND};
use crate::kernel::Packet;
use crate::queue_watch::{Change, Seen};
use crate::setup::Chooser;
use crate::worker::FifoQueue;
use crate::world::World;

impl World<'_> {
    /// Publishes all that are wanted and not withheld.
    pub(crate) fn publish(&mut self) {
        let seats: Vec<Seat> = if self.setup.chooser == Chooser::Plain {
            self.plain_order.iter().map(|&slot| self.seat(slot)).collect()
        } else {
            (0..self.setup.workers)
                .filter(|&slot| self.is_wanted[slot as usize] && !self.is_withheld[slot as usize])
                .map(|slot| self.seat(slot))
                .collect()
        };
        self.kernel.publish(&seats);
    }

    fn seat(&self, slot: u16) -> Seat {
        let canary = self.setup.canary.filter(|_| slot + 1 == self.setup.workers);
        Seat::new(SlotId(slot), self.row_of_slot[slot as usize], 1).with_share(canary)
    }

    /// A look at the accept queues.
    pub(crate) fn look(&mut self) {
        let Some(watch) = self.setup.watch else { return };
        self.seen.clear();
        for slot in 0..self.setup.workers {
            let row = self.row_of_slot[slot as usize];
            let worker = &self.workers[row.index()];
            let (queue, accepted) = (worker.queue.len, worker.accepted);
            self.kernel.note_queue(row, queue);
            self.seen.push(Seen { slot, queue, accepted });
        }
        if let Some(mut watcher) = self.watcher.take() {
            for &change in watcher.look(self.now_ns / MILLISECOND, &self.seen) {
                self.change(change);
            }
            self.watcher = Some(watcher);
        }
        if !(self.all_have_arrived() && self.connections.count() == 0) {
            self.agenda.note(self.now_ns + watch.look_ns(), Event::Look);
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Call(slot) => {
                let row = self.row_of_slot[slot as usize];
                self.tally.counts.calls += 1;
                self.tally.counts.false_calls += u64::from(!self.workers[row.index()].frozen);
            }
            Change::WakeProbe(slot) => self.wake_probe(self.row_of_slot[slot as usize]),
            Change::Withdraw(slot) => {
                self.is_withheld[slot as usize] = true;
                self.publish();
            }
            Change::Rescue(slot) => self.rescue(self.row_of_slot[slot as usize]),
            Change::Publish(slot) => {
                self.is_withheld[slot as usize] = false;
                self.travels.published(slot, self.now_ns);
                self.publish();
            }
        }
    }

    /// A connection of the controller's own, which shows when the worker accepts again.
    fn wake_probe(&mut self, row: Row) {
        let number = self.connections.add(u32::MAX, 0, row, 0, 0);
        let probe = self.connections.get(number);
        (probe.is_wake_probe, probe.waits_since_ns) = (true, self.now_ns);
        self.enqueue(row, number);
    }

    /// Moves what is queued on this worker to others. (The controller closes and opens its own connection anew.)
    fn rescue(&mut self, from: Row) {
        let mut queue = std::mem::replace(&mut self.workers[from.index()].queue, FifoQueue::EMPTY);
        while let Some(number) = self.connections.pop(&mut queue) {
            let connection = *self.connections.get(number);
            if connection.is_wake_probe {
                self.connections.push(&mut self.workers[from.index()].queue, number);
                continue;
            }
            let packet = Packet {
                hash: connection.hash,
                client: connection.client,
            };
            let to = self.kernel.migrate(self.now_ns, from, packet);
            self.tally.counts.rescued += 1;
            self.connections.get(number).row = to;
            self.workers[from.index()].open -= 1;
            self.workers[to.index()].open += 1;
            self.enqueue(to, number);
        }
    }
}
