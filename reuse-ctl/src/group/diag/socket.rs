//! The data that inet_diag returns about one socket, and how it is parsed.

use std::net::SocketAddr;

use netlink_packet_core::{Nla as _, NlasIterator, parse_u64};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{InetResponse, InetResponseHeader, SocketId};

/// Attribute of upper-layer protocols (`linux/inet_diag.h`), and the name within it.
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_ULP_INFO_NAME: u16 = 1;
/// Attribute `INET_DIAG_CGROUP_ID`.
const INET_DIAG_CGROUP_ID: u16 = 21;

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address it listens on. The family is the socket's: `[::]` may also accept IPv4 (see `v6only`).
    pub addr: SocketAddr,
    /// The socket's cookie, as returned by `bpf_get_socket_cookie`.
    pub cookie: u64,
    /// The inode, as shown in `/proc/<pid>/fd`.
    pub inode: u32,
    /// The uid of its owner: all members of a group have the same one.
    pub uid: u32,
    /// Established connections that wait for accept().
    pub queue: u32,
    /// The maximum length of the queue.
    pub backlog: u32,
    /// For IPv6 only; `None` for IPv4.
    pub v6only: Option<bool>,
    /// The id of the cgroup in which the socket was created. `None` before Linux 5.8.
    pub cgroup: Option<u64>,
}

/// A listener's queue, without the rest of [`Listener`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// As in [`Listener`].
    pub cookie: u64,
    /// As in [`Listener`].
    pub addr: SocketAddr,
    /// As in [`Listener`].
    pub queue: u32,
}

/// The address families. Each needs a request of its own; an IPv6 socket that also accepts IPv4 counts as IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6
    V6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of a socket on this address.
    pub const fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }

    pub(super) fn any(self) -> SocketId {
        match self {
            Self::V4 => SocketId::new_v4(),
            Self::V6 => SocketId::new_v6(),
        }
    }
}

/// The state of the server's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerSide {
    /// The handshake is not complete.
    Handshake,
    /// Established, and in a listener's accept queue.
    Queued,
    /// Accepted by the server.
    Accepted,
    /// There is none: the server has closed the connection, or its listener.
    Gone,
}

pub(super) fn server_side(header: &InetResponseHeader) -> ServerSide {
    const ESTABLISHED: u8 = 1;
    const SYN_RECV: u8 = 3;
    const CLOSE_WAIT: u8 = 8;
    const NEW_SYN_RECV: u8 = 12;
    match header.state {
        SYN_RECV | NEW_SYN_RECV => ServerSide::Handshake,
        // A connection that nobody has accepted has no file, hence no inode.
        ESTABLISHED | CLOSE_WAIT if header.inode == 0 => ServerSide::Queued,
        ESTABLISHED | CLOSE_WAIT => ServerSide::Accepted,
        _ => ServerSide::Gone,
    }
}

pub(super) fn queue(header: &InetResponseHeader) -> Queue {
    let id = &header.socket_id;
    Queue {
        cookie: u64::from_ne_bytes(id.cookie),
        addr: SocketAddr::new(id.source_address, id.source_port),
        queue: header.recv_queue,
    }
}

pub(super) fn listener(response: &InetResponse) -> Listener {
    let header = &response.header;
    let v6only = response.nlas.iter().find_map(|nla| match nla {
        Nla::SkV6Only(only) => Some(*only),
        _ => None,
    });
    Listener {
        addr: SocketAddr::new(header.socket_id.source_address, header.socket_id.source_port),
        cookie: u64::from_ne_bytes(header.socket_id.cookie),
        inode: header.inode,
        uid: header.uid,
        queue: header.recv_queue,
        backlog: header.send_queue,
        v6only,
        cgroup: attribute(response, INET_DIAG_CGROUP_ID).and_then(|value| parse_u64(&value).ok()),
    }
}

pub(super) fn is_mptcp(response: &InetResponse) -> bool {
    let Some(upper_layer) = attribute(response, INET_DIAG_ULP_INFO) else {
        return false;
    };
    NlasIterator::new(&upper_layer)
        .flatten()
        .any(|nla| nla.kind() == INET_ULP_INFO_NAME && nla.value().starts_with(b"mptcp\0"))
}

fn attribute(response: &InetResponse, kind: u16) -> Option<Vec<u8>> {
    let Some(Nla::Other(other)) = response.nlas.iter().find(|nla| nla.kind() == kind) else {
        return None;
    };
    let mut value = vec![0; other.value_len()];
    other.emit_value(&mut value);
    Some(value)
}
