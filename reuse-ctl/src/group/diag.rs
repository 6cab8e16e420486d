//! What the kernel says about listeners from outside: inet_diag over netlink, one question for all sockets of the machine.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _, NlasIterator, parse_u64,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

/// The kernel fills answers up to 32 KiB each.
const BUFFER_BYTES: usize = 64 * 1024;
/// The kernel answers while it is asked; only a bug could make us wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// A dump that the kernel says to be inconsistent is asked for again, so often.
const ATTEMPTS: u32 = 3;
/// Attribute of upper-layer protocols, `INET_DIAG_ULP_INFO` in `linux/inet_diag.h`, and the name within it.
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_ULP_INFO_NAME: u16 = 1;
/// Attribute `INET_DIAG_CGROUP_ID`.
const INET_DIAG_CGROUP_ID: u16 = 21;

/// Why the kernel's list of sockets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// A system call on the netlink socket failed.
    #[error("inet_diag: {operation}: {source}")]
    Io {
        /// Which.
        operation: &'static str,
        /// How the kernel answered.
        source: io::Error,
    },
    /// The kernel refused the question. ENOENT: the module `tcp_diag` is missing.
    #[error("inet_diag refused: {0}")]
    Refused(#[source] io::Error),
    /// An answer does not fit the buffer.
    #[error("inet_diag: an answer of {0} bytes was cut off")]
    Truncated(usize),
    /// An answer can't be understood.
    #[error("inet_diag: malformed answer: {0}")]
    Malformed(#[from] netlink_packet_core::DecodeError),
}

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens. Its family is the socket's: `[::]` may well take IPv4 (see `v6only`).
    pub addr: SocketAddr,
    /// The socket's number for its whole life, as `bpf_get_socket_cookie` gives it.
    pub cookie: u64,
    /// What `/proc/<pid>/fd` shows.
    pub inode: u32,
    /// Its effective owner: all members of a group have one.
    pub uid: u32,
    /// Established connections that wait for accept().
    pub queue: u32,
    /// How many may wait.
    pub backlog: u32,
    /// IPv6 only; absent for IPv4.
    pub v6only: Option<bool>,
    /// The id of the cgroup in which it was made: whose it is. Absent before Linux 5.8.
    pub cgroup: Option<u64>,
}

