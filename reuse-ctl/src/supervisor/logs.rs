//! Maintains the workers' logs, and in the background the controller's own: marks when they grow, rotates them, and shows them on the
//! console.
//!
//! It runs in a thread of its own, because files can be slow and the runtime must not be. A growing log is looked at every 200 ms. An idle
//! log costs nothing: inotify reports the first write once (IN_ONESHOT), so that it costs a busy worker nothing either.

pub(crate) mod keeper;
pub(crate) mod kept;

use super::console::WorkerLines;
use crate::{
    app::options::LogOptions,
    base::SlotId,
    process::logs::{KeptLog, Limits, RotateError, Stream},
};
use keeper::Keeper;
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

/// How long the last look may take when the controller ends.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The connection to the thread.
#[derive(Debug)]
pub(crate) struct Logs {
    requests: Sender<LogRequest>,
    waker: UnixStream,
    stopping: Arc<AtomicBool>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

#[derive(Debug)]
pub(crate) enum LogRequest {
    /// Maintain this log, which exists or will in a moment.
    Keep {
        log: PathBuf,
        shown: Option<Shown>,
    },
    RotateAll,
    /// Use these limits from now on.
    Limit(Limits),
    /// A rotation has ended.
    Rotated {
        which: usize,
        log: Box<KeptLog>,
        everything: bool,
        result: Result<(), RotateError>,
    },
    Stop,
}

impl Logs {
    /// Starts the thread. With `console`, it prints there what is written from now on.
    ///
    /// # Errors
    /// As socketpair(2).
    pub(crate) fn start(limits: Limits, console: Option<WorkerLines>) -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (requests, asked) = channel();
        let (done, ended) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let answers = Answers {
            requests: requests.clone(),
            waker: waker.try_clone()?,
        };
        let mut keeper = Keeper::new(limits, console, (asked, woken), answers, Arc::clone(&stopping));
        std::thread::Builder::new().name("logs".into()).spawn(move || {
            keeper.run();
            drop(done);
        })?;
        Ok(Self {
            requests,
            waker,
            stopping,
            ended,
        })
    }

    /// Maintains a log from now on; its first `from` bytes are not shown. If the log is maintained already, looks at it at once.
    pub(crate) fn keep(&self, slot: SlotId, stream: Stream, log: PathBuf, from: u64) {
        let shown = Some(Shown { slot, stream, from });
        self.ask(LogRequest::Keep { log, shown });
    }

    /// Maintains the controller's own log, which is not shown.
    pub(crate) fn keep_own(&self, log: PathBuf) {
        self.ask(LogRequest::Keep { log, shown: None });
    }

    /// Sets new limits for rotation.
    pub(crate) fn limit(&self, options: LogOptions) {
        self.ask(LogRequest::Limit(limits(options)));
    }

    /// Rotates all logs now, however small they are: what stays in each is less than a block of the file system.
    pub(crate) fn rotate_all(&self) {
        self.ask(LogRequest::RotateAll);
    }

    fn ask(&self, ask: LogRequest) {
        // It lives as long as this does.
        drop(self.requests.send(ask));
        wake(&self.waker);
    }
}

/// How a worker's log is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    slot: SlotId,
    stream: Stream,
    /// The offset from which it is shown.
    from: u64,
}

/// Sends requests to the thread.
#[derive(Debug)]
pub(crate) struct Answers {
    requests: Sender<LogRequest>,
    waker: UnixStream,
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.ask(LogRequest::Stop);
        // Disconnected or late: nothing more can be done.
        let (Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) =
            self.ended.recv_timeout(LAST_LOOK);
    }
}

/// Converts the options to the thread's limits.
pub(crate) fn limits(options: LogOptions) -> Limits {
    Limits {
        max_bytes: options.max_bytes,
        keep: options.keep,
    }
}

