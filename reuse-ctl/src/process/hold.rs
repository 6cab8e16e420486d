//! Stops one process, so that signals to it stay pending and can be seen before the process acts on them.
//!
//! The threads are stopped with ptrace(2), without a signal (PTRACE_SEIZE, PTRACE_INTERRUPT): the parent is not notified, and a SIGCONT
//! from another process has no effect. The kernel releases them when the tracing thread ends for whatever reason, so nothing stays stopped
//! if the controller is killed. A freezer cgroup would stay frozen, and moving a process into one takes a lock that a busy machine grants
//! late.

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

/// How long the threads may take to stop. One that doesn't stop in time (it waits in the kernel for a device) will stop before it runs its
/// own code again.
const STILL_PATIENCE: Duration = Duration::from_millis(20);

/// Interval between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A process whose threads are all stopped, until this is dropped or the thread that created it ends. Must stay in that thread.
#[derive(Debug)]
pub struct Held {
    process: ProcessHandle,
    threads: Vec<Thread>,
    /// ptrace works between two threads.
    _not_send: std::marker::PhantomData<*const ()>,
}

#[derive(Debug)]
struct Thread {
    id: Pid,
    state: Holding,
}

/// The state of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// Told to stop.
    Stopping,
    /// Stopped. With a signal that the thread was about to receive, which must be delivered when it continues.
    Still(Option<Signal>),
    /// Ended.
    Gone,
}

impl Held {
    /// Stops every thread of a process. It must not be a child of this process: a wait for the child would report its stops.
    ///
    /// # Errors
    /// EPERM: another program traces the process (a debugger, strace), or this process may not. ESRCH: the process has ended.
    pub fn new(process: &ProcessHandle) -> io::Result<Self> {
        let mut held = Self {
            process: process.clone(),
            threads: Vec::new(),
            _not_send: std::marker::PhantomData,
        };
        // Repeats until a look finds no new thread, because a thread that has not stopped yet may create more.
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

    /// Whether `signal`, or another request by signal, is pending for the process; true also if the process has ended.
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
    /// Checks whether the thread has stopped.
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
                    // The thread may have been killed meanwhile.
                    && errno != Errno::ESRCH
                {
                    tracing::warn!("ptrace detach {}: {errno}", self.id);
                }
            }
            // It is released when the tracing thread ends.
            Holding::Stopping | Holding::Gone => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The main thread last: the kernel delivers signals to it first.
        for thread in self.threads.iter_mut().rev() {
            thread.release();
        }
    }
}

/// Waits for `time`, or until one of these processes ends.
///
/// # Errors
/// As poll(2).
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
