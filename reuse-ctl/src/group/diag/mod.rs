//! Asks the kernel about listeners through inet_diag over netlink: one request for all sockets of the network namespace.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{DecodeError, Parseable as _};
use netlink_packet_sock_diag::constants::IPPROTO_TCP;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, InetResponseHeader, SocketId, StateFlags,
};

mod socket;
mod wire;

pub use socket::{Family, Listener, Queue, ServerSide};

use socket::{is_mptcp, listener, queue, server_side};
use wire::{Completeness, Scope, Wire};

/// How often a dump is requested if the kernel says that it is inconsistent.
const ATTEMPTS: u32 = 3;
/// The cookie field of a request for any socket.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// Why the kernel's list of sockets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// A system call on the netlink socket failed.
    #[error("inet_diag: {operation}: {source}")]
    Io {
        /// The system call.
        operation: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refused the request. ENOENT: the module `tcp_diag` is missing.
    #[error("inet_diag refused: {0}")]
    Refused(#[source] io::Error),
    /// An answer does not fit the buffer.
    #[error("inet_diag: an answer of {0} bytes was cut off")]
    Truncated(usize),
    /// An answer could not be parsed.
    #[error("inet_diag: malformed answer: {0}")]
    Malformed(#[from] DecodeError),
}

/// A netlink socket and its buffer. Requests block, but only briefly. It sees the network namespace of the thread that created it.
pub struct Diag {
    wire: Wire,
}

impl std::fmt::Debug for Diag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diag").finish_non_exhaustive()
    }
}

impl Diag {
    /// Opens the socket. This needs no privileges, but only root sees everything about other users' sockets.
    ///
    /// # Errors
    /// Fails if the kernel has no inet_diag.
    pub fn new() -> Result<Self, DiagError> {
        Ok(Self { wire: Wire::open()? })
    }

    /// Every listening TCP socket, IPv4 and IPv6. The TCP sockets inside MPTCP listeners are left out: they can't be members.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn listeners(&mut self) -> Result<Vec<Listener>, DiagError> {
        self.listeners_on(0)
    }

    /// Every listening TCP socket on one port; 0 means all ports.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn listeners_on(&mut self, port: u16) -> Result<Vec<Listener>, DiagError> {
        let mut listeners = Vec::new();
        for family in Family::ALL {
            // Requested for what the kernel sends along with them: the cgroup id comes with the traffic class, the name of the upper layer
            // with the info.
            let extensions = ExtensionFlags::TCLASS | ExtensionFlags::INFO;
            let found = self.dump(family, StateFlags::LISTEN, port, extensions, InetResponse::parse)?;
            listeners.extend(found.iter().filter(|response| !is_mptcp(response)).map(listener));
        }
        Ok(listeners)
    }

    /// The queues of all listeners of one family on one port (0 means all ports). Costs a third of `listeners_on`.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn queues(&mut self, family: Family, port: u16) -> Result<Vec<Queue>, DiagError> {
        let nothing_else = ExtensionFlags::empty();
        let found = self.dump(
            family,
            StateFlags::LISTEN,
            port,
            nothing_else,
            InetResponseHeader::parse,
        )?;
        Ok(found.iter().map(queue).collect())
    }

    /// Number of pending handshakes (SYN_RECV) to one port, by local address. An IPv4 address is given as IPv4 even if an IPv6 socket
    /// listens. The kernel does not tell which listener a handshake belongs to.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn handshakes(&mut self, port: u16) -> Result<HashMap<SocketAddr, u32>, DiagError> {
        let mut counts = HashMap::new();
        for family in Family::ALL {
            let found = self.dump(
                family,
                StateFlags::SYN_RECV,
                port,
                ExtensionFlags::empty(),
                InetResponseHeader::parse,
            )?;
            for header in found {
                let id = &header.socket_id;
                *counts
                    .entry(SocketAddr::new(id.source_address.to_canonical(), id.source_port))
                    .or_insert(0) += 1;
            }
        }
        Ok(counts)
    }

    /// The state of the server's end of the connection from `client` to `server`.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn server_side(&mut self, server: SocketAddr, client: SocketAddr) -> Result<ServerSide, DiagError> {
        let request = InetRequest {
            family: Family::of(server).number(),
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: server.port(),
                destination_port: client.port(),
                source_address: server.ip(),
                destination_address: client.ip(),
                interface_id: 0,
                cookie: ANY_COOKIE,
            },
        };
        let mut found = None;
        let asked = self.wire.ask(request, Scope::One).and_then(|()| {
            self.wire.answers(Scope::One, |bytes| {
                found = Some(InetResponseHeader::parse(bytes)?);
                Ok(())
            })
        });
        match asked {
            Ok(_) => Ok(found.map_or(ServerSide::Gone, |header| server_side(&header))),
            Err(DiagError::Refused(error)) if error.kind() == io::ErrorKind::NotFound => Ok(ServerSide::Gone),
            Err(error) => self.reopened_after(error),
        }
    }

    fn dump<T>(
        &mut self,
        family: Family,
        states: StateFlags,
        port: u16,
        extensions: ExtensionFlags,
        parse: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DiagError> {
        let mut attempt = 1;
        let mut found = Vec::new();
        loop {
            found.clear();
            let request = InetRequest {
                family: family.number(),
                protocol: IPPROTO_TCP,
                extensions: extensions.clone(),
                states: states.clone(),
                socket_id: SocketId {
                    source_port: port,
                    ..family.any()
                },
            };
            let answered = self.wire.ask(request, Scope::All).and_then(|()| {
                self.wire.answers(Scope::All, |bytes| {
                    found.push(parse(bytes)?);
                    Ok(())
                })
            });
            match answered {
                // The result of the last attempt is used even if it is inconsistent.
                Ok(Completeness::Interrupted) if attempt < ATTEMPTS => attempt += 1,
                Ok(_) => return Ok(found),
                Err(error) => return self.reopened_after(error),
            }
        }
    }

    /// Opens a new socket after an error: the rest of a failed answer would be mistaken for the next answer.
    fn reopened_after<T>(&mut self, error: DiagError) -> Result<T, DiagError> {
        self.wire = Wire::open()?;
        Err(error)
    }
}

#[cfg(test)]
mod tests;
