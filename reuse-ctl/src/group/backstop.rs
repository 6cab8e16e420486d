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

/// How many connections may be parked; the kernel lowers it to `net.core.somaxconn`.
const PARKING_PLACES: i32 = 65_535;

/// The backstop, a listener beside the workers': it keeps the group and its program alive, holds the port, and takes the connections that come
/// while nobody is published. Nobody accepts from it: they are moved to workers by closing it for an instant.
#[derive(Debug)]
pub(super) struct Backstop {
    socket: Socket,
    cookie: u64,
}

impl Backstop {
    /// Listens on `addr` in the backstops' cgroup, so that `track` counts what is parked, and as `uid`: all members of a group have one.
    ///
    /// `announce` is called with the bound socket and its cookie before it listens: it must be known as a service by then.
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

    /// Whether it listens: if it could not listen again after a release, it has to be tried again.
    pub(super) fn is_listening(&self) -> bool {
        self.socket.is_listener().unwrap_or(false)
    }

    /// Connections that are parked now.
    pub(super) fn parked(&self) -> u32 {
        discover::listener_queue(self.as_fd()).unwrap_or(0)
    }

    /// Lets go of every parked connection: the kernel asks the program again for each. The two calls are adjacent, so that the port has a
    /// backstop again at once; afterwards it has to be put into the array again, which it left.
    pub(super) fn release(&self) -> io::Result<()> {
        if self.is_listening() {
            self.socket.shutdown(std::net::Shutdown::Read)?;
        }
        self.socket.listen(PARKING_PLACES)
    }
}

/// Holds a port whose address is not known yet (`--port` says no address) with a bound socket that never listens. Without it an outgoing
/// connection could take the port as its local one, and every bind would fail for a minute.
#[derive(Debug)]
pub struct Guard {
    _socket: Socket,
}

impl Guard {
    /// Binds the port on all addresses, IPv4 included, as `uid`.
    ///
    /// # Errors
    /// EADDRINUSE: somebody else has the port. Without IPv6 it is tried on all IPv4 addresses.
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

/// A bound SO_REUSEPORT socket in `cgroup` that belongs to `uid`, as the workers' do.
fn bound(addr: SocketAddr, only_v6: bool, cgroup: &File, uid: u32) -> io::Result<Socket> {
    let socket = tcp_socket_in(cgroup, uid, Domain::for_address(addr))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Workers that set SO_REUSEADDR and workers that do not may both bind beside it.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
