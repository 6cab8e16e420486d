//! Where the kernel keeps what is told of a TCP socket. It differs between kernels: the controller finds it in their type information.

/// Bit of `struct socket`'s flags: the process wants to write more than fits (`linux/net.h`).
pub const SOCK_NOSPACE: u32 = 2;

/// What [`TcpLayout::wake_bytes`] says of a connection that is held back: more than a request has, unless it has a large body.
pub const HELD_WAKE_BYTES: u32 = 64 * 1024 - 7;

/// Offsets in bytes. Those without a remark are in `struct tcp_sock`, which begins with a `struct sock`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "each is the place of what `Flow` or `Connection` describes, or says so"
)]
pub struct TcpLayout {
    /// 1, if the others are.
    pub is_known: u32,
    pub state: u32,
    pub local_port: u32,
    pub cookie: u32,
    pub error: u32,
    /// How many bytes must wait until the process is woken.
    pub wake_bytes: u32,
    pub last_packet_us: u32,
    /// Of the pointer to its cgroup.
    pub cgroup: u32,
    /// In `struct cgroup`: of the pointer to its `struct kernfs_node`.
    pub cgroup_node: u32,
    /// In `struct kernfs_node`.
    pub node_id: u32,
    /// Of the pointer to its `struct socket`.
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
    /// Nothing is known.
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
