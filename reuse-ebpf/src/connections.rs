//! Lists the established connections of the app's services whenever the controller reads the iterator. A worker may be told to stop
//! depending on what is in flight. The program also holds back further requests where the controller asks for it.

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_ktime_get_ns, bpf_seq_write, bpf_setsockopt},
};
use reuse_common::{cuts::Cuts, ids::Row, in_flight::Connection, tcp_layout::HELD_WAKE_BYTES};

use crate::{
    maps::{self, INSTANCES, MIGRATED},
    tcp::{CLOSE_WAIT, ESTABLISHED, TcpSocket},
};

const SOL_SOCKET: i32 = 1;
const SO_RCVLOWAT: i32 = 18;

/// The row of the connection's instance: the one it moved to, else that of its cgroup. If there is neither, the row of the backstops.
#[inline(always)]
fn row_of(cookie: u64, cgroup: u64) -> Row {
    // SAFETY: the values are copied at once.
    let row = unsafe {
        match MIGRATED.get(&cookie) {
            Some(row) if cookie != 0 => Some(row),
            _ => INSTANCES.get(&cgroup),
        }
    };
    row.map_or(Row::BACKSTOP, |&row| Row::from_map(row))
}

/// Makes the kernel wake the process only when this many bytes wait to be read.
#[inline(always)]
fn wake_at(socket: *mut u8, bytes: u32) {
    // SAFETY: the socket is locked, and the option is an int of this size. If the call fails, the connection stays as it is.
    unsafe {
        bpf_setsockopt(
            socket.cast(),
            SOL_SOCKET,
            SO_RCVLOWAT,
            (&raw const bytes).cast_mut().cast(),
            size_of::<u32>() as i32,
        );
    }
}

/// What the kernel hands to a program for each TCP socket of the network namespace (`struct bpf_iter__tcp`).
#[repr(C)]
pub(crate) struct TcpIteration {
    meta: *const Meta,
    socket: *mut u8,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    output: *mut seq_file,
}

/// The iterator over all TCP sockets. It writes a [`Connection`] for each connection of the app's services.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn connections(ctx: *mut TcpIteration) -> i32 {
    // SAFETY: the kernel's context.
    let (meta, socket) = unsafe { ((*ctx).meta, (*ctx).socket) };
    if socket.is_null() {
        return 0;
    }
    let (Some(tcp), Some(app)) = (TcpSocket::of(socket), maps::app()) else {
        return 0;
    };
    let state = tcp.state();
    if (state != ESTABLISHED && state != CLOSE_WAIT) || !app.is_service(tcp.local_port()) {
        return 0;
    }
    let (cookie, cgroup) = (tcp.cookie(), tcp.cgroup_id());
    let flow = tcp.flow(state == CLOSE_WAIT);
    // The socket is locked, so its state can't change in between.
    if let Some(cuts) = maps::cuts() {
        match cuts.holding(row_of(cookie, cgroup)) {
            Cuts::HOLD if !flow.is_in_flight() => wake_at(socket, HELD_WAKE_BYTES),
            Cuts::RELEASE if tcp.is_held() => wake_at(socket, 1),
            _ => {}
        }
    }
    let connection = Connection {
        cookie,
        cgroup,
        last_packet_us: tcp.last_packet_us(),
        // SAFETY: no preconditions.
        now_us: unsafe { bpf_ktime_get_ns() } / 1000,
        socket: tcp.address(),
        is_held: u64::from(tcp.is_held()),
        flow,
    };
    // SAFETY: the sequence file is the kernel's, and the record is on the stack. If the file is full, the kernel calls again for this
    // socket.
    unsafe {
        bpf_seq_write(
            (*meta).output,
            (&raw const connection).cast(),
            size_of::<Connection>() as u32,
        );
    }
    0
}
