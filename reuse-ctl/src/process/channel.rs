//! The Node IPC channel of a worker: one JSON value per line, in both directions, over a socket pair. The worker inherits one end.
//!
//! Every worker gets a channel, also one that knows nothing of it. It is never closed while the worker lives: a Node process throws at its
//! next `process.send` if its channel is closed.
//!
//! Neither side waits for the other. Messages to a worker wait in a bounded [`Outbox`]. Messages from workers are read as fast as they are
//! processed, one worker at a time.

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
pub use outbox::{Offer, Outbox, SizeInBytes};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Short lines are written together, up to this many bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// After a worker has ended, its last messages are read for this long at most: another process may still have its end of the channel.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// After a worker closes its end, it may be about to exit. Unread messages are reported with its exit if it exits within this time.
const ITS_END: Duration = Duration::from_secs(1);

/// After this much work the reader pauses for as long, so that a worker that never stops sending uses at most half of a CPU.
const REST_AFTER: Duration = Duration::from_millis(2);

/// Receives the messages and events of a worker's channel.
pub trait Listener: Send + Sync + 'static {
    /// Called for each line. Must be quick.
    fn hear(&self, line: Line<'_>);

    /// Called after the lines that arrived together. Work that takes time belongs here.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// The worker has read everything that waited for it, after `lost` messages were lost.
    fn hears_again(&self, lost: u64) -> impl Future<Output = ()> + Send;

    /// The worker has closed its end, and the controller's end is still open.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

/// The controller's end. Dropping it closes the channel.
#[derive(Debug)]
pub struct Channel {
    line: Arc<OpenLine>,
    /// Dropping it tells the channel's task to end.
    _held: oneshot::Sender<Infallible>,
}

/// A lock shared by channels, which makes them process messages one worker at a time.
pub type Turn = Arc<Mutex<()>>;

impl Channel {
    /// Creates a channel, and returns the worker's end too. Must be called in a runtime.
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

    /// The messages that wait for the worker.
    pub fn outbox(&self) -> &Outbox<Bytes> {
        &self.line.outbox
    }

    /// Sends a last line of the controller's own. It isn't reported as a lost message.
    pub fn say_last(&self, line: Bytes) -> Offer {
        self.line.say_last(line)
    }

    /// Closes the channel for messages once the worker can't read any more. Returns the messages that the worker never read, only once.
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
        // Nothing is ever sent; the receiver wakes when the sender is dropped.
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

/// Reads until the worker, and every process that inherited its end, has closed it.
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

/// A function of its own, so that the task doesn't keep the buffer while the worker is silent.
fn read_some(line: &OpenLine, lines: &mut Lines) -> io::Result<usize> {
    let mut piece = [0; READ_BYTES];
    let read = line.try_read(&mut piece)?;
    lines.push(&piece[..read]);
    Ok(read)
}

/// Writes until either side is closed.
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

/// Joins the waiting lines to the first one. Returns their number and their bytes.
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

/// Returns when everything was written. The result is the number of lost messages, as from the outbox.
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
