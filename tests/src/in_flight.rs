//! Requests that take their time, so that a reload finds them under way; each is answered in full or was cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::conversation::Conversation;
use crate::http::Failure;
use crate::wait;

/// Faster than any server, but for [`Kind::Big`].
const UNHINDERED: u32 = u32::MAX;

/// Of the reader of [`Kind::Big`], which then takes ten seconds.
const SLOW_READER: u32 = 5_000_000;

/// Fast requests on a kept connection before the one that counts.
const FAST: u32 = 3;

/// A reused connection that ends without an answer within this time had been closed before the request reached the server, and the client
/// asks again, as browsers do. What ends later was cut.
const STALE: Duration = Duration::from_millis(250);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An answer after this time.
    Slow(Duration),
    /// An answer in 20 pieces, 100 ms apart.
    Chunks,
    /// 50 MB, read slowly.
    Big,
    /// A fast answer to a request whose second half is sent so long after its first.
    Halves(Duration),
}

/// On which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A new one.
    Fresh,
    /// One that has just had several fast answers, where the server keeps it.
    Kept,
}

impl Kind {
    fn path(self) -> String {
        match self {
            Self::Slow(time) => format!("/slow?ms={}", time.as_millis()),
            Self::Chunks => "/chunks".to_owned(),
            Self::Big => "/big".to_owned(),
            Self::Halves(_) => "/".to_owned(),
        }
    }

    fn is_whole(self, length: u64) -> bool {
        match self {
            Self::Slow(_) | Self::Halves(_) => length > 0,
            Self::Chunks => length == 20 * 6,
            Self::Big => length == 50_000_000,
        }
    }

    fn pace(self) -> u32 {
        match self {
            Self::Slow(_) | Self::Chunks | Self::Halves(_) => UNHINDERED,
            Self::Big => SLOW_READER,
        }
    }
}

/// A request under way, on a thread of its own.
#[derive(Debug)]
pub struct InFlight {
    name: String,
    begun: Arc<OnceLock<Instant>>,
    client: JoinHandle<Result<(), String>>,
}

impl InFlight {
    /// Begins.
    ///
    /// # Panics
    /// When a thread can't be started.
    pub fn start(to: SocketAddr, kind: Kind, on: On) -> Self {
        let begun = Arc::new(OnceLock::new());
        let shared = Arc::clone(&begun);
        let client = thread::Builder::new().spawn(move || {
            request(to, kind, on, || {
                shared.get_or_init(Instant::now);
            })
        });
        Self {
            name: format!("{kind:?} on a {on:?} connection"),
            begun,
            client: client.expect("start a client thread"),
        }
    }

    /// Waits until all are under way: the request was sent and, where the answer comes in pieces, has begun to come; long enough ago that
    /// nobody takes a cut for an idle connection's end.
    #[track_caller]
    pub fn wait_under_way(all: &[Self]) {
        for one in all {
            wait::until(&format!("{} is under way", one.name), Duration::from_secs(20), || {
                one.begun.get().is_some_and(|begun| begun.elapsed() > STALE) || one.client.is_finished()
            });
        }
    }

    /// What became of them, once all are over: a line for each that was not answered in full.
    ///
    /// # Panics
    /// When a client did.
    pub fn cut(all: Vec<Self>) -> Vec<String> {
        let failures = all.into_iter().filter_map(|one| {
            let outcome = one.client.join().expect("a client does not panic");
            outcome.err().map(|why| format!("{}: {why}", one.name))
        });
        failures.collect()
    }
}

/// A client that asks again and again until it is told to stop, on a fresh and on a kept connection in turns.
#[derive(Debug)]
pub struct Again {
    stop: Arc<AtomicBool>,
    client: JoinHandle<(u32, Vec<String>)>,
}

impl Again {
    /// Begins.
    ///
    /// # Panics
    /// When a thread can't be started.
    pub fn start(to: SocketAddr, kind: Kind) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&stop);
        let client = thread::Builder::new().spawn(move || {
            let (mut answered, mut failures) = (0, Vec::new());
            let mut connections = [On::Fresh, On::Kept].into_iter().cycle();
            // A server that refuses everybody must not turn this into a busy loop.
            while !shared.load(Ordering::Acquire) && failures.len() < 10 {
                let on = connections.next().expect("a cycle has no end");
                match request(to, kind, on, || {}) {
                    Ok(()) => answered += 1,
                    Err(why) => failures.push(format!("{kind:?} on a {on:?} connection, again and again: {why}")),
                }
            }
            (answered, failures)
        });
        Self {
            stop,
            client: client.expect("start a client thread"),
        }
    }

    /// Lets it finish its request: how many were answered, and a line for each that was not.
    ///
    /// # Panics
    /// When the client did.
    pub fn stop(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Release);
        self.client.join().expect("a client does not panic")
    }
}

fn request(to: SocketAddr, kind: Kind, on: On, begun: impl Fn()) -> Result<(), String> {
    let mut connection = match on {
        On::Fresh => open(to, kind)?,
        On::Kept => kept(to, kind)?,
    };
    let sent = Instant::now();
    match ask(&mut connection, kind, &begun) {
        Err(failure) if failure.is_stale_connection() && connection.is_reused() && sent.elapsed() < STALE => {
            ask(&mut open(to, kind)?, kind, &begun).and_then(whole(kind))
        }
        outcome => outcome.and_then(whole(kind)),
    }
    .map_err(|failure| format!("{failure} (after {} ms)", sent.elapsed().as_millis()))
}

/// A connection that has had fast answers, or as many as the server allows on one.
fn kept(to: SocketAddr, kind: Kind) -> Result<Conversation, String> {
    let mut connection = open(to, kind)?;
    for _ in 0..FAST {
        let fast = connection.ask("/").and_then(|()| connection.answer(|| {}));
        match fast {
            Ok(answer) if answer.keeps_alive => {}
            Ok(_) => connection = open(to, kind)?,
            Err(failure) if failure.is_stale_connection() && connection.is_reused() => connection = open(to, kind)?,
            Err(failure) => return Err(format!("a fast request before it: {failure}")),
        }
    }
    Ok(connection)
}

fn open(to: SocketAddr, kind: Kind) -> Result<Conversation, String> {
    Conversation::open(to, kind.pace()).map_err(|failure| failure.to_string())
}

/// The length of the whole answer.
fn ask(connection: &mut Conversation, kind: Kind, begun: &impl Fn()) -> Result<u64, Failure> {
    match kind {
        Kind::Slow(_) => {
            connection.ask(&kind.path())?;
            begun();
        }
        Kind::Chunks | Kind::Big => connection.ask(&kind.path())?,
        Kind::Halves(pause) => connection.ask_in_halves(&kind.path(), || {
            begun();
            #[expect(clippy::disallowed_methods, reason = "a slow client is what was asked for")]
            thread::sleep(pause);
        })?,
    }
    connection.answer(begun).map(|answer| answer.length)
}

fn whole(kind: Kind) -> impl FnOnce(u64) -> Result<(), Failure> {
    move |length| {
        if kind.is_whole(length) {
            Ok(())
        } else {
            Err(Failure::CutOff)
        }
    }
}
