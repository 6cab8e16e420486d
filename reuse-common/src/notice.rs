//! Notices from the BPF programs to the controller, through the ring buffer.

/// An event on a worker's listener, or on one of its connections.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// A [`NoticeKind`] as a number.
    pub kind: u32,
    /// Row of the load table. For a bind: of the process that binds; else of the cgroup in which the socket was created (0 for the
    /// backstops).
    pub row: u32,
    /// The socket's cookie.
    pub cookie: u64,
    /// Local address: IPv6, or IPv4 in the last word with `family` 2; network byte order.
    pub address: [u32; 4],
    /// 2 (IPv4) or 10 (IPv6).
    pub family: u32,
    /// Local port, host byte order.
    pub port: u32,
}

/// The kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// A process is about to bind.
    Bind = 1,
    /// The socket has started to listen.
    Listen = 2,
    /// The socket has stopped listening.
    Close = 3,
    /// A connection came while the controller slept. Sent once each time the controller asks to be woken.
    Traffic = 4,
}

impl NoticeKind {
    /// The kind of this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Bind),
            2 => Some(Self::Listen),
            3 => Some(Self::Close),
            4 => Some(Self::Traffic),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<Notice>() == 40);

crate::plain_data!(Notice);
