//! Clients that come at a fixed rate, whatever becomes of those before them: one connection per request, and the time that it takes
//! is counted from the moment at which it was to be sent. A worker that hangs can't hide by slowing the clients down.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::http::{self, Answer, Failure};
use crate::namespace::ipv4_clients;

/// How long a request may take, from its intended moment. Longer than any hang of a test: what waits is told apart from what is lost.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// So many addresses take turns.
const ADDRESSES: u16 = 64;

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was to be sent, after the start.
    pub intended: Duration,
    /// From then to the end.
    pub took: Duration,
    /// Whether its connection was established.
    pub connected: bool,
    /// What came.
    pub result: Result<Answer, Failure>,
}

impl Sample {
    /// The slot that answered, if one did.
    pub fn slot(&self) -> Option<u16> {
        self.result.as_ref().ok()?.slot
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct OpenLoop {
    started: Instant,
    started_ms: u64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl OpenLoop {
    /// Sends `GET /` so many times a second from now on.
    ///
    /// # Panics
    /// When the thread can't be started.
    pub fn start(to: SocketAddr, per_second: u32) -> Self {
        let (started, started_ms) = (Instant::now(), unix_ms());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("open loop".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let requests = requests(to, started, Duration::from_secs(1) / per_second, &stopped);
                runtime.expect("a runtime").block_on(requests)
            })
            .expect("start the thread of the clients");
        Self {
            started,
            started_ms,
            stop,
            thread,
        }
    }

    /// How long it has run: the moment, on the scale of [`Sample::intended`].
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Milliseconds since the Unix epoch at the start.
    pub fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Goes on for so long.
    pub fn run_for(&self, time: Duration) {
        #[expect(clippy::disallowed_methods, reason = "the span of a measurement, not a wait")]
        thread::sleep(time);
    }

    /// Sends no more, waits for what is under way, and tells.
    ///
    /// # Panics
    /// When the clients' thread panicked.
    pub fn stop(self) -> Run {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.thread.join().expect("the clients do not panic");
        Run {
            samples,
            started_ms: self.started_ms,
        }
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Run {
    /// In the order in which they were to be sent.
    pub samples: Vec<Sample>,
    /// Milliseconds since the Unix epoch at the start.
    pub started_ms: u64,
}

impl Run {
    /// Those that were to be sent in that span.
    pub fn between(&self, from: Duration, until: Duration) -> Vec<&Sample> {
        let inside = self
            .samples
            .iter()
            .filter(|sample| (from..until).contains(&sample.intended));
        inside.collect()
    }

    /// As [`Self::between`], in milliseconds since the Unix epoch.
    pub fn between_ms(&self, from: u64, until: u64) -> Vec<&Sample> {
        let after_start = |ms: u64| Duration::from_millis(ms.saturating_sub(self.started_ms));
        self.between(after_start(from), after_start(until))
    }

    /// The time that so many of a hundred don't exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        let mut times: Vec<_> = self.samples.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among some thousands"
        )]
        let rank = (times.len() as f64 * percent / 100.0).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Connections that were established.
    pub fn connections(&self) -> u64 {
        self.samples.iter().filter(|sample| sample.connected).count() as u64
    }

    /// Answers by slot, of those between.
    pub fn by_slot(&self, from: Duration, until: Duration) -> BTreeMap<u16, usize> {
        let mut slots = BTreeMap::new();
        for slot in self.between(from, until).iter().filter_map(|sample| sample.slot()) {
            *slots.entry(slot).or_default() += 1;
        }
        slots
    }

    /// Fails unless every request was answered.
    #[track_caller]
    pub fn assert_nothing_failed(&self) {
        let failed: Vec<_> = self.samples.iter().filter(|sample| sample.result.is_err()).collect();
        assert!(
            failed.is_empty(),
            "{} of {} failed; the first: {:#?}",
            failed.len(),
            self.samples.len(),
            &failed[..failed.len().min(5)]
        );
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("this is not before 1970");
    u64::try_from(now.as_millis()).expect("this is not the far future")
}

async fn requests(to: SocketAddr, started: Instant, interval: Duration, stop: &AtomicBool) -> Vec<Sample> {
    let addresses = ipv4_clients(ADDRESSES);
    let mut under_way = JoinSet::new();
    let mut number = 0;
    loop {
        let intended = interval * number;
        tokio::time::sleep_until((started + intended).into()).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let from = SocketAddr::new(addresses[number as usize % addresses.len()].into(), 0);
        under_way.spawn(one(to, from, started, intended));
        number += 1;
    }
    let mut samples = under_way.join_all().await;
    samples.sort_by_key(|sample| sample.intended);
    samples
}

async fn one(to: SocketAddr, from: SocketAddr, started: Instant, intended: Duration) -> Sample {
    let deadline = started + intended + PATIENCE;
    let mut connected = false;
    let result = within(deadline, request(to, from, &mut connected)).await;
    Sample {
        intended,
        took: started.elapsed().saturating_sub(intended),
        connected,
        result,
    }
}

async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let result = tokio::time::timeout_at(deadline.into(), work).await;
    result.unwrap_or(Err(Failure::TimedOut))
}

async fn request(to: SocketAddr, from: SocketAddr, connected: &mut bool) -> Result<Answer, Failure> {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    let mut stream = connect.await.map_err(|error| Failure::Connect(error.kind()))?;
    *connected = true;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .await
        .map_err(|error| Failure::Send(error.kind()))?;
    let mut received = Vec::with_capacity(512);
    loop {
        let count = match stream.read_buf(&mut received).await {
            Ok(count) => count,
            Err(error) => return Err(http::broken(&received, error.kind())),
        };
        if let Some(answer) = http::parse(&received, count == 0)? {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// The server takes 100 ms for the first request and serves one at a time; those behind it waited as long.
    #[test]
    fn requests_that_wait_behind_a_slow_one_are_counted_as_slow() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let to = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            for number in 0..10 {
                let (mut stream, _) = listener.accept().expect("accept");
                assert!(stream.read(&mut [0; 1024]).expect("a request") > 0);
                if number == 0 {
                    thread::park_timeout(Duration::from_millis(100));
                }
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n0 1\n")
                    .expect("send");
            }
        });
        let clients = OpenLoop::start(to, 100);
        clients.run_for(Duration::from_millis(95));
        let run = clients.stop();
        server.join().expect("the server ends");
        run.assert_nothing_failed();
        assert_eq!(run.samples.len(), 10, "ten in a tenth of a second");
        assert!(run.samples[5].took >= Duration::from_millis(40), "{:?}", run.samples[5]);
        assert!(run.percentile(99.0) >= Duration::from_millis(90));
        assert_eq!(run.by_slot(Duration::ZERO, Duration::MAX), [(0, 10)].into());
    }
}
