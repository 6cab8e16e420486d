//! Counts established connections per instance, records sticky clients, and tells when a listener appears or disappears.
//!
//! Attached to the app's cgroup: it sees the sockets of every instance, those still in an accept queue included.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_ANY, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_LISTEN_CB,
    },
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_coarse_ns},
    macros::sock_ops,
    programs::SockOpsContext,
};
use reuse_common::{
    Policy,
    app::App,
    cell,
    client::{ClientKey, ClientRecord},
    limits::LOT,
    load::{Loads, epoch},
    notice::{Notice, NoticeKind},
    settings::{DirectedKey, Settings, Stamp},
};

use crate::maps::{self, CLIENTS, DIRECTED, LISTENERS, MIGRATED, MIGRATIONS, STAMPS};

const IPV4: u32 = 2;
const ESTABLISHED: u32 = 1;
const CLOSE_WAIT: u32 = 8;
const LISTEN: u32 = 10;

/// Attached to the app's cgroup.
#[sock_ops]
pub(crate) fn track(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        // This comes before the state changes to ESTABLISHED: counting happens on state changes alone.
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => watch_states(&ctx),
        BPF_SOCK_OPS_TCP_LISTEN_CB => {
            watch_states(&ctx);
            register(&ctx);
            tell(&ctx, NoticeKind::Listen);
        }
        BPF_SOCK_OPS_STATE_CB => changed(&ctx, ctx.arg(0), ctx.arg(1)),
        _ => {}
    }
    1
}

#[inline(always)]
fn watch_states(ctx: &SockOpsContext) {
    let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG).cast_signed());
}

/// Remembers whose the listener is: `select` needs it when the listener has closed. Not at the bind, since sockets that only bind would
/// push listeners out of the table.
#[inline(always)]
fn register(ctx: &SockOpsContext) {
    if let Some(stamp) = stamp(ctx) {
        // SAFETY: the helper accepts the context.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
        let _ = LISTENERS.insert(&cookie, stamp.instance, u64::from(BPF_ANY));
    }
}

#[inline(always)]
fn changed(ctx: &SockOpsContext, old: u32, new: u32) {
    let counted = |state| state == ESTABLISHED || state == CLOSE_WAIT;
    if old == LISTEN {
        tell(ctx, NoticeKind::Close);
    } else if counted(old) != counted(new)
        && let (Some(app), Some(stamp)) = (maps::app(), stamp(ctx))
    {
        if counted(new) {
            entered(ctx, app, stamp);
        } else {
            left(ctx, app.settings(), app.loads(), stamp);
        }
    }
}

#[inline(always)]
fn entered(ctx: &SockOpsContext, app: App, stamp: Stamp) {
    let loads = app.loads();
    // SAFETY: no preconditions.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let instance = stamp.instance as u16;
    loads.entered(instance, epoch(now_ns), stamp.steered != 0);
    remember(ctx, app.settings(), loads, instance, now_ns);
    // After the count: a controller that asks in this moment either sees the connection or is told of it.
    if app.take_wake() {
        tell(ctx, NoticeKind::Traffic);
    }
}

#[inline(always)]
fn left(ctx: &SockOpsContext, settings: &Settings, loads: Loads, stamp: Stamp) {
    let mut instance = stamp.instance as u16;
    if MIGRATIONS.get(0).is_some_and(|&count| count > 0) {
        // SAFETY: the helper accepts the context.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
        // SAFETY: the value is copied at once.
        if let Some(&moved_to) = unsafe { MIGRATED.get(&cookie) } {
            instance = moved_to as u16;
            let _ = MIGRATED.remove(&cookie);
        }
    }
    loads.left(instance);
    if let Some(client) = client(ctx, settings) {
        // A long connection keeps its client's record fresh, but never takes a client back that has moved on meanwhile.
        // SAFETY: no preconditions; the record is copied at once.
        let (now_ns, record) = unsafe { (bpf_ktime_get_coarse_ns(), CLIENTS.get(&client)) };
        let slot = loads.slot(instance);
        if record.is_some_and(|record| record.slot(now_ns, 0) == Some(slot)) {
            let _ = CLIENTS.insert(&client, ClientRecord::new(slot, now_ns), u64::from(BPF_ANY));
        }
    }
}

/// The client keeps this slot from now on. Recorded when its connection is established and not at the SYN, so that a flood of
/// made-up addresses evicts nobody.
#[inline(always)]
fn remember(ctx: &SockOpsContext, settings: &Settings, loads: Loads, instance: u16, now_ns: u64) {
    if instance == LOT {
        return;
    }
    if let Some(client) = client(ctx, settings) {
        let _ = CLIENTS.insert(
            &client,
            ClientRecord::new(loads.slot(instance), now_ns),
            u64::from(BPF_ANY),
        );
    }
}

/// The client to record: under `sticky`, and unless the connection is one of the controller's own.
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

/// The other end, IPv4 as `::ffff:a.b.c.d`. Every field is read, and volatile, before the family decides: else the compiler computes
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

/// This end; see [`remote_address`].
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

#[inline(always)]
fn stamp(ctx: &SockOpsContext) -> Option<Stamp> {
    // SAFETY: reads a field of the context.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() { None } else { STAMPS.get(socket) }
}

/// Says what happened to a stamped socket.
#[inline(always)]
fn tell(ctx: &SockOpsContext, kind: NoticeKind) {
    let Some(stamp) = stamp(ctx) else { return };
    maps::notify(Notice {
        kind: kind as u32,
        instance: stamp.instance,
        // SAFETY: the helper accepts the context.
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        address: local_address(ctx),
        family: ctx.family(),
        port: ctx.local_port(),
    });
}
