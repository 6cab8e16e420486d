//! Children that begin their life in another cgroup.
//!
//! A process that is running is moved between cgroups under a lock that waits for every processor: on a saturated machine that took more
//! than ten seconds. `clone3` with CLONE_INTO_CGROUP (Linux 5.7) makes the child there and takes no such lock.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};

use tokio::io::{Interest, unix::AsyncFd};

/// Which of the two processes goes on.
pub(super) enum Side {
    /// The new one. **Only system calls may be made in it**, as after fork(2): another thread of the parent may have held any lock.
    Child,
    /// The old one.
    Parent(Child),
}

/// A child that has not been waited for, so that its number is its own. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
}

/// Makes a copy of this process in `cgroup` (its open folder); with `share_descriptors` both have one table of them.
///
/// # Errors
/// As clone3(2). ENOSYS: Linux before 5.7.
///
/// # Safety
/// On [`Side::Child`] nothing but system calls may be made until it ends or executes another program.
pub(super) unsafe fn clone_into(cgroup: &File, share_descriptors: bool) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    let shared = if share_descriptors {
        u64::from(libc::CLONE_FILES.cast_unsigned())
    } else {
        0
    };
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP | u64::from(libc::CLONE_PIDFD.cast_unsigned()) | shared,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        cgroup: u64::try_from(cgroup.as_raw_fd()).expect("an open descriptor"),
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the child is a copy of this process, stack included; `pidfd` lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match result {
        0 => Ok(Side::Child),
        1.. => {
            let pid = libc::pid_t::try_from(result).expect("a process id");
            // SAFETY: the kernel has just stored a new descriptor there.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(Child { pid, pidfd }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

impl Child {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// How it ended, if it has: then its number is free for others.
    ///
    /// # Errors
    /// ECHILD: it has been waited for.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.reap(libc::WNOHANG)
    }

    /// Blocks until it has ended: for children that end at once.
    ///
    /// # Errors
    /// As [`Self::try_wait`].
    pub(super) fn wait_here(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.reap(0)? {
                return Ok(status);
            }
        }
    }

    /// Waits until it has ended. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::try_wait`].
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let pidfd = self.pidfd.try_clone()?;
        // SAFETY: the descriptor is owned and stays open as long as the registration.
        let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)?;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            ended.readable().await?.clear_ready();
        }
    }

    fn reap(&self, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
        let mut status = 0;
        // SAFETY: writes to a local. The child is ours and has not been waited for, so the number is no other process's.
        match unsafe { libc::waitpid(self.pid, &raw mut status, options) } {
            0 => Ok(None),
            1.. => Ok(Some(ExitStatus::from_raw(status))),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                error => Err(error),
            },
        }
    }
}

/// linux/sched.h; libc's own does not fit into its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h as of 5.7.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArguments>() == 88);
