//! A socket that belongs to another cgroup and another user than this process.
//!
//! The kernel notes the cgroup and the user of a socket when it is made, from the process that makes it: programs attached to a cgroup
//! see the sockets that were made in it. So a child is started in that cgroup that shares our descriptors, makes the socket, and ends.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use socket2::{Domain, Socket};

/// Makes a TCP socket in `cgroup` (its open folder) as `uid`. It is close-on-exec.
///
/// # Errors
/// As clone3(2) and socket(2). ENOSYS: Linux before 5.7.
pub fn tcp_socket_in(cgroup: &File, uid: u32, domain: Domain) -> io::Result<Socket> {
    // The child can't tell us a number: it puts its socket in the place of this descriptor.
    let place = OwnedFd::from(File::open("/dev/null")?);
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP | (libc::CLONE_FILES as u64),
        exit_signal: libc::SIGCHLD as u64,
        cgroup: u64::try_from(cgroup.as_raw_fd()).expect("an open descriptor"),
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the child is a copy of this process, as after fork(2). In it only system calls are made until it ends, since
    // another thread may have held any lock at the moment of the copy.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match child {
        // SAFETY: this is the child.
        0 => unsafe { make_and_exit(place.as_raw_fd(), uid, domain) },
        1.. => {
            let errno = exit_code(child)?;
            if errno != 0 {
                return Err(io::Error::from_raw_os_error(errno));
            }
            Ok(Socket::from(place))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// The child's part. Its exit code is 0 or the errno of what failed.
///
/// # Safety
/// Only in a child that nothing else runs in; makes nothing but system calls.
unsafe fn make_and_exit(place: RawFd, uid: u32, domain: Domain) -> ! {
    // SAFETY: plain system calls with integers; `place` is an open descriptor that the parent owns.
    unsafe {
        libc::syscall(libc::SYS_setfsuid, uid);
        let socket = libc::socket(domain.into(), libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_TCP);
        let failed = socket < 0 || libc::dup3(socket, place, libc::O_CLOEXEC) < 0;
        let errno = if failed { *libc::__errno_location() } else { 0 };
        if socket >= 0 {
            // The table is shared with the parent: what is not closed here stays open there.
            libc::close(socket);
        }
        libc::_exit(errno)
    }
}

/// Waits for the child, which ends at once.
fn exit_code(child: libc::c_long) -> io::Result<i32> {
    let pid = libc::pid_t::try_from(child).expect("a process id");
    let mut status = 0;
    loop {
        // SAFETY: writes to a local; the child is ours, and nobody else waits for it.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status))
    } else {
        Ok(libc::EINTR)
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::{
        group::{diag::Diag, discover},
        process::cgroup::AppCgroup,
    };

    #[test]
    fn the_socket_is_in_the_cgroup_and_of_the_user() {
        let app = format!("socket-{}", std::process::id());
        let cgroup = AppCgroup::create(&app).expect("a cgroup");
        let opened = cgroup.open().expect("its folder");
        let id = std::os::unix::fs::MetadataExt::ino(&opened.metadata().expect("its number"));
        let before = std::fs::read_dir("/proc/self/fd").expect("our descriptors").count();
        let socket = tcp_socket_in(&opened, 65534, Domain::IPV4).expect("a socket");
        let after = std::fs::read_dir("/proc/self/fd").expect("our descriptors").count();
        assert!(
            after <= before + 4,
            "{before} descriptors before, {after} after: the child's own is closed"
        );
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("bind");
        socket.listen(1).expect("listen");
        let cookie = discover::cookie_of(socket.as_fd()).expect("a cookie");
        let listeners = Diag::new().and_then(|mut diag| diag.listeners()).expect("listeners");
        let listener = listeners
            .iter()
            .find(|listener| listener.cookie == cookie)
            .expect("it listens");
        assert_eq!((listener.uid, listener.cgroup), (65534, Some(id)));
        let flags = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        drop(socket);
        cgroup.remove().expect("empty again");
    }
}
