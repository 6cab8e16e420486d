//! Holding one process still, so that signals to it wait and can be seen before it acts on them.
//!
//! The threads are stopped by ptrace(2) without a signal (PTRACE_SEIZE, PTRACE_INTERRUPT): the parent is told nothing, and a SIGCONT of
//! somebody else changes nothing. Above all, the kernel lets them go when the thread that holds them ends, however it ends: nothing stays
//! stopped after a controller that was killed. A freezer cgroup would not do that, and moving a process into one takes a lock that a
//! busy machine gives away late.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{handle::ProcessHandle, usage};

/// How long the threads may take to stand still. One that does not (it waits in the kernel for a device) runs no code of its own before it
/// stops.
const STILL_PATIENCE: Duration = Duration::from_millis(20);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A process whose threads are all stopped, until this is dropped or the thread that made it ends. Not to be sent to another thread.
#[derive(Debug)]
pub struct Held {
    process: ProcessHandle,
    threads: Vec<Thread>,
    /// ptrace is a matter between two threads.
    _not_send: std::marker::PhantomData<*const ()>,
}

#[derive(Debug)]
struct Thread {
    id: Pid,
    state: Holding,
}

/// How far a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// It was told to stop.
    Stopping,
    /// It stands still. With a signal that it was about to act on, which it must be given when it goes on.
    Still(Option<Signal>),
    /// It has ended.
    Gone,
}

impl Held {
    /// Stops every thread of a process. It must not be a child of this process: who waits for that would be told of its stops.
    ///
    /// # Errors
    /// EPERM: another one traces it (a debugger, strace), or this process may not. ESRCH if it has ended.
    pub fn new(process: &ProcessHandle) -> io::Result<Self> {
        let mut held = Self {
            process: process.clone(),
            threads: Vec::new(),
            _not_send: std::marker::PhantomData,
        };
        // Until a look finds no new one: a thread that does not stand still yet may make more.
        loop {
            let new = held.new_threads()?;
            if new.is_empty() {
                break;
            }
            for id in new {
                held.stop(id)?;
            }
            held.wait_still()?;
        }
        if held.threads.iter().all(|thread| thread.state == Holding::Gone) {
            return Err(Errno::ESRCH.into());
        }
        Ok(held)
    }

    /// Whether `signal`, or another one that asks it to do something, waits for it; or it has ended.
    pub fn was_asked(&self, signal: Signal) -> bool {
        let is_about_to_act =
            |thread: &Thread| matches!(thread.state, Holding::Still(Some(about)) if usage::is_request(about, signal));
        self.threads.iter().any(is_about_to_act) || usage::is_asked(self.process.pid(), signal)
    }

    /// The process.
    pub fn process(&self) -> &ProcessHandle {
        &self.process
    }

    fn new_threads(&self) -> io::Result<Vec<Pid>> {
        let folder = format!("/proc/{}/task", self.process.pid());
        let mut new = Vec::new();
        for entry in fs::read_dir(folder)? {
            let id = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            let id = Pid::from_raw(id.expect("the kernel names tasks by numbers"));
            if !self.threads.iter().any(|thread| thread.id == id) {
                new.push(id);
            }
        }
        Ok(new)
    }

    fn stop(&mut self, id: Pid) -> io::Result<()> {
        let state = match ptrace::seize(id, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(id)) {
            Ok(()) => Holding::Stopping,
            Err(Errno::ESRCH) => Holding::Gone,
            Err(errno) => return Err(errno.into()),
        };
        self.threads.push(Thread { id, state });
        Ok(())
    }

    fn wait_still(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + STILL_PATIENCE;
        loop {
            for thread in &mut self.threads {
                thread.look();
            }
            if !self.threads.iter().any(|thread| thread.state == Holding::Stopping) || Instant::now() >= deadline {
                return Ok(());
            }
            pause(&[&self.process], LOOK_EVERY)?;
        }
    }
}

impl Thread {
    /// Sees whether it stands still by now.
    fn look(&mut self) {
        if self.state != Holding::Stopping {
            return;
        }
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        self.state = match waitpid(self.id, Some(flags)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Holding::Stopping,
            Ok(WaitStatus::PtraceEvent(..)) => Holding::Still(None),
            Ok(WaitStatus::Stopped(_, signal)) => Holding::Still(Some(signal)),
            Ok(_) | Err(_) => Holding::Gone,
        };
    }

    fn release(&mut self) {
        self.look();
        match self.state {
            Holding::Still(signal) => {
                if let Err(errno) = ptrace::detach(self.id, signal)
                    // It may have been killed meanwhile.
                    && errno != Errno::ESRCH
                {
                    tracing::warn!("ptrace detach {}: {errno}", self.id);
                }
            }
            // The end of this thread lets it go.
            Holding::Stopping | Holding::Gone => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The main thread last: it is the one that signals are given to first.
        for thread in self.threads.iter_mut().rev() {
            thread.release();
        }
    }
}

/// Waits for `time`, or until one of these processes ends.
///
/// # Errors
/// Those of poll(2).
pub fn pause(processes: &[&ProcessHandle], time: Duration) -> io::Result<()> {
    let mut ends: Vec<PollFd<'_>> = processes
        .iter()
        .filter_map(|process| process.as_pidfd())
        .map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN))
        .collect();
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    match poll(&mut ends, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
