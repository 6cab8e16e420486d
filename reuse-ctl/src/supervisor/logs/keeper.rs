//! The thread that maintains the logs.

use std::{
    collections::HashMap,
    io::Read as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use super::kept::{Kept, Rotation};
use super::{Answers, LogRequest, Shown, wake};
use crate::{
    process::logs::{KeptLog, Limits, POLL, RotateError},
    supervisor::console::WorkerLines,
};

pub(crate) struct Keeper {
    limits: Limits,
    console: Option<WorkerLines>,
    /// `None` if the system has no more inotify instances; then every log is looked at regularly.
    inotify: Option<Inotify>,
    woken: UnixStream,
    asked: Receiver<LogRequest>,
    answers: Answers,
    stopping: Arc<AtomicBool>,
    /// Whether a rotation is in progress. One log at a time is rotated, in another thread.
    rotating: bool,
    /// The log rotated last, so that each gets its turn.
    rotated_last: usize,
    armed: HashMap<WatchDescriptor, usize>,
    logs: Vec<Kept>,
    started: Instant,
}

impl Keeper {
    pub(crate) fn new(
        limits: Limits,
        console: Option<WorkerLines>,
        (asked, woken): (Receiver<LogRequest>, UnixStream),
        answers: Answers,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self {
            limits,
            console,
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok(),
            woken,
            asked,
            answers,
            stopping,
            rotating: false,
            rotated_last: 0,
            armed: HashMap::new(),
            logs: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Runs until told to stop.
    pub(crate) fn run(&mut self) {
        loop {
            self.wait();
            let mut last = false;
            while let Ok(ask) = self.asked.try_recv() {
                match ask {
                    LogRequest::Keep { log, shown } => self.keep(log, shown),
                    LogRequest::RotateAll => self.rotate_all(),
                    LogRequest::Limit(limits) => self.limit(limits),
                    LogRequest::Rotated {
                        which,
                        log,
                        everything,
                        result,
                    } => self.on_rotated(which, log, everything, result),
                    LogRequest::Stop => last = true,
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

    /// Waits until something is written, requested or due.
    fn wait(&mut self) {
        let due = self.logs.iter().filter_map(|log| log.due).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now());
            // Rounded up, so as not to wake before it is due.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut ends = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        ends.extend(
            self.inotify
                .as_ref()
                .map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)),
        );
        if let Err(errno) = poll(&mut ends, timeout) {
            // Interrupted; what is due is looked at.
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

    pub(crate) fn keep(&mut self, log: PathBuf, shown: Option<Shown>) {
        let now = Some(Instant::now());
        if let Some(known) = self.logs.iter_mut().find(|known| known.path == log) {
            // The file may have been replaced.
            known.due = now;
            return;
        }
        let shown = shown.filter(|_| self.console.is_some());
        self.logs.push(Kept::new(log, shown, self.limits));
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

    /// Looks at a log, and again soon if it has changed. If not, the log is watched from now on.
    pub(crate) fn look(&mut self, which: usize, now: Instant) {
        let soon = Some(self.next_tick(now));
        if self.logs[which].changed(self.console.as_ref(), now) {
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
                // It may have been written to before the watch was added.
                if self.logs[which].changed(self.console.as_ref(), now) {
                    soon
                } else {
                    None
                }
            }
            None => soon,
        };
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

    /// In another thread, because copying may take a while and the other logs must go on.
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
        let Some((which, log, everything)) = next else {
            return;
        };
        self.rotated_last = which;
        let (answers, waker) = (self.answers.requests.clone(), self.answers.waker.try_clone());
        let stopping = Arc::clone(&self.stopping);
        let (give, given) = channel::<Box<KeptLog>>();
        let rotate = move || {
            let Ok(mut log) = given.recv() else { return };
            let result = log.rotate(everything, || stopping.load(Ordering::Relaxed));
            // The receiver may be gone when the controller ends.
            drop(answers.send(LogRequest::Rotated {
                which,
                log,
                everything,
                result,
            }));
            if let Ok(waker) = waker {
                wake(&waker);
            }
        };
        match std::thread::Builder::new().name("rotation".into()).spawn(rotate) {
            Ok(_) => {
                self.rotating = true;
                give.send(log).expect("it waits for it");
            }
            Err(error) => {
                tracing::warn!("not rotated: clone: {error}");
                let kept = &mut self.logs[which];
                kept.log = Some(log);
                kept.retry(everything, now);
            }
        }
    }

    fn on_rotated(&mut self, which: usize, mut log: Box<KeptLog>, everything: bool, result: Result<(), RotateError>) {
        self.rotating = false;
        let now = Instant::now();
        let kept = &mut self.logs[which];
        // The limits may have changed meanwhile.
        log.set_limits(self.limits);
        kept.log = Some(log);
        kept.due = Some(now);
        if let Err(error) = result {
            tracing::warn!("not rotated: {error}");
            kept.retry(everything, now);
        }
    }

    /// The next time at which all logs are looked at together, in one wake-up.
    fn next_tick(&self, now: Instant) -> Instant {
        let since = now.duration_since(self.started).as_millis();
        let ticks = u32::try_from(since / POLL.as_millis()).unwrap_or(u32::MAX - 1) + 1;
        self.started + POLL * ticks
    }
}
