//! Picks a listener for a new connection, and for a connection whose listener closed.
//!
//! [`select`] handles the common case: the policy names a seat, and the seat's listener is open. Everything else goes to [`thoroughly`], a
//! separate function, so that neither the CPU nor the verifier meets that code on the common path.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, bpf_hdr_start_off::BPF_HDR_START_NET, bpf_sock, sk_action, sk_reuseport_md},
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_coarse_ns, bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
    macros::sk_reuseport,
    programs::SkReuseportContext,
};
use aya_log_ebpf::{debug, info, warn};
use reuse_common::{
    Policy,
    app::App,
    cell, choose,
    client::{ClientKey, ClientMask, ClientRecord},
    group::{Group, Published},
    ids::{MemberIndex, Place, Row},
    load::{Loads, Moment, epoch},
    seats::{Membership, Seat},
    settings::{DirectedKey, Settings},
    verdict::Verdict,
};

use crate::maps::{self, CLIENTS, DIRECTED, LISTENERS, MEMBERS, MIGRATED};

const IPV4: u32 = (0x0800_u16).to_be() as u32;
const ESTABLISHED: u32 = 1;
const SYN_RECV: u32 = 3;
const CLOSE_WAIT: u32 = 8;
const NEW_SYN_RECV: u32 = 12;

/// If the chosen listener has just closed, this many other seats are tried before the backstop.
const OTHER_SEATS: u32 = 4;

const POLICY_HASH: u32 = Policy::Hash as u32;
const POLICY_ROUND_ROBIN: u32 = Policy::RoundRobin as u32;
const POLICY_STICKY: u32 = Policy::Sticky as u32;
const _: () = assert!(
    Policy::ALL.len() == 4,
    "`place` takes every other number for least-loaded"
);

/// Attached to each group.
#[sk_reuseport(migrate)]
pub(crate) fn select(ctx: SkReuseportContext) -> u32 {
    if choose_at_once(&ctx) {
        return sk_action::SK_PASS;
    }
    thoroughly(ctx.md)
}

/// Handles a new connection for which the policy's choice is open. Returns whether a listener was selected.
#[inline(always)]
fn choose_at_once(ctx: &SkReuseportContext) -> bool {
    let Some(connection) = Connection::new(ctx) else {
        return false;
    };
    if !connection.migrating.is_null() || connection.settings().directed > 0 {
        return false;
    }
    let Some(place) = connection.place(ctx) else {
        return false;
    };
    let seat = connection.published.membership.seat(place);
    let is_picked = pick(ctx, seat.row(), seat.listeners());
    if is_picked {
        connection.chosen(seat);
    }
    is_picked
}

/// Handles every other connection: moved ones, directed ones, and those that find no published instance.
#[inline(never)]
fn thoroughly(md: *mut sk_reuseport_md) -> u32 {
    let ctx = SkReuseportContext::new(md);
    let Some(connection) = Connection::new(&ctx) else {
        // Never: its maps are arrays, and the index is in bounds.
        return sk_action::SK_PASS;
    };
    let verdict = connection.decide(&ctx);
    connection.group.count(verdict);
    match verdict {
        Verdict::Chosen | Verdict::Directed | Verdict::Parked | Verdict::Migrated => sk_action::SK_PASS,
        Verdict::Refused => sk_action::SK_DROP,
        Verdict::Fallback => {
            warn!(&ctx, "no listener could be selected: the kernel's hash decides");
            sk_action::SK_PASS
        }
    }
}

/// A connection that needs a listener, and the tables that are needed to choose it.
struct Connection<'a> {
    app: App,
    group: Group,
    published: Published<'a>,
    /// Null for a new connection. Otherwise the socket (or handshake) whose listener has closed. There is no packet then, or an empty one,
    /// so addresses are read from the socket.
    migrating: *mut bpf_sock,
    /// The time, if the policy compares loads; else 0.
    now_ns: u64,
}

