//! Reads the kernel's own structures of a TCP socket.
//!
//! The offsets of the fields differ between kernels. The controller finds them in the kernel's type information and writes them into
//! [`LAYOUT`] before it loads the programs. The verifier then treats the offsets as constants, and checks every read against the same
//! types.

use aya_ebpf::helpers::bpf_skc_to_tcp_sock;
use reuse_common::{
    in_flight::Flow,
    tcp_layout::{HELD_WAKE_BYTES, SOCK_NOSPACE, TcpLayout},
};

/// All zeroes while unknown.
#[unsafe(no_mangle)]
static LAYOUT: TcpLayout = TcpLayout::UNKNOWN;

pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const CLOSE_WAIT: u8 = 8;

/// A TCP socket of the kernel that is neither a handshake nor in TIME_WAIT.
#[derive(Clone, Copy)]
pub(crate) struct TcpSocket(*const u8);

/// Reads one number of [`LAYOUT`]. Volatile, since the controller replaces the value that was compiled in.
#[inline(always)]
fn known(number: *const u32) -> usize {
    // SAFETY: part of a live static.
    (unsafe { number.read_volatile() }) as usize
}

impl TcpSocket {
    /// `None` also if the layout is unknown.
    #[inline(always)]
    pub(crate) fn of<T>(socket: *mut T) -> Option<Self> {
        if known(&raw const LAYOUT.is_known) == 0 {
            return None;
        }
        // SAFETY: the helper accepts every socket, including null.
        let found = unsafe { bpf_skc_to_tcp_sock(socket.cast()) };
        (!found.is_null()).then_some(Self(found.cast_const().cast()))
    }

    #[inline(always)]
    fn u32_at(self, offset: usize) -> u32 {
        // SAFETY: the verifier checks it against the kernel's types.
        unsafe { self.0.add(offset).cast::<u32>().read_volatile() }
    }

    #[inline(always)]
    fn u64_at(self, offset: usize) -> u64 {
        // SAFETY: as above.
        unsafe { self.0.add(offset).cast::<u64>().read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        // SAFETY: as above.
        unsafe { self.0.add(known(&raw const LAYOUT.state)).read_volatile() }
    }

    /// Host byte order.
    #[inline(always)]
    pub(crate) fn local_port(self) -> u16 {
        // SAFETY: as above.
        unsafe {
            self.0
                .add(known(&raw const LAYOUT.local_port))
                .cast::<u16>()
                .read_volatile()
        }
    }

    /// The kernel's address of the socket. It tells sockets apart that exist at the same time.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        self.u64_at(known(&raw const LAYOUT.cookie))
    }

    /// The socket's error. It is set by a received reset and by a timeout; then the process did not end the connection.
    #[inline(always)]
    pub(crate) fn error(self) -> u32 {
        self.u32_at(known(&raw const LAYOUT.error))
    }

    /// Whether the process is not woken for further requests.
    #[inline(always)]
    pub(crate) fn is_held(self) -> bool {
        self.u32_at(known(&raw const LAYOUT.wake_bytes)) == HELD_WAKE_BYTES
    }

    #[inline(always)]
    pub(crate) fn last_packet_us(self) -> u64 {
        self.u64_at(known(&raw const LAYOUT.last_packet_us))
    }

    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        // SAFETY: the kernel's own pointers, which the verifier follows by their types; a read through a null pointer yields 0.
        unsafe {
            let cgroup = self
                .0
                .add(known(&raw const LAYOUT.cgroup))
                .cast::<*const u8>()
                .read_volatile();
            if cgroup.is_null() {
                return 0;
            }
            let node = cgroup
                .add(known(&raw const LAYOUT.cgroup_node))
                .cast::<*const u8>()
                .read_volatile();
            if node.is_null() {
                return 0;
            }
            node.add(known(&raw const LAYOUT.node_id)).cast::<u64>().read_volatile()
        }
    }

    #[inline(always)]
    fn is_full(self) -> bool {
        // SAFETY: as above.
        unsafe {
            let socket = self
                .0
                .add(known(&raw const LAYOUT.socket))
                .cast::<*const u8>()
                .read_volatile();
            if socket.is_null() {
                return false;
            }
            let flags = socket
                .add(known(&raw const LAYOUT.socket_flags))
                .cast::<u64>()
                .read_volatile();
            flags >> SOCK_NOSPACE & 1 == 1
        }
    }

    /// The caller passes `client_closed`, because during a state change the socket may have the old state or the new one.
    #[inline(always)]
    pub(crate) fn flow(self, client_closed: bool) -> Flow {
        Flow {
            received: self.u32_at(known(&raw const LAYOUT.received)),
            read: self.u32_at(known(&raw const LAYOUT.read)),
            written: self.u32_at(known(&raw const LAYOUT.written)),
            sent: self.u32_at(known(&raw const LAYOUT.sent)),
            acknowledged: self.u32_at(known(&raw const LAYOUT.acknowledged)),
            acknowledged_at: self.u32_at(known(&raw const LAYOUT.acknowledged_at)),
            received_tick: self.u32_at(known(&raw const LAYOUT.received_tick)),
            sent_tick: self.u32_at(known(&raw const LAYOUT.sent_tick)),
            client_closed: client_closed.into(),
            is_full: self.is_full().into(),
        }
    }
}
