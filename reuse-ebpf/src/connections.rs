//! Lists the established connections of the app's services, whenever the controller reads it: what is in flight decides when a worker may be
//! told to end.

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_ktime_get_ns, bpf_seq_write},
};
use reuse_common::in_flight::Connection;

use crate::{
    maps,
    tcp::{CLOSE_WAIT, ESTABLISHED, TcpSocket},
};

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

/// An iterator over all TCP sockets; it writes a [`Connection`] for each that counts.
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
    let connection = Connection {
        cookie: tcp.cookie(),
        cgroup: tcp.cgroup_id(),
        last_packet_us: tcp.last_packet_us(),
        // SAFETY: no preconditions.
        now_us: unsafe { bpf_ktime_get_ns() } / 1000,
        socket: tcp.address(),
        flow: tcp.flow(state == CLOSE_WAIT),
    };
    // SAFETY: the sequence file is the kernel's, the record lives on the stack. A full file has the kernel call again for this socket.
    unsafe {
        bpf_seq_write(
            (*meta).output,
            (&raw const connection).cast(),
            size_of::<Connection>() as u32,
        );
    }
    0
}
