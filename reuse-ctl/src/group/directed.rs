//! Opens one connection to one worker behind a shared port. It shows whether an inherited listener is served, checks the health of one
//! worker, and sends a request to one worker.

use std::{io, mem::MaybeUninit, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use reuse_common::settings::DirectedKey;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    diag::{Diag, DiagError, ServerSide},
    groups::reachable,
};

/// Interval of looks at the server's end: the first, and the longest.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// A connection that is about to be opened. Its local end is bound, so that the program can be told in advance where it must go.
#[derive(Debug)]
pub struct DirectedConnection {
    socket: Socket,
    target: SocketAddr,
    local: SocketAddr,
}

impl DirectedConnection {
    /// Binds the local end of a connection to the listener on `addr`.
    ///
    /// # Errors
    /// Fails if the address is not one of this machine.
    pub fn new(addr: SocketAddr) -> io::Result<Self> {
        let (first, other) = reachable(addr);
        let (target, socket) = match (bound_towards(first), other) {
            // The first: there is no such address. The second: there is no IPv6 at all.
            (Err(error), Some(other))
                if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) =>
            {
                (other, bound_towards(other)?)
            }
            (bound, _) => (first, bound?),
        };
        socket.set_nonblocking(true)?;
        let local = socket
            .local_addr()?
            .as_socket()
            .expect("an inet socket has an inet address");
        Ok(Self { socket, target, local })
    }

    /// The key that the program must be given before the connection is opened. The program may forget it once the connection is open, and
    /// must before the connection's last descriptor is closed: another program may get the port then.
    pub fn key(&self) -> DirectedKey {
        key_of(self.local)
    }

    /// The remote address and the local address.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.target, self.local)
    }

    /// Another descriptor of the connection: while it is open, no other program gets the port.
    ///
    /// # Errors
    /// As dup(2).
    pub fn hold(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Connects, and waits until the server's end is established too. From then on the program need not know the connection.
    ///
    /// # Errors
    /// Fails if the connection is refused, or if the kernel gives up after about two minutes.
    pub async fn open(self) -> io::Result<Opened> {
        let stream = TcpSocket::from_std_stream(self.socket.into())
            .connect(self.target)
            .await?;
        let mut opened = Opened {
            client: self.local,
            target: self.target,
            stream,
            diag: Diag::new().map_err(io::Error::other)?,
        };
        let mut pauses = Pauses::default();
        // The client's handshake completes slightly before the server's, which under SYN cookies leaves no trace until then.
        while !opened.is_established()? {
            pauses.next().await;
        }
        Ok(opened)
    }

    /// Connects, and waits until the server has accepted the connection from the queue of the listener `cookie`.
    ///
    /// # Errors
    /// Fails if the connection is refused, or after `patience`.
    pub async fn accepted(self, cookie: u64, patience: Duration) -> io::Result<()> {
        let accepted = async { self.open().await?.accepted(cookie).await };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody accepted the connection");
        tokio::time::timeout(patience, accepted).await.map_err(late)?
    }
}

/// A connection that is established on both sides. The server may not have accepted it yet.
#[derive(Debug)]
pub struct Opened {
    stream: TcpStream,
    target: SocketAddr,
    client: SocketAddr,
    diag: Diag,
}

impl Opened {
    /// Waits until the server has accepted the connection from the queue of the listener `cookie`. A connection that the server has closed
    /// was accepted.
    ///
    /// # Errors
    /// Fails if the connection was reset, or the listener has closed: the connection may have moved to another worker.
    pub async fn accepted(&mut self, cookie: u64) -> io::Result<()> {
        let mut pauses = Pauses::default();
        loop {
            match self.server_side()? {
                ServerSide::Accepted => break,
                ServerSide::Gone if self.has_ended()? => break,
                ServerSide::Gone | ServerSide::Handshake | ServerSide::Queued => pauses.next().await,
            }
        }
        let listeners = self.diag.listeners_on(self.target.port()).map_err(io::Error::other)?;
        if listeners.iter().any(|listener| listener.cookie == cookie) {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the listener has closed",
            ))
        }
    }

    /// Waits until the other end closes the connection. Its data is discarded.
    pub async fn closed(&self) {
        let mut rest = [0; 512];
        loop {
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// The remote address.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// The connection itself.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn is_established(&mut self) -> io::Result<bool> {
        Ok(match self.server_side()? {
            ServerSide::Queued | ServerSide::Accepted => true,
            ServerSide::Handshake => false,
            ServerSide::Gone => self.has_ended()?,
        })
    }

    fn server_side(&mut self) -> io::Result<ServerSide> {
        self.diag
            .server_side(self.target, self.client)
            .map_err(|error| match error {
                DiagError::Io { source, .. } => source,
                other => io::Error::other(other),
            })
    }

    /// Whether the other end has closed the connection.
    fn has_ended(&self) -> io::Result<bool> {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(length) => Ok(length == 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Pauses of growing length.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(LOOK_EVERY.0)
    }
}

impl Pauses {
    async fn next(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LOOK_EVERY.1);
    }
}

/// A socket bound to a free port of the address that it is going to connect to.
fn bound_towards(target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(target.ip(), 0).into())?;
    Ok(socket)
}

fn key_of(local: SocketAddr) -> DirectedKey {
    let octets = match local.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(ip) => ip.octets(),
    };
    let word = |n: usize| u32::from_ne_bytes([octets[n], octets[n + 1], octets[n + 2], octets[n + 3]]);
    DirectedKey {
        address: [word(0), word(4), word(8), word(12)],
        port: local.port().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use super::*;

    /// Also where `net.ipv6.conf.all.disable_ipv6` is 1: such a listener takes IPv4, too.
    #[tokio::test]
    async fn a_listener_on_all_addresses_can_be_reached() {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("bound");
        let connection =
            DirectedConnection::new(listener.local_addr().expect("bound")).expect("an address of this machine");
        let (server, client) = connection.ends();
        let opened = tokio::time::timeout(Duration::from_secs(5), connection.open()).await;
        opened.expect("in time").expect("connected");
        let seen = Diag::new().and_then(|mut diag| diag.server_side(server, client));
        assert_eq!(seen.expect("told"), ServerSide::Queued, "also after our end has closed");
    }

    #[test]
    fn an_address_is_replaced_only_if_it_stands_for_all() {
        let addr = |addr: &str| addr.parse::<SocketAddr>().expect("an address");
        assert_eq!(reachable(addr("0.0.0.0:80")), (addr("127.0.0.1:80"), None));
        let v6 = (addr("[::1]:80"), Some(addr("127.0.0.1:80")));
        assert_eq!(reachable(addr("[::]:80")), v6);
        assert_eq!(reachable(addr("[fe80::1]:80")), (addr("[fe80::1]:80"), None));
    }
}