/// A netlink socket for questions, and its buffer. Questions block, but not for long: `listeners_on` a port takes some 80 µs,
/// `listeners` about 5 µs more per listener of the machine, `handshakes` about 1 ms where the table of connections has 262,144
/// places (the kernel walks all of it). It sees the network namespace of the thread that made it.
pub struct Diag {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl std::fmt::Debug for Diag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diag")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Diag {
    /// Opens it. Needs no rights, but only root sees everything about the sockets of others.
    ///
    /// # Errors
    /// The kernel has no inet_diag.
    pub fn new() -> Result<Self, DiagError> {
        let failed = |operation| move |source| DiagError::Io { operation, source };
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.connect(&NetlinkAddr::new(0, 0)).map_err(failed("connect"))?;
        socket2::SockRef::from(&socket)
            .set_read_timeout(Some(PATIENCE))
            .map_err(failed("setsockopt"))?;
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER_BYTES],
            sequence: 0,
        })
    }

    /// Every listening TCP socket, IPv4 and IPv6. The TCP sockets inside MPTCP listeners are left out: they can't be members.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn listeners(&mut self) -> Result<Vec<Listener>, DiagError> {
        self.listeners_on(0)
    }

    /// The same for one port; 0 means all.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn listeners_on(&mut self, port: u16) -> Result<Vec<Listener>, DiagError> {
        let mut listeners = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let found = self.dump(family, StateFlags::LISTEN, port)?;
            listeners.extend(found.iter().filter(|response| !is_mptcp(response)).map(listener));
        }
        Ok(listeners)
    }

    /// How many handshakes are under way (SYN_RECV) to one port, by local address; an IPv4 address is given as such, also where an
    /// IPv6 socket listens. Which listener they are for can't be seen.
    ///
    /// # Errors
    /// See [`DiagError`].
    pub fn handshakes(&mut self, port: u16) -> Result<HashMap<SocketAddr, u32>, DiagError> {
        let mut counts = HashMap::new();
        for family in [AF_INET, AF_INET6] {
            for response in self.dump(family, StateFlags::SYN_RECV, port)? {
                let id = &response.header.socket_id;
                *counts
                    .entry(SocketAddr::new(id.source_address.to_canonical(), id.source_port))
                    .or_insert(0) += 1;
            }
        }
        Ok(counts)
    }

    fn dump(&mut self, family: u8, states: StateFlags, port: u16) -> Result<Vec<InetResponse>, DiagError> {
        let mut attempt = 1;
        loop {
            self.ask(family, states.clone(), port)?;
            match self.answer() {
                // The kernel was interrupted by changes: sockets may be missing. The last attempt must do.
                Ok((_, Completeness::Interrupted)) if attempt < ATTEMPTS => attempt += 1,
                Ok((found, _)) => return Ok(found),
                Err(error) => {
                    // The rest of this answer would be mistaken for the next one's.
                    *self = Self {
                        sequence: self.sequence,
                        ..Self::new()?
                    };
                    return Err(error);
                }
            }
        }
    }

    fn ask(&mut self, family: u8, states: StateFlags, port: u16) -> Result<(), DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let any = if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        };
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            // For what comes along with them: the cgroup's id with the traffic class, the name of the upper layer with the info.
            extensions: ExtensionFlags::TCLASS | ExtensionFlags::INFO,
            states,
            socket_id: SocketId {
                source_port: port,
                ..any
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let length = message.buffer_len();
        message.serialize(&mut self.buffer[..length]);
        loop {
            match self.socket.send(&self.buffer[..length], 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(DiagError::Io {
                        operation: "send",
                        source,
                    });
                }
            }
        }
    }

    fn answer(&mut self) -> Result<(Vec<InetResponse>, Completeness), DiagError> {
        let mut found = Vec::new();
        let mut completeness = Completeness::Complete;
        loop {
            let mut space = self.buffer.as_mut_slice();
            let length = match self.socket.recv(&mut space, libc::MSG_TRUNC) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(DiagError::Io {
                        operation: "recv",
                        source,
                    });
                }
            };
            if length > self.buffer.len() {
                return Err(DiagError::Truncated(length));
            }
            let mut rest = &self.buffer[..length];
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
                // Messages begin at multiples of four.
                let step = usize::try_from(message.header.length)
                    .unwrap_or(usize::MAX)
                    .next_multiple_of(4)
                    .max(16);
                rest = rest.get(step..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    completeness = Completeness::Interrupted;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => found.push(*response),
                    NetlinkPayload::Done(_) => return Ok((found, completeness)),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(DiagError::Refused(error.to_io()));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// `linux/netlink.h`: the dump was inconsistent.
const NLM_F_DUMP_INTR: u16 = 0x10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    Complete,
    Interrupted,
}

