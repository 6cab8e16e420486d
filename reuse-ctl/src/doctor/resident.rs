//! A child process that plays two workers: it moves into the cgroup of each and opens a plain listener there, as any server would. The
//! kernel keeps a socket in the cgroup where it was created, so one process is enough.
//!
//! It is forked, so that it needs no executable file. After the fork it only makes system calls.

use std::{
    fs::File,
    io::{self, Read as _},
    net::SocketAddrV4,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use crate::process::handle::ProcessHandle;

/// Timeout for the child's dozen system calls.
const PATIENCE: Duration = Duration::from_secs(5);
const MPTCP: libc::c_int = 262;
const BACKLOG: libc::c_int = 64;
/// The descriptor of the child's end of the channel; the one of the second cgroup is next to it. All higher ones are closed.
const CHANNEL: RawFd = 3;
const SECOND_PROCS: RawFd = CHANNEL + 1;

/// The child process. Dropping this kills it.
#[derive(Debug)]
pub(super) struct Resident {
    pid: Pid,
    /// The child lives while this is open, so it does not outlive a killed doctor.
    channel: UnixStream,
    report: Report,
}

/// The results as errno numbers; 0 is success.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Report {
    /// Of moving into the cgroups.
    moved: i32,
    /// Of creating an MPTCP socket.
    mptcp: i32,
    listeners: [Opened; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Opened {
    fd: RawFd,
    /// Of binding a plain socket.
    plain: i32,
    /// Of binding or listening, after the child has set SO_REUSEPORT itself if necessary.
    listening: i32,
}

const WORDS: usize = 8;

impl Resident {
    /// Starts the child. It opens two listeners on `addr`, which the caller shares: one in each of the cgroups whose `cgroup.procs` are
    /// given. It stays in the second one.
    pub(super) fn start(procs: Option<&[File; 2]>, addr: SocketAddrV4) -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        channel.set_read_timeout(Some(PATIENCE))?;
        let procs = procs.map(|files| files.each_ref().map(|file| file.as_raw_fd()));
        let addr = socket_address(addr);
        // SAFETY: the child only makes system calls, and ends with _exit.
        let pid = match unsafe { fork() }? {
            ForkResult::Child => live(theirs.as_raw_fd(), procs, &addr),
            ForkResult::Parent { child } => child,
        };
        drop(theirs);
        // From here on, dropping it kills and reaps the child.
        let mut resident = Self {
            pid,
            channel,
            report: Report::default(),
        };
        let mut bytes = [0; WORDS * 4];
        (&resident.channel).read_exact(&mut bytes)?;
        resident.report = Report::from_bytes(&bytes);
        result(resident.report.moved)?;
        Ok(resident)
    }

    /// Duplicates of its listeners, obtained in the same way as those of workers.
    pub(super) fn duplicate_listeners(&self) -> io::Result<[OwnedFd; 2]> {
        let process = ProcessHandle::open(self.pid.as_raw().cast_unsigned())?;
        let [first, second] = self.report.listeners;
        result(first.listening)?;
        result(second.listening)?;
        Ok([process.duplicate_fd(first.fd)?, process.duplicate_fd(second.fd)?])
    }

    /// Whether plain sockets could be bound beside each other.
    pub(super) fn plain_binds(&self) -> io::Result<()> {
        self.report.listeners.iter().try_for_each(|opened| result(opened.plain))
    }

    /// Whether an MPTCP socket could be created.
    pub(super) fn mptcp(&self) -> io::Result<()> {
        result(self.report.mptcp)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // The pid of a child that has not been waited for can't be reused.
        if let Err(errno) = kill(self.pid, Signal::SIGKILL).and_then(|()| waitpid(self.pid, None)) {
            tracing::warn!("the doctor's child {}: {errno}", self.pid);
        }
    }
}

fn result(errno: i32) -> io::Result<()> {
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

impl Report {
    fn to_bytes(self) -> [u8; WORDS * 4] {
        let [first, second] = self.listeners;
        let words: [i32; WORDS] = [
            self.moved,
            self.mptcp,
            first.fd,
            first.plain,
            first.listening,
            second.fd,
            second.plain,
            second.listening,
        ];
        let mut bytes = [0; WORDS * 4];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; WORDS * 4]) -> Self {
        let word = |n: usize| i32::from_ne_bytes([bytes[4 * n], bytes[4 * n + 1], bytes[4 * n + 2], bytes[4 * n + 3]]);
        let opened = |n: usize| Opened {
            fd: word(n),
            plain: word(n + 1),
            listening: word(n + 2),
        };
        Self {
            moved: word(0),
            mptcp: word(1),
            listeners: [opened(2), opened(5)],
        }
    }
}

fn socket_address(addr: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET.cast_unsigned() as libc::sa_family_t,
        sin_port: addr.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(addr.ip().octets()),
        },
        sin_zero: [0; 8],
    }
}