impl Connection<'_> {
    /// `None` never happens, because these array maps always have their value.
    #[inline(always)]
    fn new(ctx: &SkReuseportContext) -> Option<Self> {
        let (app, group) = (maps::app()?, maps::group()?);
        Some(Self {
            // SAFETY: the helper has no preconditions.
            now_ns: if app.settings().weighs_loads() {
                unsafe { bpf_ktime_get_coarse_ns() }
            } else {
                0
            },
            app,
            group,
            published: group.published(),
            // SAFETY: reads a field of the context.
            migrating: unsafe { (*ctx.md).__bindgen_anon_4.migrating_sk },
        })
    }

    #[inline(always)]
    fn settings(&self) -> &'static Settings {
        self.app.settings()
    }

    #[inline(always)]
    fn decide(&self, ctx: &SkReuseportContext) -> Verdict {
        let is_new = self.migrating.is_null();
        let loads = self.app.loads();
        if is_new
            && self.settings().directed > 0
            && let Some(row) = directed_to(ctx)
        {
            // Only the target, or refusal: a connection meant for one worker must not be answered by another.
            if !pick(ctx, row, 1) {
                return Verdict::Refused;
            }
            loads.selected(row);
            loads.directed(row);
            return Verdict::Directed;
        }
        let seat = self
            .place(ctx)
            .and_then(|place| pick_from(ctx, self.published.membership, place));
        match seat {
            Some(seat) if is_new => {
                self.selected(seat);
                Verdict::Chosen
            }
            Some(seat) => self.migrated_to(ctx, seat.row()),
            // Nobody is published, or every listener tried has just closed.
            // Only a new connection is refused; an established one waits in the backstop.
            None if is_new && self.group.refuses_when_empty() => Verdict::Refused,
            None if !pick(ctx, Row::BACKSTOP, 1) => Verdict::Fallback,
            None if is_new => Verdict::Parked,
            None => self.migrated_to(ctx, Row::BACKSTOP),
        }
    }

    /// The place that the policy chooses. `None` while nobody is published.
    #[inline(always)]
    fn place(&self, ctx: &SkReuseportContext) -> Option<Place> {
        let Published { membership, places } = self.published;
        if membership.count() == 0 {
            return None;
        }
        Some(match self.settings().policy {
            POLICY_HASH => choose::by_hash(places, ctx.hash()),
            POLICY_STICKY => self.by_client(ctx)?,
            policy => match self.by_share() {
                Some(place) => place,
                None if policy == POLICY_ROUND_ROBIN => choose::by_turn(membership, self.group.next_turn()),
                // POLICY_LEAST_LOADED; the controller writes no other number. The kernel's hash of addresses and ports includes a secret,
                // so it serves as a random number.
                None => least_loaded(membership, self.app.loads(), self.now_ns, ctx.hash()),
            },
        })
    }

    /// The seat with a fixed share that this connection falls to, if any.
    #[inline(always)]
    fn by_share(&self) -> Option<Place> {
        let membership = self.published.membership;
        if membership.has_shares() {
            choose::by_share(membership, self.group.next_draw())
        } else {
            None
        }
    }

    #[inline(always)]
    fn by_client(&self, ctx: &SkReuseportContext) -> Option<Place> {
        let client = self.client(ctx)?;
        // SAFETY: the record is copied at once. If the entry is replaced meanwhile, the slot is an older or newer one; both are valid.
        let recorded = unsafe { CLIENTS.get(&client) }
            .and_then(|record| record.slot(self.now_ns, self.settings().client_ttl_ticks));
        Some(match choose::by_record(self.published.membership, recorded) {
            Some(place) => place,
            None => place_for_new_client(
                ctx.md,
                &client,
                recorded.map_or(NOT_RECORDED, |slot| slot.0.into()),
                self.now_ns,
            ),
        })
    }

    #[inline(always)]
    fn client(&self, ctx: &SkReuseportContext) -> Option<ClientKey> {
        let mask = &self.settings().client_mask;
        if !self.migrating.is_null() {
            Some(client_of_socket(self.migrating, mask))
        } else if ctx.eth_protocol() == IPV4 {
            network::<u32>(ctx, 12).map(|address| ClientKey::from_v4(address, mask))
        } else {
            network::<[u32; 4]>(ctx, 8).map(|address| ClientKey::from_v6(address, mask))
        }
    }

    /// Counts a new connection whose listener was selected, in the group and in the seat's row.
    #[inline(always)]
    fn chosen(&self, seat: &Seat) {
        self.selected(seat);
        self.group.count(Verdict::Chosen);
    }

    /// Counts the connection in the seat's row.
    #[inline(always)]
    fn selected(&self, seat: &Seat) {
        let loads = self.app.loads();
        loads.selected(seat.row());
        // After a change of policy, connections that are just being established are missing from the load until they are established.
        if self.settings().weighs_loads() {
            loads.reserve(seat.row(), epoch(self.now_ns));
        }
    }

    /// Counts a connection that was moved off a closed listener.
    #[inline(always)]
    fn migrated_to(&self, ctx: &SkReuseportContext, to: Row) -> Verdict {
        // SAFETY: `sk` is never null here (it is the closed listener), and neither is `migrating`.
        let (listener, state) = unsafe { ((*ctx.md).__bindgen_anon_3.sk, (*self.migrating).state) };
        if state == SYN_RECV || state == NEW_SYN_RECV {
            // A handshake has not been counted yet, and its connection will be in the new listener's cgroup.
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
        let from = unsafe { LISTENERS.get(&from_cookie) }.map_or(Row::BACKSTOP, |&row| Row::from_map(row));
        let loads = self.app.loads();
        if state != ESTABLISHED && state != CLOSE_WAIT {
            // The client has reset the connection. It still waits to be accepted and counts in the totals, but its end was counted already.
            loads.migrated_closed(from, to);
            return Verdict::Migrated;
        }
        loads.migrated(from, to);
        // The connection stays in the old instance's cgroup: `track` looks here first.
        let _ = MIGRATED.insert(&cookie, to.to_map(), u64::from(BPF_ANY));
        self.app.note_move();
        if self.settings().policy == POLICY_STICKY && to != Row::BACKSTOP {
            let client = client_of_socket(self.migrating, &self.settings().client_mask);
            let record = ClientRecord::new(loads.slot(to), self.now_ns);
            let _ = CLIENTS.insert(&client, record, u64::from(BPF_ANY));
        }
        info!(ctx, "a queued connection moved from row {} to {}", from.0, to.0);
        Verdict::Migrated
    }
}

