//! Counts established connections per row, records sticky clients, and notifies the controller when a listener appears or disappears.
//!
//! Attached to the cgroup of every instance and to that of the backstops. A connection is in its listener's cgroup from its first packet
//! on, also in the accept queue, and the cgroup's storage names the row. So nothing has to be stored per connection.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_LISTEN_CB},
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
    macros::sock_ops,
    programs::SockOpsContext,
};
use reuse_common::{
    Policy,
    app::App,
    cell,
    client::{ClientKey, ClientRecord},
    cuts::{Cuts, WORKED_ON_US},
    ids::{Row, SlotId},
    load::epoch,
    notice::{Notice, NoticeKind},
    settings::{DirectedKey, Settings},
};

use crate::{
    maps::{self, CLIENTS, DIRECTED, LISTENERS, MIGRATED, UNSTEERED},
    tcp::TcpSocket,
};

const IPV4: u32 = 2;
const ESTABLISHED: u32 = 1;
const CLOSE_WAIT: u32 = 8;
const LISTEN: u32 = 10;

/// Attached to the cgroup of each instance.
#[sock_ops]
pub(crate) fn track(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_STATE_CB => changed(&ctx, ctx.arg(0), ctx.arg(1)),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listens(&ctx),
        _ => {}
    }
    1
}

/// Asks the kernel for callbacks on state changes of the listener and of its connections, which inherit the setting. Records the listener's
/// row, which `select` needs once the listener has closed. Not at the bind, since sockets that only bind would push listeners out of the
/// table.
#[inline(always)]
fn listens(ctx: &SockOpsContext) {
    if app_of(ctx).is_none() {
        return;
    }
    let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG).cast_signed());
    // SAFETY: the helper accepts the context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let _ = LISTENERS.insert(&cookie, maps::row().to_map(), u64::from(BPF_ANY));
    tell(ctx, NoticeKind::Listen);
}

#[inline(always)]
fn changed(ctx: &SockOpsContext, old: u32, new: u32) {
    let counted = |state| state == ESTABLISHED || state == CLOSE_WAIT;
    if old != LISTEN && counted(old) == counted(new) {
        return;
    }
    let Some(app) = app_of(ctx) else { return };
    if old == LISTEN {
        tell(ctx, NoticeKind::Close);
    } else if counted(new) {
        entered(ctx, app);
    } else {
        left(ctx, app, old == CLOSE_WAIT);
    }
}

/// The app, if the socket belongs to a service. An instance also has other sockets, and another program may have asked for their state
/// changes.
#[inline(always)]
fn app_of(ctx: &SockOpsContext) -> Option<App> {
    maps::app().filter(|app| app.is_service(ctx.local_port() as u16))
}

#[inline(always)]
fn entered(ctx: &SockOpsContext, app: App) {
    let (settings, loads, row) = (app.settings(), app.loads(), maps::row());
    loads.entered(row, !is_unsteered(ctx));
    if settings.weighs_loads() {
        let now_ns = now_ns();
        loads.unreserve(row, epoch(now_ns));
        if row != Row::BACKSTOP
            && let Some(client) = client(ctx, settings)
        {
            // The client keeps this slot from now on. It is recorded when the connection is established and not at the SYN, so that a flood
            // of made-up addresses evicts nobody.
            let slot = loads.slot(row);
            if !renew(&client, slot, now_ns) {
                let _ = CLIENTS.insert(&client, ClientRecord::new(slot, now_ns), u64::from(BPF_ANY));
            }
        }
    }
    // After the count: a controller that asks at this moment either sees the connection or is told of it.
    if app.take_wake() {
        tell(ctx, NoticeKind::Traffic);
    }
}

#[inline(always)]
fn left(ctx: &SockOpsContext, app: App, client_closed: bool) {
    let (settings, loads) = (app.settings(), app.loads());
    let mut row = maps::row();
    if app.has_moved() {
        // SAFETY: the helper accepts the context.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
        // SAFETY: the value is copied at once.
        if let Some(&moved_to) = unsafe { MIGRATED.get(&cookie) } {
            row = Row::from_map(moved_to);
            let _ = MIGRATED.remove(&cookie);
        }
    }
    loads.left(row);
    count_cut(ctx, row, client_closed);
    if let Some(client) = client(ctx, settings) {
        // A long connection keeps its client's record fresh, but doesn't take back a client that has since moved to another slot.
        renew(&client, loads.slot(row), now_ns());
    }
}

