//! The controller's own sockets on the service addresses.

use std::{
    fs::File,
    io,
    net::{Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, Socket};

use super::{GroupError, discover};
use crate::{bpf::BpfError, process::socket::tcp_socket_in};

/// The backlog of a backstop: how many connections may be parked. The kernel limits it to `net.core.somaxconn`.
const PARKING_PLACES: i32 = 65_535;

/// The backstop, a listener beside those of the workers. It keeps the group and its program alive, holds the port, and takes the
/// connections that arrive while nobody is published. Nobody accepts from it: its connections are moved to workers by closing it for a
/// moment.
#[derive(Debug)]
pub(super) struct Backstop {
    socket: Socket,
    cookie: u64,
}

impl Backstop {
    /// Listens on `addr`, in the backstops' cgroup so that `track` counts parked connections, and as `uid`, because all members of a group
    /// must have the same uid.
    ///
    /// `announce` is called with the bound socket and its cookie before it listens, because its port must be registered as a service by
    /// then.
    pub(super) fn open(
        addr: SocketAddr,
        only_v6: bool,
        cgroup: &File,
        uid: u32,
        announce: impl FnOnce(&Socket, u64) -> Result<(), BpfError>,
    ) -> Result<Self, GroupError> {
        let failed = |source| GroupError::Backstop { addr, source };
        let socket = bound(addr, only_v6, cgroup, uid).map_err(failed)?;
        let cookie = discover::cookie_of(socket.as_fd()).map_err(failed)?;
        announce(&socket, cookie)?;
        socket.listen(PARKING_PLACES).map_err(failed)?;
        Ok(Self { socket, cookie })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Whether it listens. False if it could not listen again after a release; then the release must be retried.
    pub(super) fn is_listening(&self) -> bool {
        self.socket.is_listener().unwrap_or(false)
    }

    /// Connections that are parked now.
    pub(super) fn parked(&self) -> u32 {
        discover::listener_queue(self.as_fd()).unwrap_or(0)
    }

    /// Releases every parked connection: the kernel runs the program again for each. The two calls are adjacent, so that the port has a
    /// backstop again at once. Closing also removes the backstop from the array, so the caller must add it again.
    pub(super) fn release(&self) -> io::Result<()> {
        if self.is_listening() {
            self.socket.shutdown(std::net::Shutdown::Read)?;
        }
        self.socket.listen(PARKING_PLACES)
    }
}

/// Holds a port whose address is not known yet (`--port` gives no address) with a bound socket that never listens. Otherwise an outgoing
/// connection could take the port as its local port, and every bind would fail for a minute.
#[derive(Debug)]
pub struct Guard {
    _socket: Socket,
}

impl Guard {
    /// Binds the port on all addresses, including IPv4, as `uid`. Without IPv6, it binds all IPv4 addresses.
    ///
    /// # Errors
    /// EADDRINUSE: another program has the port.
    pub fn hold(port: u16, cgroup: &File, uid: u32) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let socket = match bound(any, false, cgroup, uid) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                bound(([0, 0, 0, 0], port).into(), false, cgroup, uid)
            }
            other => other,
        }?;
        Ok(Self { _socket: socket })
    }
}

/// A bound SO_REUSEPORT socket in `cgroup` that belongs to `uid`, like those of the workers.
fn bound(addr: SocketAddr, only_v6: bool, cgroup: &File, uid: u32) -> io::Result<Socket> {
    let socket = tcp_socket_in(cgroup, uid, Domain::for_address(addr))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Lets workers bind beside it, with or without SO_REUSEADDR.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
