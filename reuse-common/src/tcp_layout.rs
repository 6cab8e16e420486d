//! Where the kernel keeps the fields of a TCP socket that the programs read. The offsets differ between kernels; the controller finds them
//! in the kernel's type information.

/// Bit of `struct socket`'s flags: the process wants to write more than the buffer holds (`linux/net.h`).
pub const SOCK_NOSPACE: u32 = 2;

/// The value at [`TcpLayout::wake_bytes`] for a connection that is held back: longer than any request without a large body.
pub const HELD_WAKE_BYTES: u32 = 64 * 1024 - 7;

/// Offsets in bytes: into `struct tcp_sock`, which begins with a `struct sock`, unless the field says otherwise.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "each is the place of what `Flow` or `Connection` describes, or says so"
)]
pub struct TcpLayout {
    /// 1 if the other fields are valid.
    pub is_known: u32,
    pub state: u32,
    pub local_port: u32,
    pub cookie: u32,
    pub error: u32,
    /// Number of bytes that must arrive before the process is woken.
    pub wake_bytes: u32,
    pub last_packet_us: u32,
    /// The pointer to the socket's cgroup.
    pub cgroup: u32,
    /// In `struct cgroup`: the pointer to its `struct kernfs_node`.
    pub cgroup_node: u32,
    /// In `struct kernfs_node`.
    pub node_id: u32,
    /// The pointer to the `struct socket`.
    pub socket: u32,
    /// In `struct socket`.
    pub socket_flags: u32,
    pub received: u32,
    pub read: u32,
    pub written: u32,
    pub sent: u32,
    pub acknowledged: u32,
    pub acknowledged_at: u32,
    pub received_tick: u32,
    pub sent_tick: u32,
}

impl TcpLayout {
    /// No offset is known.
    pub const UNKNOWN: Self = Self {
        is_known: 0,
        state: 0,
        local_port: 0,
        cookie: 0,
        error: 0,
        wake_bytes: 0,
        last_packet_us: 0,
        cgroup: 0,
        cgroup_node: 0,
        node_id: 0,
        socket: 0,
        socket_flags: 0,
        received: 0,
        read: 0,
        written: 0,
        sent: 0,
        acknowledged: 0,
        acknowledged_at: 0,
        received_tick: 0,
        sent_tick: 0,
    };
}

const _: () = assert!(size_of::<TcpLayout>() == 80);

crate::plain_data!(TcpLayout);
