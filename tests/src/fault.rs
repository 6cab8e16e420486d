//! Faults that a test makes: a kernel without BPF, a socket that is taken away, a process that is stopped.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;

use crate::{kernel, wait};

/// Makes `command` live on a kernel whose `bpf` system call knows nothing, as a kernel that is too old does: it answers EINVAL.
pub fn without_bpf(command: &mut Command) -> &mut Command {
    forbidding(command, libc::SYS_bpf, libc::EINVAL)
}

/// Has `command`, and all that it starts, get this error from a system call, as the seccomp filters of container engines do.
pub fn forbidding(command: &mut Command, call: libc::c_long, errno: libc::c_int) -> &mut Command {
    // SAFETY: the closure makes bare system calls only, on data that it owns; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(move || refuse_system_call(call, errno)) }
}

/// Shuts down the socket `descriptor` of another process, through a duplicate: a listener leaves its group without its owner knowing.
///
/// # Errors
/// Of `pidfd_open`, `pidfd_getfd` or `shutdown`.
pub fn shut_down_socket_of(pid: i32, descriptor: i32) -> io::Result<()> {
    shutdown(duplicate(pid, descriptor)?.as_raw_fd(), Shutdown::Read)?;
    Ok(())
}

/// A process that is stopped (SIGSTOP), until this is dropped.
#[derive(Debug)]
pub struct Stopped {
    pid: Pid,
}

impl Stopped {
    /// Stops it, and returns once it is: the signal is sent at once, but acted upon a little later.
    ///
    /// # Panics
    /// When it can't be signalled, or does not stop.
    #[track_caller]
    pub fn new(pid: i32) -> Self {
        let stopped = Self {
            pid: Pid::from_raw(pid),
        };
        kill(stopped.pid, Signal::SIGSTOP).expect("stop the process");
        wait::until("the process is stopped", Duration::from_secs(5), || {
            kernel::is_stopped(pid)
        });
        stopped
    }

    /// Lets it go on.
    pub fn resume(self) {
        drop(self);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        kill(self.pid, Signal::SIGCONT).ok();
    }
}

/// A duplicate of `descriptor` of another process.
///
/// # Errors
/// Of `pidfd_open` or `pidfd_getfd`.
pub fn duplicate(pid: i32, descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; its result is checked before it is used as a descriptor of ours.
    let process = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }?;
    // SAFETY: pidfd_getfd takes three integers; its result is checked before it is used as a descriptor of ours.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0)) }
}

/// # Safety
/// `result` must come from a system call that returns a new descriptor, or −1.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller vouches for a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(result).expect("a descriptor")) })
}

fn refuse_system_call(number: libc::c_long, errno: libc::c_int) -> io::Result<()> {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("16 bits"),
        jt,
        jf,
        k,
    };
    let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("positive");
    let mut filter = [
        // The number is the first field of struct seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            u32::try_from(number).expect("positive"),
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` and the filter that it points to live across the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
