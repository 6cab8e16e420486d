//! Gets a descriptor of a listener that the kernel lists, and finds the process that has it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use crate::process::handle::ProcessHandle;

/// Why a listener's descriptor could not be obtained.
#[derive(Debug, thiserror::Error)]
#[error("{operation} (process {pid}, descriptor {fd}): {source}")]
pub struct DiscoverError {
    /// `pidfd_open`, `pidfd_getfd` or `SO_COOKIE`.
    pub operation: &'static str,
    /// The process.
    pub pid: u32,
    /// The descriptor in that process; -1 if none is involved.
    pub fd: RawFd,
    /// The kernel's error. ENOSYS: Linux before 5.6. EPERM: a security module forbids tracing.
    pub source: io::Error,
}

/// Searches the descriptors of these processes for the socket with this cookie and duplicates it. With the inode (which inet_diag returns
/// as well) only that descriptor is touched; without it every socket has to be tried.
///
/// The duplicate is CLOEXEC. Drop it as soon as possible: while it is open, a worker that closes its listener doesn't really close it.
///
/// # Errors
/// Fails if a matching descriptor could not be duplicated for a reason other than that it is closed.
pub fn duplicate_listener(pids: &[u32], cookie: u64, inode: Option<u32>) -> Result<Option<OwnedFd>, DiscoverError> {
    let mut first_error = None;
    for &pid in pids {
        // One by one: a listener has a low number, and a process may have thousands of sockets.
        let candidates = sockets_of(pid)
            .filter(|(_, found)| inode.is_none_or(|inode| inode == *found))
            .map(|(fd, _)| fd);
        match duplicate_among(pid, candidates, cookie) {
            Ok(Some(duplicate)) => return Ok(Some(duplicate)),
            Ok(None) => {}
            // Another process may have the same socket, and allow the duplication.
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// The inodes of the sockets that these processes have open. They tell whose a listener is if the kernel does not report its cgroup.
pub fn socket_inodes(pids: &[u32]) -> std::collections::HashSet<u32> {
    pids.iter()
        .flat_map(|pid| sockets_of(*pid))
        .map(|(_, inode)| inode)
        .collect()
}

/// Whether the process has one of these sockets open.
pub fn has_socket(pid: u32, inodes: &BTreeSet<u32>) -> bool {
    !inodes.is_empty() && sockets_of(pid).any(|(_, inode)| inodes.contains(&inode))
}

/// The process that has the socket with this inode, and its command line, to name the process that occupies a port. Searches all of /proc,
/// so for error messages only.
pub fn owner_of_inode(inode: u32) -> Option<(u32, String)> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // The parent, which usually created the socket, before children that inherited it.
    pids.sort_unstable();
    let pid = pids
        .into_iter()
        .find(|pid| sockets_of(*pid).any(|(_, found)| found == inode))?;
    Some((pid, command_of(pid)))
}

/// The command line of a process as typed in a shell, or its short name if it has none. Empty if the process has ended.
pub fn command_of(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    if words.is_empty() {
        return fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap_or_default()
            .trim_end()
            .to_owned();
    }
    words.join(" ")
}

/// The socket's cookie (SO_COOKIE).
///
/// # Errors
/// ENOTSOCK.
pub fn cookie_of(socket: BorrowedFd<'_>) -> io::Result<u64> {
    socket2::SockRef::from(&socket).cookie()
}

/// The address that a TCP socket is bound to.
///
/// # Errors
/// ENOTSOCK, or EAFNOSUPPORT if it is not an IP socket.
pub fn local_addr(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = socket2::SockRef::from(&socket).local_addr()?;
    address
        .as_socket()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// The accept queue of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Number of waiting connections: `tcpi_unacked` of TCP_INFO on a listening socket.
    pub length: u32,
    /// Maximum number of waiting connections: `tcpi_sacked`.
    pub backlog: u32,
}

/// Number of connections that wait on a listener.
///
/// # Errors
/// As [`accept_queue`].
pub fn listener_queue(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(accept_queue(socket)?.length)
}

/// Reads a listener's accept queue through any descriptor of it.
///
/// # Errors
/// ENOTSOCK, ENOPROTOOPT; EINVAL if it does not listen.
pub fn accept_queue(socket: BorrowedFd<'_>) -> io::Result<AcceptQueue> {
    const TCP_LISTEN: u8 = 10;
    // SAFETY: integers only, for which zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).expect("a small struct");
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(code)?;
    if info.tcpi_state != TCP_LISTEN {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(AcceptQueue {
        length: info.tcpi_unacked,
        backlog: info.tcpi_sacked,
    })
}

fn duplicate_among(
    pid: u32,
    candidates: impl Iterator<Item = RawFd>,
    cookie: u64,
) -> Result<Option<OwnedFd>, DiscoverError> {
    let failed = |operation, fd| {
        move |source| DiscoverError {
            operation,
            pid,
            fd,
            source,
        }
    };
    let process = match ProcessHandle::open(pid) {
        Ok(process) => process,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(failed("pidfd_open", -1)(error)),
    };
    for fd in candidates {
        let duplicate = match process.duplicate_fd(fd) {
            Ok(duplicate) => duplicate,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(failed("pidfd_getfd", fd)(error)),
        };
        match cookie_of(duplicate.as_fd()) {
            Ok(found) if found == cookie => return Ok(Some(duplicate)),
            // The descriptor's number may have been reused for something else meanwhile.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {}
            Err(error) => return Err(failed("SO_COOKIE", fd)(error)),
        }
    }
    Ok(None)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EBADF))
}

/// Descriptor and inode of every socket of a process; empty if the process has ended or can't be read.
fn sockets_of(pid: u32) -> impl Iterator<Item = (RawFd, u32)> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};

    /// A shell whose child has a listener that it does not have itself.
    struct Family {
        parent: Child,
        child: u32,
        port: u16,
    }

    impl Family {
        fn new() -> Self {
            let script = "/usr/bin/python3 -uc '\nimport os,socket,time\ns=socket.create_server((\"127.0.0.1\",0))\n\
                          decoy=socket.create_server((\"127.0.0.1\",0))\n\
                          print(os.getpid(),s.getsockname()[1])\ntime.sleep(600)' & wait";
            let mut parent = Command::new("/bin/sh")
                .args(["-c", script])
                .stdout(Stdio::piped())
                .spawn()
                .expect("sh runs");
            let mut line = String::new();
            io::BufReader::new(parent.stdout.take().expect("piped"))
                .read_line(&mut line)
                .expect("says so");
            let mut words = line.split_whitespace();
            let child = words.next().and_then(|word| word.parse().ok()).expect("a pid");
            let port = words.next().and_then(|word| word.parse().ok()).expect("a port");
            Self { parent, child, port }
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            drop(crate::process::handle::terminate(
                self.child,
                nix::sys::signal::Signal::SIGKILL,
            ));
            drop(self.parent.wait());
        }
    }

    #[test]
    fn a_grandchilds_listener_is_found_and_its_owner_named() {
        let family = Family::new();
        let mut diag = crate::group::diag::Diag::new().expect("inet_diag");
        let listener = diag
            .listeners_on(family.port)
            .expect("a dump")
            .pop()
            .expect("it listens");
        let pids = [family.parent.id(), family.child, u32::MAX];
        for inode in [Some(listener.inode), None] {
            let duplicate = duplicate_listener(&pids, listener.cookie, inode)
                .expect("root may")
                .expect("it is there");
            assert_eq!(local_addr(duplicate.as_fd()).expect("bound"), listener.addr);
            assert_eq!(cookie_of(duplicate.as_fd()).expect("a cookie"), listener.cookie);
            let flags = nix::fcntl::fcntl(&duplicate, nix::fcntl::FcntlArg::F_GETFD).expect("open");
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
        assert!(
            duplicate_listener(&pids, listener.cookie + 1, Some(listener.inode))
                .expect("no error")
                .is_none()
        );
        assert!(
            duplicate_listener(&[family.parent.id()], listener.cookie, None)
                .expect("no error")
                .is_none()
        );
        assert!(socket_inodes(&pids).contains(&listener.inode));
        let (pid, command) = owner_of_inode(listener.inode).expect("someone has it");
        assert_eq!(pid, family.child);
        assert!(command.starts_with("/usr/bin/python3 -uc"), "{command}");
        assert_eq!(owner_of_inode(u32::MAX), None);
        let inodes = BTreeSet::from([listener.inode]);
        assert!(has_socket(family.child, &inodes) && !has_socket(family.parent.id(), &inodes));
    }

    #[test]
    fn a_connection_is_no_listener() {
        let server = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = std::net::TcpStream::connect(server.local_addr().expect("bound")).expect("connected");
        assert_eq!(accept_queue(server.as_fd()).expect("TCP_INFO").length, 1);
        assert_eq!(
            accept_queue(client.as_fd()).expect_err("connected").raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
