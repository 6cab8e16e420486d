//! Sends requests to the kernel's inet_diag over a netlink socket, and receives the raw answers.

use std::{io, time::Duration};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use netlink_packet_sock_diag::{SockDiagMessage, inet::InetRequest};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::DiagError;

/// The kernel sends answers of up to 32 KiB each.
const BUFFER_BYTES: usize = 64 * 1024;
/// Receive timeout. The kernel answers within the request, so only a bug could make us wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// `linux/netlink.h`: the dump was inconsistent; the type of an error message; the type of the message that ends a dump.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// The socket and its buffer. It sees the network namespace of the thread that created it.
pub(super) struct Wire {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

/// Whether the kernel's tables changed while it answered, so that sockets may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completeness {
    Complete,
    Interrupted,
}

/// The scope of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every socket that matches.
    All,
    /// Only the socket that the request names.
    One,
}

impl Wire {
    pub(super) fn open() -> Result<Self, DiagError> {
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

    pub(super) fn ask(&mut self, request: InetRequest, scope: Scope) -> Result<(), DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = match scope {
            Scope::All => NLM_F_REQUEST | NLM_F_DUMP,
            Scope::One => NLM_F_REQUEST,
        };
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

    /// Passes every answer (a `struct inet_diag_msg` and its attributes) to `each`, until the kernel says that there are no more; with
    /// [`Scope::One`] there is at most one. After an error, open a new socket: the rest of the answer would be mistaken for the next one.
    pub(super) fn answers(
        &mut self,
        scope: Scope,
        mut each: impl FnMut(&[u8]) -> Result<(), DiagError>,
    ) -> Result<Completeness, DiagError> {
        let mut completeness = Completeness::Complete;
        loop {
            let length = self.receive()?;
            let mut rest = &self.buffer[..length];
            while let Some(message) = Message::first_of(rest)? {
                rest = rest.get(message.step..).unwrap_or_default();
                if message.sequence != self.sequence {
                    continue;
                }
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    completeness = Completeness::Interrupted;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(completeness),
                    NLMSG_ERROR => return Err(DiagError::Refused(message.error()?)),
                    _ => each(message.payload)?,
                }
                if scope == Scope::One {
                    return Ok(completeness);
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize, DiagError> {
        loop {
            let mut space = self.buffer.as_mut_slice();
            match self.socket.recv(&mut space, libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => return Err(DiagError::Truncated(length)),
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(DiagError::Io {
                        operation: "recv",
                        source,
                    });
                }
            }
        }
    }
}

/// One netlink message. Only its header is parsed.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
    /// Offset of the next message.
    step: usize,
}

impl<'a> Message<'a> {
    fn first_of(bytes: &'a [u8]) -> Result<Option<Self>, DiagError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let cut_short = || DiagError::Malformed("a message ends before its length".into());
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let header = || Some((word(0)?, half(4)?, half(6)?, word(8)?));
        let (length, kind, flags, sequence) = header().ok_or_else(cut_short)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some(Self {
            kind,
            flags,
            sequence,
            payload: bytes.get(HEADER_BYTES..length).ok_or_else(cut_short)?,
            // Messages are aligned to four bytes.
            step: length.next_multiple_of(4),
        }))
    }

    /// The error of an error message, which carries a negative errno.
    fn error(&self) -> Result<io::Error, DiagError> {
        let code = self.payload.first_chunk().map(|code| i32::from_ne_bytes(*code));
        let code = code.ok_or_else(|| DiagError::Malformed("a refusal without a reason".into()))?;
        Ok(io::Error::from_raw_os_error(code.wrapping_neg()))
    }
}