fn listener(response: &InetResponse) -> Listener {
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

fn is_mptcp(response: &InetResponse) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::discover::{cookie_of, listener_backlog, listener_queue};
    use crate::process::cgroup::AppCgroup;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Instant;

    fn of(diag: &mut Diag, cookie: u64) -> Option<Listener> {
        diag.listeners()
            .expect("a dump")
            .into_iter()
            .find(|listener| listener.cookie == cookie)
    }

    #[test]
    fn queue_and_backlog_are_seen_from_outside_and_from_the_socket() {
        let mut diag = Diag::new().expect("inet_diag");
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
        socket.bind(&any.into()).expect("bound");
        socket.listen(7).expect("listens");
        let server = TcpListener::from(socket);
        let addr = server.local_addr().expect("bound");
        let clients: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(addr).expect("connected")).collect();

        let cookie = cookie_of(server.as_fd()).expect("a cookie");
        let seen = of(&mut diag, cookie).expect("in the list");
        assert_eq!(
            (seen.addr, seen.queue, seen.backlog, seen.uid, seen.v6only),
            (addr, 3, 7, 0, None)
        );
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&server)));
        assert_eq!(u64::from(seen.inode), inode.expect("open").ino());
        assert_eq!(listener_queue(server.as_fd()).expect("TCP_INFO"), 3);
        assert_eq!(listener_backlog(server.as_fd()).expect("TCP_INFO"), 7);

        drop(server.accept().expect("one waits"));
        assert_eq!(of(&mut diag, cookie).expect("in the list").queue, 2);
        assert_eq!(diag.listeners_on(addr.port()).expect("a dump").len(), 1);
        drop(clients);
        drop(server);
        assert_eq!(of(&mut diag, cookie), None);
    }

    #[test]
    fn dual_stack_and_v6only_are_told_apart() {
        let mut diag = Diag::new().expect("inet_diag");
        for only in [true, false] {
            let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).expect("socket");
            socket.set_only_v6(only).expect("set");
            let any: SocketAddr = "[::]:0".parse().expect("address");
            socket.bind(&any.into()).expect("bound");
            socket.listen(1).expect("listens");
            let seen = of(&mut diag, cookie_of(socket.as_fd()).expect("a cookie")).expect("in the list");
            assert_eq!(seen.v6only, Some(only));
            assert!(seen.addr.is_ipv6() && seen.addr.ip().is_unspecified());
        }
    }

    #[test]
    fn the_cgroup_says_whose_it_is() {
        let mut diag = Diag::new().expect("inet_diag");
        let app = AppCgroup::create(&format!("test-{}-diag", std::process::id())).expect("root");
        let instance = app
            .instance(
                crate::supervisor::interface::SlotId(0),
                crate::supervisor::interface::InstanceId(0),
            )
            .expect("made");
        let script = format!(
            "echo 0 > {}/cgroup.procs; exec /usr/bin/python3 -uc '\n\
             import socket,time\ns=socket.create_server((\"127.0.0.1\",0))\nprint(s.getsockname()[1])\ntime.sleep(600)'",
            instance.path().display()
        );
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut port = String::new();
        let stdout = child.stdout.take().expect("piped");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut port).expect("says its port");
        let seen = diag.listeners_on(port.trim().parse().expect("a port")).expect("a dump");
        child.kill().expect("ours");
        child.wait().expect("ours");
        let id = instance.id();
        app.remove().expect("removed");
        assert_eq!(
            seen.iter().map(|listener| listener.cgroup).collect::<Vec<_>>(),
            [Some(id)]
        );
    }

    #[test]
    fn an_mptcp_listener_is_left_out() {
        let mut diag = Diag::new().expect("inet_diag");
        let mptcp = socket2::Protocol::from(libc::IPPROTO_MPTCP);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(mptcp)).expect("MPTCP");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
        socket.bind(&any.into()).expect("bound");
        socket.listen(1).expect("listens");
        let port = socket.local_addr().expect("bound").as_socket().expect("inet").port();
        let raw = diag.dump(AF_INET, StateFlags::LISTEN, port).expect("a dump");
        assert_eq!(raw.len(), 1, "the kernel shows its inner TCP socket");
        assert_eq!(diag.listeners_on(port).expect("a dump"), []);
    }

    /// From now on a connection stays in SYN_RECV until its first byte.
    fn defer_accept(server: &TcpListener) {
        let seconds: libc::c_int = 30;
        // SAFETY: an open socket, and an int with its size.
        let code = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(server),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                libc::socklen_t::try_from(size_of_val(&seconds)).expect("small"),
            )
        };
        assert_eq!(code, 0);
    }

    #[test]
    fn handshakes_are_counted_by_local_address() {
        let mut diag = Diag::new().expect("inet_diag");
        let server = TcpListener::bind("[::]:0").expect("bound");
        let port = server.local_addr().expect("bound").port();
        defer_accept(&server);
        let hosts = ["127.0.0.1", "127.0.0.1", "::1"];
        let clients: Vec<TcpStream> = hosts
            .iter()
            .map(|host| TcpStream::connect((*host, port)).expect("connected"))
            .collect();
        let expected = |host: &str, count: u32| (SocketAddr::new(host.parse().expect("address"), port), count);
        let counts = diag.handshakes(port).expect("a dump");
        assert_eq!(counts, HashMap::from([expected("127.0.0.1", 2), expected("::1", 1)]));
        io::Write::write_all(&mut &clients[2], b"x").expect("sent");
        drop(server.accept().expect("established by its first byte"));
        assert_eq!(
            diag.handshakes(port).expect("a dump"),
            HashMap::from([expected("127.0.0.1", 2)])
        );
    }

    /// Many enough for several messages of 32 KiB.
    #[test]
    fn long_answers_come_in_parts() {
        let mut diag = Diag::new().expect("inet_diag");
        let servers: Vec<TcpListener> = (0..600)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("bound"))
            .collect();
        let began = Instant::now();
        let seen = diag.listeners().expect("a dump");
        let took = began.elapsed();
        for server in &servers {
            let cookie = cookie_of(server.as_fd()).expect("a cookie");
            assert_eq!(seen.iter().filter(|listener| listener.cookie == cookie).count(), 1);
        }
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
}
