//! Many clients at once, each a thread with an address of its own, and an exact account of what happened to every request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{Answer, Connection, Failure};
use crate::namespace::ipv4_clients;
use crate::wait;

/// How a client uses its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A new connection for each request, never a second try.
    NewConnections,
    /// One connection for many requests; a request is sent once more when a *reused* connection had closed before a byte of the answer.
    KeepAlive,
}

/// What became of all requests.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not, by reason.
    pub failed: BTreeMap<Failure, u64>,
    /// The first few failures, with the moment after the start and the client's address.
    pub first_failures: Vec<String>,
    /// Requests that were sent a second time, as [`Mode::KeepAlive`] allows.
    pub retried: u64,
    /// Connections that were established.
    pub connections: u64,
    /// The longest time that a request took, answered or not, from connecting to the end.
    pub slowest: Duration,
    /// Answers by slot.
    pub by_slot: BTreeMap<u16, u64>,
    /// Answers by process.
    pub by_pid: BTreeMap<u32, u64>,
}

impl Report {
    /// All requests that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Fails unless every request was answered.
    #[track_caller]
    pub fn assert_nothing_failed(&self) {
        assert_eq!(
            self.failures(),
            0,
            "of {} requests failed: {:?}; the first: {:#?}",
            self.answered + self.failures(),
            self.failed,
            self.first_failures
        );
    }

    fn note(&mut self, answer: &Answer) {
        self.answered += 1;
        if let Some(slot) = answer.slot {
            *self.by_slot.entry(slot).or_default() += 1;
        }
        if let Some(pid) = answer.pid {
            *self.by_pid.entry(pid).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.retried += other.retried;
        self.connections += other.connections;
        self.slowest = self.slowest.max(other.slowest);
        self.first_failures.extend(other.first_failures);
        self.first_failures.truncate(20);
        for (failure, count) in other.failed {
            *self.failed.entry(failure).or_default() += count;
        }
        for (slot, count) in other.by_slot {
            *self.by_slot.entry(slot).or_default() += count;
        }
        for (pid, count) in other.by_pid {
            *self.by_pid.entry(pid).or_default() += count;
        }
    }
}

/// Clients at work; they go on until [`Load::stop`], or until `limit` has passed since the start.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Report>>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    mode: Mode,
    started: Instant,
    limit: Duration,
    pause: Duration,
    stop: AtomicBool,
    finished: AtomicU64,
}

impl Load {
    /// Starts `clients` threads; each has an IPv4 loopback address of its own.
    ///
    /// # Panics
    /// When a thread can't be started.
    pub fn start(to: SocketAddr, clients: u16, mode: Mode, limit: Duration) -> Self {
        Self::start_with_pause(to, clients, mode, limit, Duration::ZERO)
    }

    /// As [`Load::start`]; every client pauses so long after each answer, as people and programs do. Without a pause 64 clients take
    /// all the processor time that there is, and the servers' boot time is what is measured.
    ///
    /// # Panics
    /// When a thread can't be started.
    pub fn start_with_pause(to: SocketAddr, clients: u16, mode: Mode, limit: Duration, pause: Duration) -> Self {
        let shared = Arc::new(Shared {
            to,
            mode,
            started: Instant::now(),
            limit,
            pause,
            stop: AtomicBool::new(false),
            finished: AtomicU64::new(0),
        });
        let clients = ipv4_clients(clients)
            .into_iter()
            .map(|address| {
                let shared = Arc::clone(&shared);
                let client = thread::Builder::new()
                    .name(format!("client {address}"))
                    .stack_size(128 * 1024);
                client
                    .spawn(move || {
                        Client {
                            shared,
                            from: address.into(),
                            report: Report::default(),
                        }
                        .run()
                    })
                    .expect("start a client thread")
            })
            .collect();
        Self { shared, clients }
    }

    /// Requests that are over, answered or failed.
    pub fn finished(&self) -> u64 {
        self.shared.finished.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests are over.
    #[track_caller]
    pub fn wait_for(&self, count: u64, limit: Duration) {
        let goal = self.finished() + count;
        wait::until(&format!("{count} more requests are over"), limit, || {
            self.finished() >= goal
        });
    }

    /// Lets every client finish its request, and adds up.
    ///
    /// # Panics
    /// When a client panicked.
    pub fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut sum = Report::default();
        for client in self.clients {
            sum.add(client.join().expect("a client does not panic"));
        }
        sum
    }
}

struct Client {
    shared: Arc<Shared>,
    from: IpAddr,
    report: Report,
}

impl Client {
    fn run(mut self) -> Report {
        let mut kept = None;
        while !self.shared.stop.load(Ordering::Relaxed) && self.shared.started.elapsed() < self.shared.limit {
            let begun = Instant::now();
            let result = self.request(&mut kept);
            self.report.slowest = self.report.slowest.max(begun.elapsed());
            match result {
                Ok(answer) => self.report.note(&answer),
                Err(failure) => self.failed(failure),
            }
            self.shared.finished.fetch_add(1, Ordering::Relaxed);
            if !self.shared.pause.is_zero() {
                #[expect(clippy::disallowed_methods, reason = "a client that thinks, not a wait")]
                thread::sleep(self.shared.pause);
            }
        }
        self.report
    }

    fn request(&mut self, kept: &mut Option<Connection>) -> Result<Answer, Failure> {
        let keep = self.shared.mode == Mode::KeepAlive;
        if let Some(mut connection) = kept.take() {
            match connection.get(!keep) {
                Err(failure) if failure.is_stale_connection() && connection.is_reused() => self.report.retried += 1,
                result => {
                    *kept = result
                        .as_ref()
                        .is_ok_and(|answer| answer.keeps_alive)
                        .then_some(connection);
                    return result;
                }
            }
        }
        let mut connection = Connection::open(self.shared.to, Some(SocketAddr::new(self.from, 0)))?;
        self.report.connections += 1;
        let answer = connection.get(!keep)?;
        *kept = (keep && answer.keeps_alive).then_some(connection);
        Ok(answer)
    }

    fn failed(&mut self, failure: Failure) {
        *self.report.failed.entry(failure).or_default() += 1;
        if self.report.first_failures.len() < 5 {
            self.report
                .first_failures
                .push(format!("{:?} {}: {failure}", self.shared.started.elapsed(), self.from));
        }
        // A server that refuses everybody must not turn the clients into a busy loop.
        #[expect(clippy::disallowed_methods, reason = "the pause of a client, not a wait")]
        thread::sleep(Duration::from_millis(10));
    }
}
