//! Sizes that the BPF programs and the controller agree on.

/// Slots per app.
pub const MAX_SLOTS: usize = 256;

/// Rows of the load table. A slot has up to three instances during a restart; the spare rows allow a row to rest before it is reused.
pub const MAX_ROWS: usize = 1024;

/// Listeners of one instance that a group takes in: a server may open one per thread, and has them twice while it reloads itself.
pub const LISTENERS_PER_INSTANCE: usize = 128;

/// Entries of a group's sockarray: so many for each row that a chosen instance needs no further look-up. The kernel keeps 8 bytes for
/// each, so a group costs 1 MiB.
pub const MEMBER_INDEXES: usize = MAX_ROWS * LISTENERS_PER_INSTANCE;

/// Listeners that a group takes in. The kernel's own limit for a group is 65,535.
pub const MAX_MEMBERS: usize = 16_384;

/// Listeners of an app whose instance the programs know: those of several groups, and twice as many during a reload.
pub const MAX_KNOWN_LISTENERS: usize = 8 * MAX_MEMBERS;

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
