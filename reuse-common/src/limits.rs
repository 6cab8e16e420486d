//! Sizes that the BPF programs and the controller agree on.

/// Slots per app.
pub const MAX_SLOTS: usize = 256;

/// Rows of the load table. A slot has up to three instances during a restart; the spare rows allow a row to rest before it is reused.
pub const MAX_ROWS: usize = 1024;

/// Listeners that one instance may have in one group (a server may open one per thread).
pub const LISTENERS_PER_INSTANCE: usize = 8;

/// Entries of a group's sockarray.
pub const MAX_MEMBERS: usize = MAX_ROWS * LISTENERS_PER_INSTANCE;

/// Number of published workers that `least-loaded` compares: all of them up to this number, else this many neighbours from a random one on.
pub const FULL_SCAN: usize = 16;

/// Service ports that an app can name with `--port`.
pub const MAX_PORTS: usize = 16;

const _: () = assert!(
    MAX_ROWS >= 2 * MAX_SLOTS,
    "start-first needs room for two instances of every slot"
);
const _: () =
    assert!(MAX_ROWS.is_power_of_two() && MAX_SLOTS.is_power_of_two() && LISTENERS_PER_INSTANCE.is_power_of_two());