/// The child's code. No allocation, no lock, no panic: another thread of the parent may have held a lock at the fork.
fn live(channel: RawFd, procs: Option<[RawFd; 2]>, addr: &libc::sockaddr_in) -> ! {
    let mut report = Report::default();
    // SAFETY: system calls on descriptors, and on buffers that outlive them.
    unsafe {
        let mut own = CHANNEL + 1;
        if let Some([first, second]) = procs {
            report.moved = move_by(first);
            // A duplicate that neither of the next two lines can overwrite.
            let second = libc::fcntl(second, libc::F_DUPFD, SECOND_PROCS + 1);
            libc::dup2(channel, CHANNEL);
            libc::dup2(second, SECOND_PROCS);
            own = SECOND_PROCS + 1;
        } else {
            libc::dup2(channel, CHANNEL);
        }
        // The parent's listeners must not stay open here.
        libc::syscall(libc::SYS_close_range, own, u32::MAX, 0);
        let mptcp = libc::socket(libc::AF_INET, libc::SOCK_STREAM, MPTCP);
        report.mptcp = errno_of(mptcp);
        libc::close(mptcp);
        report.listeners[0] = open(addr);
        if procs.is_some() && report.moved == 0 {
            report.moved = move_by(SECOND_PROCS);
        }
        report.listeners[1] = open(addr);
        let bytes = report.to_bytes();
        libc::write(CHANNEL, bytes.as_ptr().cast(), bytes.len());
        let mut byte = 0_u8;
        while libc::read(CHANNEL, (&raw mut byte).cast(), 1) > 0 {}
        libc::_exit(0)
    }
}

/// Moves this process into the cgroup of this `cgroup.procs`. Returns an errno, or 0.
///
/// # Safety
/// None beyond that of its system call, whose buffer is a constant.
unsafe fn move_by(procs: RawFd) -> i32 {
    // SAFETY: see above. 0 is whoever writes it.
    errno_of(unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) } as libc::c_int)
}

/// # Safety
/// None beyond that of its system calls, which take only what lives here.
unsafe fn open(addr: &libc::sockaddr_in) -> Opened {
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: see above.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let bind = || errno_of(libc::bind(fd, (&raw const *addr).cast(), length));
        let plain = bind();
        let mut listening = plain;
        if plain != 0 {
            let on: libc::c_int = 1;
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, (&raw const on).cast(), 4);
            listening = bind();
        }
        if listening == 0 {
            listening = errno_of(libc::listen(fd, BACKLOG));
        }
        Opened { fd, plain, listening }
    }
}

fn errno_of(code: libc::c_int) -> i32 {
    if code < 0 { Errno::last_raw() } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn without_the_hooks_nothing_is_forced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, taken.local_addr().expect("bound").port());
        let resident = Resident::start(None, addr).expect("forked");
        let error = resident.plain_binds().expect_err("the port is taken");
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        let error = resident.duplicate_listeners().expect_err("nor can it be shared");
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        // No hook refuses MPTCP here; a kernel that lacks it says so in another way.
        assert_ne!(
            resident.mptcp().err().and_then(|error| error.raw_os_error()),
            Some(libc::EPERM)
        );

        let pid = resident.pid;
        drop(resident);
        assert_eq!(kill(pid, None), Err(Errno::ESRCH), "ended and waited for");
    }

    #[test]
    fn a_cgroup_that_takes_nobody_is_an_error() {
        let not_procs = [(); 2].map(|()| File::open("/proc/self/status").expect("readable"));
        let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        assert!(Resident::start(Some(&not_procs), addr).is_err());
    }

    #[test]
    fn a_report_survives_the_pipe() {
        let report = Report {
            moved: 1,
            mptcp: 2,
            listeners: [
                Opened {
                    fd: 3,
                    plain: 4,
                    listening: 5,
                },
                Opened {
                    fd: 6,
                    plain: 7,
                    listening: -8,
                },
            ],
        };
        let copy = Report::from_bytes(&report.to_bytes());
        assert_eq!(format!("{copy:?}"), format!("{report:?}"));
    }
}