/// `least-loaded` in a function of its own, so that the scan has all registers.
#[inline(never)]
fn least_loaded(membership: &Membership, loads: Loads, now_ns: u64, random: u32) -> Place {
    choose::by_load(membership, loads, Moment::at(now_ns), random)
}

/// Passed to [`place_for_new_client`] if the client has no recorded slot.
const NOT_RECORDED: u32 = u32::MAX;

/// `sticky`: for a client that is new, or whose slot is not published any more.
#[inline(never)]
fn place_for_new_client(md: *mut sk_reuseport_md, client: &ClientKey, recorded: u32, now_ns: u64) -> Place {
    let ctx = SkReuseportContext::new(md);
    let (Some(app), Some(group)) = (maps::app(), maps::group()) else {
        return Place(0);
    };
    let Published { membership, places } = group.published();
    let place = choose::for_new_client(membership, places, app.loads(), client, Moment::at(now_ns));
    if recorded != NOT_RECORDED {
        let to = membership.seat(place).slot();
        debug!(&ctx, "a client moved from worker {} to {}", recorded, to.0);
    }
    place
}

/// Selects the seat's listener, or that of a neighbouring seat if the listener has just closed.
#[inline(always)]
fn pick_from<'a>(ctx: &SkReuseportContext, membership: &'a Membership, place: Place) -> Option<&'a Seat> {
    let count = membership.count().max(1);
    for attempt in 0..=OTHER_SEATS {
        // A remainder instead of a comparison: one more branch here makes the verifier's work five times as large.
        let seat = membership.seat(place.further(attempt, count));
        if pick(ctx, seat.row(), seat.listeners()) {
            return Some(seat);
        }
    }
    None
}

#[inline(always)]
fn pick(ctx: &SkReuseportContext, row: Row, listeners: u16) -> bool {
    let nth = choose::listener(ctx.hash(), listeners);
    MEMBERS.select_reuseport(ctx, MemberIndex::new(row, nth).key()).is_ok()
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

/// The row that the controller directs this connection to, if it is one of the controller's own.
#[inline(always)]
fn directed_to(ctx: &SkReuseportContext) -> Option<Row> {
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
    unsafe { DIRECTED.get(&key) }.map(|&row| Row::from_map(row))
}
