//! Looks after the workers' logs: marks when they grow, rotates them, and shows them on the console.
//!
//! It does so in a thread of its own: files can be slow, and the runtime must not be. A log that grows is looked at every 200 ms; one
//! that does not costs nothing: inotify tells of the first write, once (IN_ONESHOT), so that a busy worker pays nothing for it either.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use super::{console::WorkerLines, interface::SlotId, task::Task};
use crate::options::LogOptions;
use crate::process::logs::{Follower, KeptLog, Limits, Looked, POLL, RotateError, Stream};

/// So often a log is read (64 KiB each time) before the next one's turn.
const READS_IN_A_ROW: usize = 16;

/// After a failure (a full disk, most likely) it is tried again so much later.
const RETRY: Duration = Duration::from_secs(10);

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
    /// From now on logs are rotated by these.
    Limit(Limits),
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
        let mut keeper = Keeper {
            limits,
            console,
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok(),
            woken,
            asked,
            answers: (asks.clone(), waker.try_clone()?),
            stopping: Arc::clone(&stopping),
            rotating: false,
            rotated_last: 0,
            armed: HashMap::new(),
            logs: Vec::new(),
            started: Instant::now(),
        };
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

    /// From now on logs are rotated by these limits.
    pub(super) fn limit(&self, options: LogOptions) {
        self.ask(Ask::Limit(limits(options)));
    }

    fn ask(&self, ask: Ask) {
        // It lives as long as this does.
        drop(self.asks.send(ask));
        wake(&self.waker);
    }
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

/// As the thread takes them.
pub(super) fn limits(options: LogOptions) -> Limits {
    Limits {
        max_bytes: options.max_bytes,
        keep: options.keep,
    }
}

fn wake(mut waker: &UnixStream) {
    // If it is full it wakes anyway.
    drop(waker.write(&[0]));
}

struct Keeper {
    limits: Limits,
    console: Option<WorkerLines>,
    /// Absent where there are no more of them: then every log is always looked at.
    inotify: Option<Inotify>,
    woken: UnixStream,
    asked: Receiver<Ask>,
    answers: (Sender<Ask>, UnixStream),
    stopping: Arc<AtomicBool>,
    /// One log at a time is rotated, in another thread.
    rotating: bool,
    /// All have their turn.
    rotated_last: usize,
    armed: HashMap<WatchDescriptor, usize>,
    logs: Vec<Kept>,
    started: Instant,
}

struct Kept {
    slot: SlotId,
    stream: Stream,
    path: PathBuf,
    /// Absent while it is being rotated.
    log: Option<Box<KeptLog>>,
    shown: Option<Follower>,
    /// When it is looked at next; absent: when something is written.
    due: Option<Instant>,
    rotation: Rotation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    NotNeeded,
    /// It has failed before: not before that time.
    Needed {
        everything: bool,
        after: Option<Instant>,
    },
}

impl Keeper {
    fn run(&mut self) {
        loop {
            self.wait();
            let mut last = false;
            while let Ok(ask) = self.asked.try_recv() {
                match ask {
                    Ask::Keep {
                        slot,
                        stream,
                        log,
                        from,
                    } => self.keep(slot, stream, log, from),
                    Ask::RotateAll => self.rotate_all(),
                    Ask::Limit(limits) => self.limit(limits),
                    Ask::Rotated(which, log, result) => self.on_rotated(which, log, result),
                    Ask::Stop => last = true,
                }
            }
            let now = Instant::now();
            for which in 0..self.logs.len() {
                if last || self.logs[which].due.is_some_and(|due| due <= now) {
                    self.look(which, now);
                }
            }
            if last {
                return;
            }
            self.rotate_next(now);
        }
    }

