//! Picks a listener: for a new connection, and for one whose listener closed.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, bpf_hdr_start_off::BPF_HDR_START_NET, bpf_sock, sk_action},
    helpers::{
        bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_ktime_get_coarse_ns, bpf_skb_load_bytes,
        bpf_skb_load_bytes_relative,
    },
    macros::sk_reuseport,
    programs::SkReuseportContext,
};
use aya_log_ebpf::{debug, info, warn};
use reuse_common::{
    Policy, cell,
    choose::{self, Sticky},
    client::{ClientKey, ClientMask, ClientRecord},
    limits::{LOT, member_index},
    load::{Loads, epoch},
    rendezvous::Buckets,
    seats::{Membership, Seat},
    settings::{DirectedKey, GroupState, Settings},
    verdict::Verdict,
};

use crate::maps::{
    self, BUCKETS, CLIENTS, DIRECTED, GROUP, LISTENERS, MEMBERS, MEMBERSHIP, MIGRATED, MIGRATIONS, VERDICTS,
};

const IPV4: u32 = (0x0800_u16).to_be() as u32;
const ESTABLISHED: u32 = 1;
const CLOSE_WAIT: u32 = 8;

/// When the chosen listener has gone in this very moment, so many others are tried before the lot.
const OTHER_SEATS: u32 = 4;

/// Attached to each group.
#[sk_reuseport(migrate)]
pub(crate) fn select(ctx: SkReuseportContext) -> u32 {
    let verdict = try_select(&ctx);
    if let Some(counts) = VERDICTS.get_ptr_mut(0) {
        // SAFETY: the entry belongs to this processor.
        *unsafe { (*counts).counter(verdict) } += 1;
    }
    match verdict {
        Verdict::Chosen | Verdict::Directed | Verdict::Parked | Verdict::Migrated => sk_action::SK_PASS,
        Verdict::Refused => sk_action::SK_DROP,
        Verdict::Fallback => {
            warn!(&ctx, "no listener could be selected: the kernel's hash decides");
            sk_action::SK_PASS
        }
    }
}

#[inline(always)]
fn try_select(ctx: &SkReuseportContext) -> Verdict {
    let (Some(app), Some(group)) = (maps::app(), GROUP.get_ptr_mut(0)) else {
        return Verdict::Fallback;
    };
    let (settings, loads) = (app.settings(), app.loads());
    // SAFETY: the field's address is in bounds and aligned.
    let active = unsafe { cell::read(&raw const (*group).active) } & 1;
    let (Some(membership), Some(buckets)) = (MEMBERSHIP.get(active), BUCKETS.get(active)) else {
        return Verdict::Fallback;
    };
    // SAFETY: reads a field of the context.
    let migrating = unsafe { (*ctx.md).__bindgen_anon_4.migrating_sk };
    if migrating.is_null()
        && settings.directed > 0
        && let Some(instance) = directed_to(ctx)
    {
        // Its target, or nobody: who asks for one worker must not be answered by another.
        if !pick(ctx, instance, 1) {
            return Verdict::Refused;
        }
        loads.selected(instance);
        loads.directed(instance);
        return Verdict::Directed;
    }
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let connection = Connection {
        settings,
        loads,
        group,
        membership,
        buckets,
        migrating,
        now_ns,
    };
    match connection
        .place(ctx)
        .and_then(|place| pick_from(ctx, membership, place))
    {
        Some(seat) if migrating.is_null() => {
            loads.selected(seat.instance());
            loads.reserve(seat.instance(), epoch(now_ns));
            Verdict::Chosen
        }
        Some(seat) => connection.migrated_to(ctx, seat.instance()),
        // Nobody is published, or all that were tried have closed in this moment.
        // SAFETY: the field's address is in bounds and aligned.
        // Only a new connection is refused: one that was established already waits for whoever comes.
        None if migrating.is_null() && unsafe { cell::read(&raw const (*group).refuse_when_empty) } != 0 => {
            Verdict::Refused
        }
        None if !pick(ctx, LOT, 1) => Verdict::Fallback,
        None if migrating.is_null() => Verdict::Parked,
        None => connection.migrated_to(ctx, LOT),
    }
}