fn wake(mut waker: &UnixStream) {
    // If it is full, the thread wakes up anyway.
    drop(waker.write(&[0]));
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        time::Instant,
    };

    use super::*;
    use crate::{
        app::options::LogTarget,
        process::logs::{POLL, Range, last_lines},
        server::fake::Folder,
    };

    const SOON: Duration = Duration::from_secs(10);

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            #[expect(clippy::disallowed_methods, reason = "it looks at a condition until a deadline")]
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn start(limits: Limits) -> Logs {
        Logs::start(limits, None).expect("started")
    }

    #[test]
    fn logs_are_marked_as_soon_as_they_grow_and_rotated_when_asked_or_too_large() {
        let folder = Folder::new("keeper");
        let limits = Limits {
            max_bytes: 64 * 1024,
            keep: 100,
        };
        let logs = start(limits);
        let (log, other) = (folder.0.join("worker-0.log"), folder.0.join("worker-0.err.log"));
        logs.keep(SlotId(0), Stream::Out, log.clone(), 0);
        logs.keep(SlotId(0), Stream::Err, other.clone(), 0);
        let marks = |log: &PathBuf| fs::metadata(log.with_extension("times")).map_or(0, |index| index.len());
        until("both have an index", || marks(&log) == 128 && marks(&other) == 128);

        let mut file = File::options().append(true).create(true).open(&log).expect("ours");
        for (line, expected) in [("first\n", 144), ("second\n", 160), ("third\n", 176)] {
            // A log that is silent for a while is watched instead of looked at.
            let begun = Instant::now();
            until("it was silent for a while", || begun.elapsed() > POLL * 3);
            file.write_all(line.as_bytes()).expect("ours");
            until("it is marked", || marks(&log) == expected);
        }
        assert_eq!(marks(&other), 128);

        file.write_all(&b"ten bytes\n".repeat(1000)).expect("ours");
        let copies = |log: &PathBuf| {
            let is_there = |number: &u32| log.with_extension(format!("log.{number}")).exists();
            (1..).take_while(is_there).count()
        };
        logs.ask(LogRequest::RotateAll);
        until("it is rotated as was asked", || copies(&log) == 1);
        assert_eq!(copies(&other), 0, "it is not there");
        file.write_all(&b"ten bytes\n".repeat(20_000)).expect("ours");
        until("it is rotated as it is too large", || copies(&log) == 4);

        let before = marks(&log);
        file.write_all(b"last\n").expect("ours");
        let range = || Range::behind(&log, 0).expect("readable");
        assert_eq!(last_lines(&[range()], 30_000).expect("readable").len(), 21_004);
        drop(logs);
        assert!(marks(&log) > before, "the last look is when it ends");
        start(limits).keep(SlotId(0), Stream::Out, log.clone(), 0);
        assert_eq!(last_lines(&[range()], 1).expect("readable"), ["last"]);
    }

    #[test]
    fn limits_that_change_are_in_force_at_once() {
        let folder = Folder::new("keeper-limits");
        let logs = start(Limits {
            max_bytes: 1 << 30,
            keep: 100,
        });
        let log = folder.0.join("worker-0.log");
        fs::write(&log, b"ten bytes\n".repeat(30_000)).expect("ours");
        logs.keep(SlotId(0), Stream::Out, log.clone(), 0);
        let index = log.with_extension("times");
        until("it is marked", || {
            fs::metadata(&index).is_ok_and(|index| index.len() == 144)
        });
        let first = log.with_extension("log.1");
        assert!(!first.exists(), "it is not too large");

        // Nobody writes to it any more.
        logs.limit(LogOptions {
            max_bytes: 64 * 1024,
            keep: 2,
            target: LogTarget::File,
        });
        until("it is rotated", || {
            fs::metadata(&log).is_ok_and(|log| log.len() <= 64 * 1024)
        });
        until("two copies are kept", || {
            first.exists() && log.with_extension("log.2").exists()
        });
        assert!(!log.with_extension("log.3").exists());
    }
}
