//! Starts children in another cgroup.
//!
//! Moving a running process between cgroups takes a lock that waits for every CPU: on a saturated machine this took more than ten seconds.
//! `clone3` with CLONE_INTO_CGROUP (Linux 5.7) creates the child there without this lock. Where clone3 is forbidden (Docker's seccomp
//! profile answers ENOSYS, since a filter can't see its flags), the child moves itself before it does anything else.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};

use tokio::io::{Interest, unix::AsyncFd};

/// Which of the two processes returns from the clone.
pub(super) enum Side {
    /// The child. **It may only make system calls**, as after fork(2): another thread of the parent may hold any lock.
    Child,
    /// The parent.
    Parent(Child),
}

/// A child that has not been waited for, so that its pid can't be reused. Dropping it neither kills nor reaps the child.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// A file that the child uses at its start, if both processes share one descriptor table.
    _shared: Option<File>,
}

/// Clones this process into `cgroup` (its open folder). With `share_descriptors` both processes share one descriptor table.
///
/// # Errors
/// As clone3(2), or clone(2) where that is forbidden.
///
/// # Safety
/// On [`Side::Child`] only system calls may be made until it exits or executes another program.
pub(super) unsafe fn clone_into(cgroup: &File, share_descriptors: bool) -> io::Result<Side> {
    let shared = if share_descriptors { libc::CLONE_FILES } else { 0 };
    // SAFETY: the caller's promise.
    match unsafe { clone_there(cgroup, shared) } {
        // Older seccomp filters answer EPERM.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            let procs = File::options().write(true).open(procs_of(cgroup))?;
            // SAFETY: the caller's promise.
            unsafe { clone_and_move(procs, shared) }
        }
        result => result,
    }
}

/// Creates the child in its cgroup.
///
/// # Safety
/// As [`clone_into`].
unsafe fn clone_there(cgroup: &File, shared: libc::c_int) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP | u64::from((libc::CLONE_PIDFD | shared).cast_unsigned()),
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        cgroup: u64::try_from(cgroup.as_raw_fd()).expect("an open descriptor"),
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the child is a copy of this process, stack included; `pidfd` lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    side(result, pidfd)
}

/// Creates the child here, and moves it into the cgroup of this `cgroup.procs`. If that fails, the child exits at once, with the errno as
/// its exit code.
///
/// # Safety
/// As [`clone_into`].
unsafe fn clone_and_move(procs: File, shared: libc::c_int) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD | shared | libc::SIGCHLD);
    // SAFETY: as for clone3. No stack is given: the child goes on with its copy of this one.
    // (The order of the arguments is that of x86 and ARM; the last two are not used.)
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    if result == 0 {
        // SAFETY: this is the child; an open descriptor, and a buffer of one byte. 0 means the writing process.
        unsafe {
            if libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                libc::_exit(*libc::__errno_location());
            }
        }
        // The parent closes it.
        std::mem::forget(procs);
        return Ok(Side::Child);
    }
    let mut side = side(result, pidfd)?;
    if let Side::Parent(child) = &mut side
        && shared != 0
    {
        // The descriptor table is shared: closing the file here would close it in the child.
        child._shared = Some(procs);
    }
    Ok(side)
}

fn procs_of(cgroup: &File) -> std::path::PathBuf {
    format!("/proc/self/fd/{}/cgroup.procs", cgroup.as_raw_fd()).into()
}

/// Interprets the kernel's answer. In the parent, `pidfd` is a new descriptor.
fn side(result: libc::c_long, pidfd: RawFd) -> io::Result<Side> {
    match result {
        0 => Ok(Side::Child),
        1.. => {
            let pid = libc::pid_t::try_from(result).expect("a process id");
            // SAFETY: the kernel has just stored a new descriptor there.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(Child {
                pid,
                pidfd,
                _shared: None,
            }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

impl Child {
    /// The child's pid.
    pub fn id(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// The child's exit status, if it has ended. Its pid may then be reused.
    ///
    /// # Errors
    /// ECHILD: it has been waited for.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.reap(libc::WNOHANG)
    }

    /// Blocks until the child has ended; for children that exit at once.
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

    /// Waits until the child has ended. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::try_wait`].
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        // SAFETY: the descriptor is borrowed from `self`, and stays open as long as the registration.
        let ended = unsafe { AsyncFd::register_with_interest(self.pidfd.as_fd(), Interest::READABLE) };
        let ended = ended.map_err(io::Error::from)?;
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

/// From linux/sched.h; libc's constant doesn't fit into its type.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::cgroup::AppCgroup;

    /// Where clone3 is allowed, [`clone_into`] never uses this fallback, so it is tested directly.
    #[test]
    fn a_child_moves_itself_where_it_can_not_be_made_there() {
        let app = AppCgroup::create(&format!("test-{}-move", std::process::id())).expect("cgroup v2 and root");
        let cgroup = app.open().expect("its folder");
        let open = || {
            File::options()
                .write(true)
                .open(procs_of(&cgroup))
                .expect("cgroup.procs")
        };
        let (reader, writer) = io::pipe().expect("pipe");
        // SAFETY: the child makes only system calls, and ends.
        match unsafe { clone_and_move(open(), 0) }.expect("cloned") {
            // SAFETY: this is the child; it waits until the other end of the pipe is closed.
            Side::Child => unsafe {
                libc::close(writer.as_raw_fd());
                let mut byte = 0_u8;
                libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(7)
            },
            Side::Parent(child) => {
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
                while app.pids().expect("readable") != [child.id()] {
                    assert!(std::time::Instant::now() < deadline, "it is not in its cgroup");
                    std::thread::yield_now();
                }
                drop(writer);
                assert_eq!(child.wait_here().expect("ours").code(), Some(7));
            }
        }
        let not_one = File::open("/dev/null").expect("a file that can't be written");
        // SAFETY: as above.
        match unsafe { clone_and_move(not_one, libc::CLONE_FILES) }.expect("cloned") {
            // SAFETY: this is the child, which is not to come here.
            Side::Child => unsafe { libc::_exit(0) },
            Side::Parent(child) => assert_eq!(child.wait_here().expect("ours").code(), Some(libc::EBADF)),
        }
        app.remove().expect("removed");
    }
}