const POLICY_HASH: u32 = Policy::Hash as u32;
const POLICY_ROUND_ROBIN: u32 = Policy::RoundRobin as u32;
const POLICY_STICKY: u32 = Policy::Sticky as u32;

/// A connection that needs a listener, and what is known at this moment.
struct Connection<'a> {
    settings: &'a Settings,
    loads: Loads,
    group: *mut GroupState,
    membership: &'a Membership,
    buckets: &'a Buckets,
    /// Null for a new connection. Else its socket (or its handshake's), whose listener has closed: there is no packet then, or an
    /// empty one, and addresses come from here.
    migrating: *mut bpf_sock,
    now_ns: u64,
}

impl Connection<'_> {
    /// Asks the policy. `None` while nobody is published.
    #[inline(always)]
    fn place(&self, ctx: &SkReuseportContext) -> Option<u32> {
        if self.membership.count() == 0 {
            return None;
        }
        Some(match self.settings.policy {
            POLICY_HASH => choose::by_hash(self.membership, self.buckets, ctx.hash()),
            POLICY_STICKY => self.by_client(ctx)?,
            policy => match self.by_share() {
                Some(place) => place,
                None if policy == POLICY_ROUND_ROBIN => {
                    // SAFETY: the field's address is in bounds and aligned.
                    choose::by_turn(self.membership, unsafe {
                        cell::add_u64(&raw mut (*self.group).cursor, 1)
                    })
                }
                // POLICY_LEAST_LOADED; the controller writes no other number.
                None => choose::by_load(self.membership, self.loads, epoch(self.now_ns), random()),
            },
        })
    }

    /// A seat with a fixed share, if there are any and it is its turn.
    #[inline(always)]
    fn by_share(&self) -> Option<u32> {
        if !self.membership.has_shares() {
            return None;
        }
        // SAFETY: the field's address is in bounds and aligned.
        let draw = unsafe { cell::add_u64(&raw mut (*self.group).draws, 1) };
        choose::by_share(self.membership, draw)
    }

    #[inline(always)]
    fn by_client(&self, ctx: &SkReuseportContext) -> Option<u32> {
        let client = self.client(ctx)?;
        // SAFETY: the record is copied at once; an entry that is replaced meanwhile gives an older or newer slot, both valid.
        let recorded =
            unsafe { CLIENTS.get(&client) }.and_then(|record| record.slot(self.now_ns, self.settings.client_ttl_ticks));
        let sticky = choose::by_client(
            self.membership,
            self.buckets,
            self.loads,
            &client,
            recorded,
            epoch(self.now_ns),
        );
        match sticky {
            Sticky::Moved(place, from) => {
                debug!(
                    ctx,
                    "a client moved from worker {} to {}",
                    from,
                    self.membership.seat(place).slot()
                );
            }
            Sticky::Kept(_) | Sticky::New(_) => {}
        }
        Some(sticky.place())
    }

    #[inline(always)]
    fn client(&self, ctx: &SkReuseportContext) -> Option<ClientKey> {
        let mask = &self.settings.client_mask;
        if !self.migrating.is_null() {
            Some(client_of_socket(self.migrating, mask))
        } else if ctx.eth_protocol() == IPV4 {
            network::<u32>(ctx, 12).map(|address| ClientKey::from_v4(address, mask))
        } else {
            network::<[u32; 4]>(ctx, 8).map(|address| ClientKey::from_v6(address, mask))
        }
    }

    /// Accounts for a connection that was moved off a closed listener.
    #[inline(always)]
    fn migrated_to(&self, ctx: &SkReuseportContext, to: u16) -> Verdict {
        // SAFETY: `sk` is never null here (it is the closed listener), and neither is `migrating`.
        let (listener, state) = unsafe { ((*ctx.md).__bindgen_anon_3.sk, (*self.migrating).state) };
        if state != ESTABLISHED && state != CLOSE_WAIT {
            // A handshake has not been counted anywhere yet, and its connection will inherit the new listener's stamp.
            return Verdict::Migrated;
        }
        // SAFETY: the helper accepts both sockets.
        let (from_cookie, cookie) = unsafe {
            (
                bpf_get_socket_cookie(listener.cast()),
                bpf_get_socket_cookie(self.migrating.cast()),
            )
        };
        // SAFETY: the value is copied at once.
        let from = unsafe { LISTENERS.get(&from_cookie) }.map_or(LOT, |&instance| instance as u16);
        self.loads.migrated(from, to);
        // The connection's stamp goes on naming the old instance: `track` looks here first.
        let _ = MIGRATED.insert(&cookie, u32::from(to), u64::from(BPF_ANY));
        if let Some(count) = MIGRATIONS.get_ptr_mut(0) {
            // SAFETY: a live map value.
            unsafe { cell::add_u64(count, 1) };
        }
        if self.settings.policy == POLICY_STICKY && to != LOT {
            let client = client_of_socket(self.migrating, &self.settings.client_mask);
            let _ = CLIENTS.insert(
                &client,
                ClientRecord::new(self.loads.slot(to), self.now_ns),
                u64::from(BPF_ANY),
            );
        }
        info!(ctx, "a queued connection moved from instance {} to {}", from, to);
        Verdict::Migrated
    }
}

