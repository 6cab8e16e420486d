//! Makes any server's listener a member: sets SO_REUSEPORT before the bind, marks the port as a service's, and prevents MPTCP. A worker
//! must not bind a port that the controller has left to another program.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_socket_cookie, bpf_setsockopt},
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use reuse_common::{
    cell,
    notice::{Notice, NoticeKind},
};

use crate::maps::{self, INSTANCES, UNSTEERED};

const STREAM: u32 = 1;
const TCP: u32 = 6;
const MPTCP: u32 = 262;
const SOL_SOCKET: i32 = 1;
const SO_REUSEPORT: i32 = 15;

/// Allows the call.
const ALLOW: i32 = 1;
/// Fails the call with EPERM.
const DENY: i32 = 0;

/// Refuses MPTCP sockets: an MPTCP listener can't be a member of a group. Servers that ask for one (Go ≥ 1.24) then fall back to TCP.
#[cgroup_sock(sock_create)]
pub(crate) fn no_mptcp(ctx: SockContext) -> i32 {
    // SAFETY: reads a field of the context.
    if unsafe { (*ctx.sock).protocol } == MPTCP {
        DENY
    } else {
        ALLOW
    }
}

/// Runs when a worker binds an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    // SAFETY: reads a field of the context.
    joining(&ctx, 2, |ctx| [0, 0, 0, unsafe { (*ctx.sock_addr).user_ip4 }])
}

/// Runs when a worker binds an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    joining(&ctx, 10, |ctx| {
        // SAFETY: reads fields of the context.
        let word = |n: usize| unsafe { (*ctx.sock_addr).user_ip6[n] };
        [word(0), word(1), word(2), word(3)]
    })
}

#[inline(always)]
fn joining(ctx: &SockAddrContext, family: u32, address: impl Fn(&SockAddrContext) -> [u32; 4]) -> i32 {
    // SAFETY: reads fields of the context.
    let (kind, protocol, port) = unsafe {
        let address = ctx.sock_addr;
        (
            (*address).type_,
            (*address).protocol,
            u16::from_be((*address).user_port as u16),
        )
    };
    // The verifier of Linux 6.1 loses the bounds of a number whose bytes are swapped, and the port table is indexed by it.
    let port = (cell::opaque(port.into()) & 0xffff) as u16;
    let Some(app) = maps::app() else { return ALLOW };
    let settings = app.settings();
    let is_foreign = app.is_foreign(port);
    if kind != STREAM || protocol != TCP || !(is_foreign || settings.serves(port)) {
        return ALLOW;
    }
    // SAFETY: no preconditions.
    let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(settings.cgroup_level.cast_signed()) };
    // SAFETY: the value is copied at once.
    let Some(&row) = (unsafe { INSTANCES.get(&cgroup) }) else {
        return ALLOW;
    };
    let notice = |cookie| Notice {
        kind: NoticeKind::Bind as u32,
        row,
        cookie,
        address: address(ctx),
        family,
        port: port.into(),
    };
    if is_foreign {
        maps::notify(notice(0));
        return DENY;
    }
    let mut on = 1_i32;
    // SAFETY: the option's value is a live int. If the call fails, the server gets its own EADDRINUSE.
    let _ = unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_REUSEPORT, (&raw mut on).cast(), 4) };
    // SAFETY: reads a field of the context.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() {
        return ALLOW;
    }
    app.serve(port);
    UNSTEERED.mark(socket);
    // SAFETY: the helper accepts the context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    maps::notify(notice(cookie));
    ALLOW
}
