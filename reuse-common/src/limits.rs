//! The sizes that both sides agree on.

/// Slots per app.
pub const MAX_SLOTS: usize = 256;

/// Rows of the load table. A slot has up to three instances during a restart; the rest lets an index rest before it is reused.
pub const MAX_INSTANCES: usize = 1024;

/// Listeners that one instance may have in one group (a server may open one per thread).
pub const LISTENERS_PER_INSTANCE: usize = 8;

/// Entries of a group's sockarray.
pub const MAX_MEMBERS: usize = MAX_INSTANCES * LISTENERS_PER_INSTANCE;

/// The row of the backstops. A group's backstop is the controller's own listener in it: it keeps the group and its program alive, and holds
/// connections while nobody is published.
pub const BACKSTOP: u16 = 0;

/// So many published workers least-loaded looks at: up to this many at all of them, above at neighbours from a random one on.
pub const FULL_SCAN: usize = 16;

/// Service ports that an app can name with `--port`.
pub const MAX_PORTS: usize = 16;

/// Where the listener number `nth` of an instance stands in the sockarray.
#[inline(always)]
pub const fn member_index(instance: u16, nth: u16) -> u32 {
    (instance as u32 & (MAX_INSTANCES as u32 - 1)) * LISTENERS_PER_INSTANCE as u32
        + (nth as u32 & (LISTENERS_PER_INSTANCE as u32 - 1))
}

const _: () = assert!(
    MAX_INSTANCES >= 2 * MAX_SLOTS,
    "start-first needs room for two instances of every slot"
);
const _: () =
    assert!(MAX_INSTANCES.is_power_of_two() && MAX_SLOTS.is_power_of_two() && LISTENERS_PER_INSTANCE.is_power_of_two());
