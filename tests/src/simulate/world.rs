//! The simulation itself: clients, handshakes, workers and the controller, event by event.

use fastrand::Rng;
use reuse_common::{ids::Row, rendezvous::mix};

use crate::agenda::{Agenda, Event, SECOND};
use crate::kernel::{Kernel, Packet};
use crate::law::{Gaps, Law, nanoseconds};
use crate::outcome::{RunOutcome, Tally, max_over_mean};
use crate::queue_watch::{QueueWatcher, Seen};
use crate::setup::{Act, Population, Server, Setup};
use crate::travels::Travels;
use crate::worker::{Connections, NONE, Worker};

/// Rows of a slot's two instances that take turns.
pub(crate) const OTHER_ROW: u16 = 256;
/// The first part of a run is not measured.
const WARM_UP: f64 = 0.1;
/// So often the balance is measured.
const SAMPLES: f64 = 500.0;
/// Where the clock starts: the kernel's does not start at 0 either, and an epoch before the first must exist.
const START_NS: u64 = 1000 * SECOND;

/// Runs it to the end of the last connection.
pub(crate) fn run(setup: &Setup) -> RunOutcome {
    let mut world = World::new(setup);
    world.begin();
    while let Some((at_ns, event)) = world.agenda.next() {
        world.now_ns = at_ns;
        world.happen(event);
    }
    world.finish()
}

/// Everything at one moment.
pub(crate) struct World<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) now_ns: u64,
    pub(crate) agenda: Agenda,
    pub(crate) kernel: Kernel,
    /// By row.
    pub(crate) workers: Vec<Worker>,
    pub(crate) row_of_slot: Vec<Row>,
    pub(crate) is_wanted: Vec<bool>,
    /// By slot: withdrawn because it is hung.
    pub(crate) is_withheld: Vec<bool>,
    /// The slots as the kernel has their sockets when no program chooses: the last takes the place of one that closes.
    pub(crate) plain_order: Vec<u16>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) connections: Connections,
    pub(crate) tally: Tally,
    pub(crate) travels: Travels,
    pub(crate) watcher: Option<QueueWatcher>,
    /// Who comes when and wants what: the same for every policy.
    traffic: Rng,
    /// What happens later on a connection.
    later: Rng,
    flood: Rng,
    gaps: Gaps,
    measure_from_ns: u64,
    measure_to_ns: u64,
}

impl<'a> World<'a> {
    fn new(setup: &'a Setup) -> Self {
        let length_ns = nanoseconds(setup.expected_length());
        let row_of_slot: Vec<Row> = (0..setup.workers).map(|slot| Row(slot + 1)).collect();
        let mut tally = Tally::default();
        tally.waits_ns.reserve(match setup.server {
            Server::Ample { .. } => 0,
            _ => setup.connections as usize,
        });
        Self {
            setup,
            now_ns: START_NS,
            agenda: Agenda::default(),
            kernel: Kernel::new(setup.chooser, setup.tuning),
            workers: vec![Worker::IDLE; 1 + 2 * OTHER_ROW as usize],
            is_wanted: vec![true; row_of_slot.len()],
            is_withheld: vec![false; row_of_slot.len()],
            plain_order: (0..setup.workers).collect(),
            seen: Vec::with_capacity(row_of_slot.len()),
            travels: Travels::new(setup.population, row_of_slot.len()),
            row_of_slot,
            connections: Connections::default(),
            tally,
            watcher: setup
                .watch
                .map(|watch| QueueWatcher::new(watch, setup.workers as usize)),
            traffic: Rng::with_seed(setup.seed),
            later: Rng::with_seed(setup.seed ^ 0x006c_6174_6572),
            flood: Rng::with_seed(setup.seed ^ 0x0066_6c6f_6f64),
            gaps: Gaps::new(setup.arrivals),
            measure_from_ns: START_NS + nanoseconds(setup.expected_length() * WARM_UP),
            measure_to_ns: START_NS + length_ns,
        }
    }

    fn begin(&mut self) {
        self.publish();
        let gap = self.gaps.draw_ns(&mut self.traffic);
        self.agenda.note(START_NS + gap, Event::Arrival);
        if self.setup.flood.is_some() {
            self.agenda.note(START_NS, Event::Flood);
        }
        self.agenda.note(self.measure_from_ns, Event::Sample);
        if let Some(watch) = self.setup.watch {
            self.agenda.note(START_NS + watch.look_ns(), Event::Look);
        }
        for (nth, (at_ns, _)) in (0..).zip(&self.setup.script) {
            self.agenda.note(START_NS + at_ns, Event::Act(nth));
        }
    }