/// For an instance that is being stopped: counts a connection that its process ended before answering. A connection that the client ended,
/// by a reset or by closing first, was not cut.
#[inline(always)]
fn count_cut(ctx: &SockOpsContext, row: Row, client_closed: bool) {
    let Some(cuts) = maps::cuts() else { return };
    let counting = cuts.counting(row);
    if counting == Cuts::NOTHING || client_closed {
        return;
    }
    // SAFETY: reads a field of the context.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return;
    }
    let Some(tcp) = TcpSocket::of(socket) else { return };
    if tcp.error() != 0 {
        return;
    }
    let flow = tcp.flow(client_closed);
    let mut in_flight = flow.would_be_cut();
    if counting == Cuts::WORKED_ON {
        // A request that the process has not read was not worked on.
        in_flight &= !flow.has_unread();
        // SAFETY: no preconditions.
        let now_us = unsafe { bpf_ktime_get_ns() } / 1000;
        in_flight &= now_us.saturating_sub(tcp.last_packet_us()) >= WORKED_ON_US;
    }
    if in_flight || counting == Cuts::EVERYTHING {
        cuts.add(row, in_flight);
    }
}

/// Refreshes the record of this client on this slot. Returns whether there is one.
#[inline(always)]
fn renew(client: &ClientKey, slot: SlotId, now_ns: u64) -> bool {
    // SAFETY: a live map value.
    CLIENTS
        .get_ptr_mut(client)
        .is_some_and(|record| unsafe { ClientRecord::renew(record, slot, now_ns) })
}

/// The client to record: only under `sticky`, and not for the controller's own connections.
#[inline(always)]
fn client(ctx: &SockOpsContext, settings: &Settings) -> Option<ClientKey> {
    if settings.policy != Policy::Sticky as u32 {
        return None;
    }
    let address = remote_address(ctx);
    if settings.directed > 0 {
        let key = DirectedKey {
            address,
            port: u32::from_be(ctx.remote_port()),
        };
        // SAFETY: only the presence matters.
        if unsafe { DIRECTED.get(&key) }.is_some() {
            return None;
        }
    }
    Some(ClientKey::from_v6(address, &settings.client_mask))
}

/// The remote address, IPv4 as `::ffff:a.b.c.d`. Every field is read, volatile, before the family decides: otherwise the compiler computes
/// the field's address, and the verifier allows only fixed offsets into the context.
#[inline(always)]
fn remote_address(ctx: &SockOpsContext) -> [u32; 4] {
    // SAFETY: reads fields of the context.
    let (v4, v6) = unsafe {
        let word = |n: usize| cell::read(&raw const (*ctx.ops).remote_ip6[n]);
        (
            cell::read(&raw const (*ctx.ops).remote_ip4),
            [word(0), word(1), word(2), word(3)],
        )
    };
    if ctx.family() == IPV4 {
        [0, 0, 0xffff_u32.to_be(), v4]
    } else {
        v6
    }
}

/// The local address; see [`remote_address`].
#[inline(always)]
fn local_address(ctx: &SockOpsContext) -> [u32; 4] {
    // SAFETY: reads fields of the context.
    let (v4, v6) = unsafe {
        let word = |n: usize| cell::read(&raw const (*ctx.ops).local_ip6[n]);
        (
            cell::read(&raw const (*ctx.ops).local_ip4),
            [word(0), word(1), word(2), word(3)],
        )
    };
    if ctx.family() == IPV4 { [0, 0, 0, v4] } else { v6 }
}

/// Whether the connection's listener was not steered when the connection was made.
#[inline(always)]
fn is_unsteered(ctx: &SockOpsContext) -> bool {
    // SAFETY: reads a field of the context.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    !socket.is_null() && UNSTEERED.has(socket)
}

/// Sends the controller a notice about this socket.
#[inline(always)]
fn tell(ctx: &SockOpsContext, kind: NoticeKind) {
    maps::notify(Notice {
        kind: kind as u32,
        row: maps::row().to_map(),
        // SAFETY: the helper accepts the context.
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        address: local_address(ctx),
        family: ctx.family(),
        port: ctx.local_port(),
    });
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}
