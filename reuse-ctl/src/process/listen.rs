//! Creates listening sockets that can be members of a group.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// The backlog. The kernel limits it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Binds and listens with SO_REUSEPORT, plain TCP, dual-stack if the address is `[::]`. The socket belongs to the caller's uid and cgroup.
///
/// # Errors
/// EADDRINUSE if the address is taken by another uid or without SO_REUSEPORT, EACCES for a low port, EADDRNOTAVAIL.
pub fn reuseport_listener(address: SocketAddr) -> io::Result<Socket> {
    let socket = reuseport_socket(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// As [`reuseport_listener`], but bound without listening: it holds the port and accepts no connection.
///
/// # Errors
/// As [`reuseport_listener`].
pub fn reuseport_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_share_a_port_and_the_wildcard_is_dual_stack() {
        let first = reuseport_listener("[::]:0".parse().expect("address")).expect("listens");
        let address = first.local_addr().expect("bound").as_socket().expect("inet");
        let second = reuseport_listener(address).expect("shares");
        assert!(!first.only_v6().expect("v6") && !second.only_v6().expect("v6"));
        std::net::TcpStream::connect(("127.0.0.1", address.port())).expect("reaches it over IPv4");
    }
}