    fn finish(self) -> RunOutcome {
        debug_assert_eq!(
            self.tally.counts.arrived,
            self.tally.counts.ended + self.tally.counts.refused
        );
        let totals: Vec<u64> = (0..self.setup.workers)
            .map(|slot| {
                self.kernel.selected_total(Row(slot + 1)) + self.kernel.selected_total(Row(slot + 1 + OTHER_ROW))
            })
            .collect();
        let sticky = self.kernel.sticky_counts();
        let away = sticky.away_from_home as f64 / sticky.placed.max(1) as f64;
        let mut tally = self.tally;
        tally.counts.moves = self.travels.moves();
        RunOutcome::new(tally, &totals, self.kernel.evicted(), away)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrival(),
            Event::Flood => self.flood(),
            Event::Established(number) => self.established(number),
            Event::Finished(row) => self.finished(row),
            Event::Request(number) => self.request(number),
            Event::End(number) => self.end(number),
            Event::Thaw(row) => self.thaw(row),
            Event::Look => self.look(),
            Event::Sample => self.sample(),
            Event::Act(nth) => self.act(self.setup.script[nth as usize].1),
        }
    }

    pub(crate) fn all_have_arrived(&self) -> bool {
        self.tally.counts.arrived >= self.setup.connections
    }

    fn arrival(&mut self) {
        self.tally.counts.arrived += 1;
        if !self.all_have_arrived() {
            let gap = self.gaps.draw_ns(&mut self.traffic);
            self.agenda.note(self.now_ns + gap, Event::Arrival);
        }
        let packet = self.packet();
        let (law, requests) = match self.setup.server {
            Server::Ample { lasts } => (lasts, 1),
            Server::Serial { service } => (service, 1),
            Server::Loop { service, requests, .. } => (service, geometric(requests, &mut self.traffic)),
        };
        let service_ns = law.draw_ns(&mut self.traffic);
        let round_trip_ns = self.setup.round_trip.draw_ns(&mut self.traffic);
        let row = self.kernel.select(self.now_ns, packet);
        let number = self
            .connections
            .add(packet.client, packet.hash, row, service_ns, requests - 1);
        self.agenda
            .note(self.now_ns + round_trip_ns, Event::Established(number));
    }

    fn packet(&mut self) -> Packet {
        let hash = self.traffic.u32(..);
        match self.setup.population {
            Population::Strangers => Packet {
                hash,
                client: self.traffic.u32(..),
            },
            Population::Zipf { clients, skew } => Packet {
                hash,
                client: skewed(clients, skew, &mut self.traffic),
            },
            Population::Ports { clients } => {
                let client = self.traffic.u32(0..clients);
                Packet {
                    hash: mix(client.into()) as u32,
                    client,
                }
            }
        }
    }

    /// A SYN from an address that does not exist.
    fn flood(&mut self) {
        let Some(flood) = self.setup.flood else { return };
        let packet = Packet {
            hash: self.flood.u32(..),
            // Beyond all real clients, which are numbered from 0.
            client: self.flood.u32(1 << 24..),
        };
        self.kernel.select(self.now_ns, packet);
        self.tally.counts.flooded += 1;
        if !self.all_have_arrived() {
            let gap = Law::Exponential(1.0 / flood.rate).draw_ns(&mut self.flood);
            self.agenda.note(self.now_ns + gap, Event::Flood);
        }
    }

    fn established(&mut self, number: u32) {
        let mut connection = *self.connections.get(number);
        if self.setup.flood.is_some_and(|flood| flood.cookies) {
            // Nothing is kept of a handshake with a cookie: the final ACK is treated like a SYN.
            let packet = Packet {
                hash: connection.hash,
                client: connection.client,
            };
            connection.row = self.kernel.select(self.now_ns, packet);
        }
        connection.waits_since_ns = self.now_ns;
        *self.connections.get(number) = connection;
        let row = connection.row.index();
        if self.workers[row].queue.len >= self.setup.backlog {
            self.tally.counts.refused += 1;
            self.connections.remove(number);
            return;
        }
        self.kernel.established(self.now_ns, connection.row, connection.client);
        self.travels
            .arrived(connection.client, slot_of(connection.row), self.now_ns, &self.kernel);
        self.workers[row].open += 1;
        if let Server::Ample { .. } = self.setup.server {
            self.workers[row].accepted += 1;
            self.agenda
                .note(self.now_ns + connection.service_ns, Event::End(number));
        } else {
            self.enqueue(connection.row, number);
        }
    }

    /// Puts a connection into a worker's accept queue.
    pub(crate) fn enqueue(&mut self, row: Row, number: u32) {
        let worker = &mut self.workers[row.index()];
        self.connections.push(&mut worker.queue, number);
        if worker.is_idle() {
            self.serve_next(row);
        }
    }

    /// The worker takes what comes next, if anything does.
    fn serve_next(&mut self, row: Row) {
        let worker = &mut self.workers[row.index()];
        let next = if let Server::Loop { .. } = self.setup.server {
            if worker.batch.len == 0 {
                // A turn of the loop: all that has become ready, and all that waits to be accepted.
                worker.accepted += u64::from(worker.queue.len);
                self.connections.append(&mut worker.batch, &mut worker.ready);
                self.connections.append(&mut worker.batch, &mut worker.queue);
            }
            self.connections.pop(&mut worker.batch)
        } else {
            worker.accepted += u64::from(worker.queue.len > 0);
            self.connections.pop(&mut worker.queue)
        };
        let Some(number) = next else { return };
        worker.running = number;
        let connection = self.connections.get(number);
        let since_ns = connection.waits_since_ns;
        let times = if slot_of(row) == 0 {
            self.setup.first_is_slower
        } else {
            1
        };
        let finished_ns = self.now_ns + connection.service_ns * times;
        let is_measured =
            since_ns >= self.measure_from_ns && since_ns < self.measure_to_ns && !connection.is_wake_probe;
        self.agenda.note(finished_ns, Event::Finished(row));
        if is_measured {
            self.tally
                .wait(since_ns - START_NS, self.now_ns - START_NS, self.setup.timeline);
        }
    }

    fn finished(&mut self, row: Row) {
        let worker = &mut self.workers[row.index()];
        let owed_ns = std::mem::take(&mut worker.owed_ns);
        if owed_ns > 0 {
            self.agenda.note(self.now_ns + owed_ns, Event::Finished(row));
            return;
        }
        let number = std::mem::replace(&mut worker.running, NONE);
        let connection = self.connections.get(number);
        match self.setup.server {
            Server::Loop { service, think, .. } if connection.requests_left > 0 => {
                connection.requests_left -= 1;
                connection.service_ns = service.draw_ns(&mut self.later);
                let think_ns = think.draw_ns(&mut self.later);
                self.agenda.note(self.now_ns + think_ns, Event::Request(number));
            }
            _ => self.end(number),
        }
        self.serve_next(row);
    }

    fn request(&mut self, number: u32) {
        let now_ns = self.now_ns;
        let connection = self.connections.get(number);
        connection.waits_since_ns = now_ns;
        let row = connection.row;
        let worker = &mut self.workers[row.index()];
        self.connections.push(&mut worker.ready, number);
        if worker.is_idle() {
            self.serve_next(row);
        }
    }

    fn end(&mut self, number: u32) {
        let connection = *self.connections.get(number);
        self.connections.remove(number);
        if connection.is_wake_probe {
            return;
        }
        self.tally.counts.ended += 1;
        self.workers[connection.row.index()].open -= 1;
        self.kernel.left(self.now_ns, connection.row, connection.client);
    }

    fn thaw(&mut self, row: Row) {
        let worker = &mut self.workers[row.index()];
        worker.frozen = false;
        if worker.is_idle() {
            self.serve_next(row);
        }
    }

    fn sample(&mut self) {
        let open = |row: Row| u64::from(self.workers[row.index()].open);
        let balance = max_over_mean(self.kernel.seats().iter().map(|seat| open(seat.row())));
        self.tally.balance.extend(balance);
        let next_ns = self.now_ns + nanoseconds(self.setup.expected_length() / SAMPLES);
        if next_ns < self.measure_to_ns && !self.all_have_arrived() {
            self.agenda.note(next_ns, Event::Sample);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Freeze(slot, ns) => {
                let row = self.row_of_slot[slot as usize];
                let worker = &mut self.workers[row.index()];
                worker.frozen = true;
                if worker.running != NONE {
                    worker.owed_ns += ns;
                }
                self.agenda.note(self.now_ns + ns, Event::Thaw(row));
            }
            Act::Withdraw(slot) => {
                self.is_wanted[slot as usize] = false;
                if let Some(place) = self.plain_order.iter().position(|&other| other == slot) {
                    self.plain_order.swap_remove(place);
                }
                self.publish();
            }
            Act::Publish(slot) => {
                self.is_wanted[slot as usize] = true;
                self.plain_order.push(slot);
                self.travels.published(slot, self.now_ns);
                self.publish();
            }
            Act::Replace(slot) => {
                if let Some(place) = self.plain_order.iter().position(|&other| other == slot) {
                    self.plain_order.swap_remove(place);
                    self.plain_order.push(slot);
                }
                let row = &mut self.row_of_slot[slot as usize];
                row.0 = if row.0 > OTHER_ROW {
                    row.0 - OTHER_ROW
                } else {
                    row.0 + OTHER_ROW
                };
                self.publish();
            }
        }
    }
}

/// The slot that a row stands for.
const fn slot_of(row: Row) -> u16 {
    (row.0 - 1) % OTHER_ROW
}

/// How many requests a connection makes: at least 1, `mean` on average, memoryless.
#[expect(
    clippy::cast_sign_loss,
    reason = "neither logarithm is above 0, and the conversion saturates"
)]
fn geometric(mean: f64, random: &mut Rng) -> u16 {
    let goes_on = 1.0 - 1.0 / mean;
    if goes_on <= 0.0 {
        return 1;
    }
    let more = ((1.0 - random.f64()).ln() / goes_on.ln()) as u16;
    more.saturating_add(1)
}

/// A client, of a continuous distribution with this density, so that no table is needed. `skew` is not 1.
#[expect(clippy::cast_sign_loss, reason = "the power is at least 1")]
fn skewed(clients: u32, skew: f64, random: &mut Rng) -> u32 {
    let rest = 1.0 - skew;
    let most = f64::from(clients).powf(rest);
    let place = (1.0 + random.f64() * (most - 1.0)).powf(1.0 / rest) as u32;
    place.saturating_sub(1).min(clients - 1)
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
