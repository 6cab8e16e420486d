//! The sizes that both sides agree on.

/// Slots per app.
pub const MAX_SLOTS: usize = 256;

/// Rows of the load table. A slot has up to three instances during a restart; the others let a row rest before it is reused.
pub const MAX_ROWS: usize = 1024;

/// Listeners that one instance may have in one group (a server may open one per thread).
pub const LISTENERS_PER_INSTANCE: usize = 8;

/// Entries of a group's sockarray.
pub const MAX_MEMBERS: usize = MAX_ROWS * LISTENERS_PER_INSTANCE;

/// So many published workers least-loaded looks at: up to this many at all of them, above at neighbours from a random one on.
pub const FULL_SCAN: usize = 16;

/// Service ports that an app can name with `--port`.
pub const MAX_PORTS: usize = 16;

const _: () = assert!(
    MAX_ROWS >= 2 * MAX_SLOTS,
    "start-first needs room for two instances of every slot"
);
const _: () =
    assert!(MAX_ROWS.is_power_of_two() && MAX_SLOTS.is_power_of_two() && LISTENERS_PER_INSTANCE.is_power_of_two());