/// Selects the seat's listener, or a neighbour's if that one has just closed.
#[inline(always)]
fn pick_from<'a>(ctx: &SkReuseportContext, membership: &'a Membership, place: u32) -> Option<&'a Seat> {
    let count = membership.count().max(1);
    for attempt in 0..=OTHER_SEATS {
        // A remainder and not a comparison: one branch more here doubles the verifier's work five times over.
        let seat = membership.seat((place + attempt) % count);
        if pick(ctx, seat.instance(), seat.listeners()) {
            return Some(seat);
        }
    }
    None
}

#[inline(always)]
fn pick(ctx: &SkReuseportContext, instance: u16, listeners: u16) -> bool {
    let nth = choose::listener(ctx.hash(), listeners);
    MEMBERS.select_reuseport(ctx, member_index(instance, nth)).is_ok()
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

/// Reads from the network header.
#[inline(always)]
fn network<T: Default>(ctx: &SkReuseportContext, offset: u32) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper writes at most the size of `value`, an integer or an array of them.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.as_ptr(),
            offset,
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    (result == 0).then_some(value)
}

#[inline(always)]
fn client_of_socket(socket: *const bpf_sock, mask: &ClientMask) -> ClientKey {
    // SAFETY: `migrating_sk` was tested for null; these fields are readable of any socket.
    unsafe {
        if (*socket).family == 2 {
            ClientKey::from_v4((*socket).dst_ip4, mask)
        } else {
            let words = &raw const (*socket).dst_ip6;
            let word = |n| cell::read(words.cast::<u32>().add(n));
            ClientKey::from_v6([word(0), word(1), word(2), word(3)], mask)
        }
    }
}

/// Where the controller wants this connection, if it is one of its own.
#[inline(always)]
fn directed_to(ctx: &SkReuseportContext) -> Option<u16> {
    let address = if ctx.eth_protocol() == IPV4 {
        [0, 0, 0xffff_u32.to_be(), network::<u32>(ctx, 12)?]
    } else {
        network::<[u32; 4]>(ctx, 8)?
    };
    let mut port = 0_u16;
    // SAFETY: the data starts at the transport header, whose first two bytes are the source port.
    let result = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), 0, (&raw mut port).cast(), 2) };
    if result != 0 {
        return None;
    }
    let key = DirectedKey {
        address,
        port: u32::from(u16::from_be(port)),
    };
    // SAFETY: the value is copied at once.
    unsafe { DIRECTED.get(&key) }.map(|&instance| instance as u16)
}
