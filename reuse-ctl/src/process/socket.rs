//! Creates sockets that belong to another cgroup and another user than this process.
//!
//! The kernel takes the cgroup and the user of a socket from the process that creates it, and programs attached to a cgroup see the sockets
//! that were created in it. So a child is started in that cgroup which shares our descriptors, creates the socket, and exits.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use socket2::{Domain, Socket};

use super::clone::{Side, clone_into};

/// Creates a TCP socket in `cgroup` (its open folder) as `uid`. It is close-on-exec.
///
/// # Errors
/// As clone3(2) and socket(2). ENOSYS: Linux before 5.7.
pub fn tcp_socket_in(cgroup: &File, uid: u32, domain: Domain) -> io::Result<Socket> {
    // The child can't return a number, so it puts its socket in the place of this descriptor.
    let place = OwnedFd::from(File::open("/dev/null")?);
    // SAFETY: the child makes only system calls, and ends.
    match unsafe { clone_into(cgroup, true) }? {
        // SAFETY: this is the child.
        Side::Child => unsafe { make_and_exit(place.as_raw_fd(), uid, domain) },
        Side::Parent(child) => match child.wait_here()?.code() {
            Some(0) => Ok(Socket::from(place)),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the child that makes sockets was killed")),
        },
    }
}

/// The child's part. Its exit code is 0, or the errno of what failed.
///
/// # Safety
/// Only in a child in which no other thread runs. Makes only system calls.
unsafe fn make_and_exit(place: RawFd, uid: u32, domain: Domain) -> ! {
    // SAFETY: plain system calls with integers; `place` is an open descriptor that the parent owns.
    unsafe {
        libc::syscall(libc::SYS_setfsuid, uid);
        let socket = libc::socket(domain.into(), libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_TCP);
        let failed = socket < 0 || libc::dup3(socket, place, libc::O_CLOEXEC) < 0;
        let errno = if failed { *libc::__errno_location() } else { 0 };
        if socket >= 0 {
            // The table is shared with the parent: an unclosed descriptor would stay open there.
            libc::close(socket);
        }
        libc::_exit(errno)
    }
}

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
