//! Looks after the workers' logs: marks when they grow, rotates them, and shows them on the console.
//!
//! It does so in a thread of its own: files can be slow, and the runtime must not be. A log that grows is looked at every 200 ms; one
//! that does not costs nothing: inotify tells of the first write, once (IN_ONESHOT), so that a busy worker pays nothing for it either.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

mod keeper;

use keeper::Keeper;

use super::{console::WorkerLines, interface::SlotId, task::Task};
use crate::process::logs::{KeptLog, Limits, RotateError, Stream};

/// How long the last look may take when the controller ends.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Logs {
    asks: Sender<Ask>,
    waker: UnixStream,
    stopping: Arc<AtomicBool>,
    /// Ends when the thread does.
    ended: Receiver<()>,
}

#[derive(Debug)]
enum Ask {
    /// This log is there, or will be in a moment.
    Keep {
        slot: SlotId,
        stream: Stream,
        log: PathBuf,
        /// What it begins with is known.
        from: u64,
    },
    RotateAll,
    /// A rotation is over.
    Rotated(usize, Box<KeptLog>, Result<(), RotateError>),
    Stop,
}

impl Logs {
    /// Starts the thread; with `console` it shows there what is written from now on.
    ///
    /// # Errors
    /// As socketpair(2).
    pub(super) fn start(limits: Limits, console: Option<WorkerLines>) -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (asks, asked) = channel();
        let (done, ended) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let answers = Answers {
            asks: asks.clone(),
            waker: waker.try_clone()?,
        };
        let mut keeper = Keeper::new(limits, console, (asked, woken), answers, Arc::clone(&stopping));
        std::thread::Builder::new().name("logs".into()).spawn(move || {
            keeper.run();
            drop(done);
        })?;
        Ok(Self {
            asks,
            waker,
            stopping,
            ended,
        })
    }

    /// Looks after a log from now on, whose first `from` bytes need not be shown; when it does so already, it looks at once.
    pub(super) fn keep(&self, slot: SlotId, stream: Stream, log: PathBuf, from: u64) {
        self.ask(Ask::Keep {
            slot,
            stream,
            log,
            from,
        });
    }

    fn ask(&self, ask: Ask) {
        // It lives as long as this does.
        drop(self.asks.send(ask));
        wake(&self.waker);
    }
}

/// What tells the thread something.
#[derive(Debug)]
struct Answers {
    asks: Sender<Ask>,
    waker: UnixStream,
}

impl Task {
    /// Rotates all logs now, however small they are: what stays in each is less than a block of the file system.
    pub(super) fn rotate_logs(&mut self) {
        self.logs.ask(Ask::RotateAll);
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.ask(Ask::Stop);
        // Disconnected or late: nothing more can be done.
        let (Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) =
            self.ended.recv_timeout(LAST_LOOK);
    }
}

fn wake(mut waker: &UnixStream) {
    // If it is full it wakes anyway.
    drop(waker.write(&[0]));
}
