//! The Node IPC channel of a worker: one JSON value per line, both ways, over a socket pair whose other end the worker inherits.
//!
//! Every worker has one; a worker that knows nothing of it never notices. It is never closed while the worker lives, whatever comes: a
//! Node process whose channel is closed throws at its next `process.send`.
//!
//! Nobody waits for anybody: what a worker does not read waits in an [`Outbox`] that is bounded, and what it sends is read as fast as it is
//! dealt with, one worker after the other.

pub mod lines;
pub mod message;
mod open_line;
pub mod outbox;

use std::{
    convert::Infallible,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{
    net::UnixStream,
    sync::{Mutex, oneshot},
};

use lines::Lines;
pub use lines::{Line, MAX_LINE_BYTES};
pub use open_line::Unread;
use open_line::{OpenLine, Written};
pub use outbox::{Offer, Outbox, Weight};

/// So much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Short lines are written together, up to so much.
const WRITE_BYTES: usize = 64 * 1024;

/// How long what a worker said last is read for when nothing of it is left: somebody may have got hold of its end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A worker that has closed its end may be about to end: so long, what it had not read is told as lost by its end.
const ITS_END: Duration = Duration::from_secs(1);

/// Work of so long is followed by a rest of the same length: a worker that never stops talking gets half of a processor at most.
const REST_AFTER: Duration = Duration::from_millis(2);

/// Who listens to a worker.
pub trait Listener: Send + Sync + 'static {
    /// A line has come. Must be quick.
    fn hear(&self, line: Line<'_>);

    /// The lines that came together are dealt with: now there is time to tell others.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// It has read all that waited for it, after so many messages were lost.
    fn hears_again(&self, lost: u64) -> impl Future<Output = ()> + Send;

    /// The worker has closed its end, and the controller's end is still there.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

/// The controller's end. Dropping it ends it.
#[derive(Debug)]
pub struct Channel {
    line: Arc<OpenLine>,
    /// Its other end sees when this is dropped.
    _held: oneshot::Sender<Infallible>,
}

/// Keeps the workers' talking apart: of all that share one, one at a time is dealt with.
pub type Turn = Arc<Mutex<()>>;

impl Channel {
    /// Makes a channel, and gives the worker's end too. Must be called in a runtime.
    ///
    /// # Errors
    /// As socketpair(2) and epoll_ctl(2).
    pub fn open(turn: Turn, listener: impl Listener) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Pair::pair()?;
        ours.set_nonblocking(true)?;
        let (held, dropped) = oneshot::channel();
        let line = Arc::new(OpenLine::new(UnixStream::from_std(ours)?));
        tokio::spawn(attend(Arc::clone(&line), turn, listener, dropped));
        Ok((Self { line, _held: held }, theirs.into()))
    }

    /// What waits for the worker.
    pub fn outbox(&self) -> &Outbox<Bytes> {
        &self.line.outbox
    }

    /// Says something that is nobody's message, as the last thing: it is not missed when it is lost.
    pub fn say_last(&self, line: Bytes) -> Offer {
        self.line.say_last(line)
    }

    /// Ends it for messages, once the worker can read no more. Returns what it has never read, once.
    pub fn give_up(&self) -> Option<Unread> {
        self.outbox().close();
        self.line.unread()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.outbox().close();
    }
}

async fn attend(line: Arc<OpenLine>, turn: Turn, listener: impl Listener, mut dropped: oneshot::Receiver<Infallible>) {
    let mut is_dropped = false;
    let speaking = async {
        write(&line, &listener).await;
        line.outbox.close();
        // The sender sends nothing: this is its end.
        drop((&mut dropped).await);
        is_dropped = true;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let is_closed = tokio::select! {
        () = read(&line, &turn, &listener) => true,
        () = speaking => false,
    };
    line.outbox.close();
    if is_closed && !is_dropped && tokio::time::timeout(ITS_END, dropped).await.is_err() {
        listener.hung_up().await;
    }
}

/// Until the worker, and whoever inherited its end, has closed it.
async fn read(line: &OpenLine, turn: &Mutex<()>, listener: &impl Listener) {
    let mut lines = Lines::default();
    let mut busy = Duration::ZERO;
    while line.stream.readable().await.is_ok() {
        {
            let _mine = turn.lock().await;
            let began = Instant::now();
            match read_some(line, &mut lines) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    busy = Duration::ZERO;
                    continue;
                }
                Err(_) => return,
            }
            while let Some(line) = lines.take() {
                listener.hear(line);
            }
            busy += began.elapsed();
        }
        listener.settle().await;
        if busy >= REST_AFTER {
            tokio::time::sleep(std::mem::take(&mut busy)).await;
        }
    }
}

/// Not in the task itself, which would keep the room for it while the worker says nothing.
fn read_some(line: &OpenLine, lines: &mut Lines) -> io::Result<usize> {
    let mut piece = [0; READ_BYTES];
    let read = line.try_read(&mut piece)?;
    lines.push(&piece[..read]);
    Ok(read)
}

/// Until it is closed, here or there.
async fn write(line: &OpenLine, listener: &impl Listener) {
    let outbox = &line.outbox;
    while let Some(first) = outbox.take().await {
        let (mut things, mut bytes) = (1, first);
        if bytes.len() < WRITE_BYTES {
            (things, bytes) = together(bytes, outbox);
        }
        line.look();
        match hand_over(line, things, &bytes).await {
            Ok(Some(lost)) => listener.hears_again(lost).await,
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// The lines that wait behind the first as one piece, and how many they are.
fn together(first: Bytes, outbox: &Outbox<Bytes>) -> (usize, Bytes) {
    let Some(second) = outbox.try_take() else {
        return (1, first);
    };
    let mut all = [&first[..], &second[..]].concat();
    let mut things = 2;
    while all.len() < WRITE_BYTES
        && let Some(next) = outbox.try_take()
    {
        all.extend_from_slice(&next);
        things += 1;
    }
    (things, all.into())
}

/// Returns when all of it was taken; how many messages were lost, as the outbox does.
async fn hand_over(line: &OpenLine, messages: usize, bytes: &[u8]) -> io::Result<Option<u64>> {
    let mut rest = bytes;
    loop {
        line.stream.writable().await?;
        match line.try_write(&mut rest, messages, bytes.len()) {
            Ok(Written::All { lost }) => return Ok(lost),
            Ok(Written::Partly) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
