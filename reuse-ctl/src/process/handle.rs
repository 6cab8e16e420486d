//! A handle of a process: a pidfd, so that a signal can never reach another process that got the same pid.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// A handle of a process. Cheap to clone. Dropping the last clone does nothing to the process.
#[derive(Debug, Clone)]
pub struct ProcessHandle {
    pid: u32,
    /// `None` on kernels before 5.3, where only the pid is left.
    pidfd: Option<Arc<OwnedFd>>,
}

impl ProcessHandle {
    /// Opens the process that has this pid now. Call it while the pid can't be reused: for a child, before it is waited for.
    ///
    /// # Errors
    /// ESRCH if there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid_t = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(Errno::ESRCH))?;
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid_t, 0) };
        match Errno::result(fd) {
            Ok(fd) => Ok(Self {
                pid,
                pidfd: Some(Arc::new(owned(fd))),
            }),
            Err(Errno::ENOSYS) => Ok(Self { pid, pidfd: None }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The process's pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to this process only, not to its children. Returns false if it has ended.
    ///
    /// # Errors
    /// EPERM.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let result = match &self.pidfd {
            Some(pidfd) => {
                // SAFETY: a valid descriptor, a signal number, no siginfo, no flags.
                let code = unsafe {
                    libc::syscall(
                        libc::SYS_pidfd_send_signal,
                        pidfd.as_raw_fd(),
                        signal as libc::c_int,
                        std::ptr::null::<libc::siginfo_t>(),
                        0,
                    )
                };
                Errno::result(code).map(drop)
            }
            None => {
                let pid = libc::pid_t::try_from(self.pid).expect("checked in open");
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
            }
        };
        match result {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the process has ended, waited for or not. Always false on kernels without pidfds.
    pub fn has_ended(&self) -> bool {
        self.as_pidfd().is_some_and(|pidfd| {
            let mut ends = [PollFd::new(pidfd, PollFlags::POLLIN)];
            matches!(poll(&mut ends, PollTimeout::ZERO), Ok(ready) if ready > 0)
        })
    }

    /// Duplicates one of the process's descriptors into this process, CLOEXEC. Needs permission to trace the process, and Linux 5.6.
    ///
    /// # Errors
    /// EBADF if the process has no such descriptor, ESRCH if it has ended, EPERM, ENOSYS.
    pub fn duplicate_fd(&self, fd: RawFd) -> io::Result<OwnedFd> {
        let pidfd = self.pidfd.as_ref().ok_or_else(|| io::Error::from(Errno::ENOSYS))?;
        // SAFETY: a valid descriptor and two integers; returns a new descriptor or -1.
        let code = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
        Ok(owned(Errno::result(code)?))
    }

    /// The pidfd, which becomes readable (poll) once the process has ended.
    pub fn as_pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|pidfd| pidfd.as_fd())
    }
}

/// Sends a signal to the process that has this pid now. Prefer [`ProcessHandle::signal`], which can't reach another process. Returns false
/// if the process has ended.
///
/// # Errors
/// EPERM.
pub fn terminate(pid: u32, signal: Signal) -> io::Result<bool> {
    match ProcessHandle::open(pid) {
        Ok(process) => process.signal(signal),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    let fd = RawFd::try_from(fd).expect("a descriptor is an int");
    // SAFETY: the kernel has just created this descriptor; nobody else uses it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn a_signal_reaches_the_process_and_only_while_it_lives() {
        let mut child = Command::new("/bin/sleep").arg("600").spawn().expect("sleep runs");
        let handle = ProcessHandle::open(child.id()).expect("alive");
        assert!(handle.signal(Signal::SIGTERM).expect("ours"));
        assert_eq!(child.wait().expect("ours").signal(), Some(libc::SIGTERM));
        assert!(!handle.signal(Signal::SIGTERM).expect("gone is no error"));
        assert!(!terminate(child.id(), Signal::SIGTERM).expect("gone is no error"));
    }

    #[test]
    fn a_descriptor_can_be_duplicated() {
        let (mut reader, writer) = io::pipe().expect("pipe");
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .stdout(writer)
            .spawn()
            .expect("cat runs");
        let handle = ProcessHandle::open(child.id()).expect("alive");
        let duplicate = handle.duplicate_fd(1).expect("root may trace");
        nix::unistd::write(&duplicate, b"seen").expect("written");
        drop(duplicate);
        drop(child.stdin.take());
        child.wait().expect("ours");
        let mut text = String::new();
        reader
            .read_to_string(&mut text)
            .expect("ends when the duplicate is closed as well");
        assert_eq!(text, "seen");
        assert_eq!(
            handle.duplicate_fd(1).expect_err("it has ended").raw_os_error(),
            Some(libc::ESRCH)
        );
    }
}
