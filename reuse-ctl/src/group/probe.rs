//! One connection to one worker behind a shared port: how an inherited listener is known to be served.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use reuse_common::settings::DirectedKey;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpSocket;

use super::{diag::Diag, groups::reachable};

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A connection that is about to be made. Its local end is bound, so that the program can be told beforehand whose it is.
#[derive(Debug)]
pub struct Probe {
    socket: Socket,
    target: SocketAddr,
    key: DirectedKey,
}

impl Probe {
    /// Binds the local end of a connection to the listener on `addr`.
    ///
    /// # Errors
    /// The address is not one of this machine.
    pub fn new(addr: SocketAddr) -> io::Result<Self> {
        let target = reachable(addr);
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(target.ip(), 0).into())?;
        socket.set_nonblocking(true)?;
        let local = socket
            .local_addr()?
            .as_socket()
            .expect("an inet socket has an inet address");
        Ok(Self {
            socket,
            target,
            key: key_of(local),
        })
    }

    /// What the program has to be told before [`accepted`](Self::accepted), and to forget afterwards.
    pub fn key(&self) -> DirectedKey {
        self.key
    }

    /// Connects, and waits until the server has taken the connection from its queue, which is that of the listener `cookie`.
    ///
    /// # Errors
    /// It is refused, or `patience` is over.
    pub async fn accepted(self, cookie: u64, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let port = self.target.port();
        let connecting = TcpSocket::from_std_stream(self.socket.into()).connect(self.target);
        let late = || io::Error::new(io::ErrorKind::TimedOut, "nobody accepted the connection");
        let stream = tokio::time::timeout(patience, connecting).await.map_err(|_| late())??;
        let mut diag = Diag::new().map_err(io::Error::other)?;
        // The client's side of the handshake is complete an instant before the server's: a look in between would find an empty queue.
        tokio::time::sleep(LOOK_EVERY).await;
        loop {
            let listeners = diag.listeners_on(port).map_err(io::Error::other)?;
            match listeners.iter().find(|listener| listener.cookie == cookie) {
                Some(listener) if listener.queue == 0 => break,
                Some(_) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                Some(_) => return Err(late()),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the listener has closed",
                    ));
                }
            }
        }
        drop(stream);
        Ok(())
    }
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