    /// Until something is written, asked or due.
    fn wait(&mut self) {
        let due = self.logs.iter().filter_map(|log| log.due).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now());
            // Rounded up: not to wake before it is due.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut ends = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        ends.extend(
            self.inotify
                .as_ref()
                .map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)),
        );
        if let Err(errno) = poll(&mut ends, timeout) {
            // Interrupted: what is due is looked at.
            tracing::debug!("poll: {errno}");
        }
        while matches!((&self.woken).read(&mut [0; 64]), Ok(64)) {}
        let events = self.inotify.as_ref().and_then(|inotify| inotify.read_events().ok());
        let now = Instant::now();
        for event in events.into_iter().flatten() {
            if let Some(which) = self.armed.remove(&event.wd) {
                self.logs[which].due = Some(now);
            }
        }
    }

    fn keep(&mut self, slot: SlotId, stream: Stream, log: PathBuf, from: u64) {
        let now = Some(Instant::now());
        if let Some(known) = self.logs.iter_mut().find(|known| known.path == log) {
            // It may be a new file.
            known.due = now;
            return;
        }
        let mut kept = KeptLog::new(log.clone(), self.limits);
        if let Err(error) = kept.prepare() {
            tracing::debug!("{}: {error}", log.display());
        }
        self.logs.push(Kept {
            slot,
            stream,
            shown: self.console.as_ref().map(|_| Follower::new(&log, from)),
            log: Some(Box::new(kept)),
            path: log,
            due: now,
            rotation: Rotation::NotNeeded,
        });
    }

    fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        let now = Some(Instant::now());
        for kept in &mut self.logs {
            kept.due = now;
            if let Some(log) = &mut kept.log {
                log.set_limits(limits);
            }
        }
    }

    /// Looks at a log, and again soon if it has changed. If not, it is watched from now on.
    fn look(&mut self, which: usize, now: Instant) {
        let soon = Some(self.next_tick(now));
        if self.changed(which, now) {
            self.logs[which].due = soon;
            return;
        }
        let watched = self.inotify.as_ref().and_then(|inotify| {
            let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT;
            inotify.add_watch(&self.logs[which].path, flags).ok()
        });
        self.logs[which].due = match watched {
            Some(watch) => {
                self.armed.insert(watch, which);
                // It may have been written to before it was watched.
                if self.changed(which, now) { soon } else { None }
            }
            None => soon,
        };
    }

    fn changed(&mut self, which: usize, now: Instant) -> bool {
        let kept = &mut self.logs[which];
        let mut changed = false;
        if let Some(log) = &mut kept.log {
            match log.look() {
                Ok(Looked::Absent) => return true,
                Ok(Looked::Same) => {}
                Ok(Looked::Changed { too_large }) => {
                    changed = true;
                    if too_large && kept.rotation == Rotation::NotNeeded {
                        kept.rotation = Rotation::Needed {
                            everything: false,
                            after: None,
                        };
                    }
                }
                // Without marks lines have the time of later ones, and nothing is lost. It is tried again.
                Err(error) => {
                    tracing::debug!("{}: {error}", kept.path.display());
                    changed = true;
                }
            }
        }
        if let (Some(follower), Some(console)) = (&mut kept.shown, &self.console) {
            // A log that grows faster than it can be read must not keep the others waiting.
            for _ in 0..READS_IN_A_ROW {
                match follower.poll() {
                    Ok(lines) if lines.is_empty() => break,
                    Ok(lines) => {
                        changed = true;
                        lines.iter().for_each(|line| console.show(kept.slot, kept.stream, line));
                    }
                    Err(error) => {
                        tracing::debug!("{}: {error}", kept.path.display());
                        break;
                    }
                }
            }
        }
        let waits_for_rotation = match kept.rotation {
            Rotation::NotNeeded => false,
            Rotation::Needed { after, .. } => after.is_none_or(|after| after <= now + POLL),
        };
        changed || waits_for_rotation || kept.log.is_none()
    }

    fn rotate_all(&mut self) {
        let now = Instant::now();
        for log in &mut self.logs {
            log.rotation = Rotation::Needed {
                everything: true,
                after: None,
            };
            log.due = Some(now);
        }
    }

    /// Copying may take a while, and others go on meanwhile.
    fn rotate_next(&mut self, now: Instant) {
        if self.rotating {
            return;
        }
        let count = self.logs.len();
        let next = (1..=count).find_map(|ahead| {
            let which = (self.rotated_last + ahead) % count;
            let kept = &mut self.logs[which];
            match kept.rotation {
                Rotation::Needed { everything, after } if after.is_none_or(|after| after <= now) => {
                    let log = kept.log.take()?;
                    kept.rotation = Rotation::NotNeeded;
                    Some((which, log, everything))
                }
                Rotation::Needed { .. } | Rotation::NotNeeded => None,
            }
        });
        let Some((which, mut log, everything)) = next else {
            return;
        };
        self.rotating = true;
        self.rotated_last = which;
        let (answers, waker) = (self.answers.0.clone(), self.answers.1.try_clone());
        let stopping = Arc::clone(&self.stopping);
        std::thread::spawn(move || {
            let result = log.rotate(everything, || stopping.load(Ordering::Relaxed));
            // Nobody waits for it when the controller ends.
            drop(answers.send(Ask::Rotated(which, log, result)));
            if let Ok(waker) = waker {
                wake(&waker);
            }
        });
    }

    fn on_rotated(&mut self, which: usize, mut log: Box<KeptLog>, result: Result<(), RotateError>) {
        self.rotating = false;
        let now = Instant::now();
        let kept = &mut self.logs[which];
        // They may have changed meanwhile.
        log.set_limits(self.limits);
        kept.log = Some(log);
        kept.due = Some(now);
        if let Err(error) = result {
            tracing::warn!("not rotated: {error}");
            kept.rotation = Rotation::Needed {
                everything: false,
                after: Some(now + RETRY),
            };
        }
    }

    /// All logs are looked at together: one wake-up for all.
    fn next_tick(&self, now: Instant) -> Instant {
        let since = now.duration_since(self.started).as_millis();
        let ticks = u32::try_from(since / POLL.as_millis()).unwrap_or(u32::MAX - 1) + 1;
        self.started + POLL * ticks
    }
}
