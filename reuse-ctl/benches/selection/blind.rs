//! The programs that ours is compared with: one that does nothing, and one that selects without a look at anything.

use std::os::fd::RawFd;

/// `r0 = 1; exit`: SK_PASS, and the kernel's hash decides outside of the program's time.
pub(crate) const EMPTY: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// Selects one of four members of an array by the lowest bits of the kernel's hash: what no steering can do without.
pub(crate) fn select_blindly(members: RawFd) -> [u64; 11] {
    [
        // w2 = hash & 3
        0x0000_0000_0020_1261,
        0x0000_0003_0000_0254,
        // *(u32 *)(r10 - 4) = w2
        0x0000_0000_fffc_2a63,
        // r2 = members
        u64::from(members.cast_unsigned()) << 32 | 0x1218,
        0,
        // r3 = r10 - 4
        0x0000_0000_0000_a3bf,
        0xffff_fffc_0000_0307,
        // r4 = 0
        0x0000_0000_0000_04b7,
        // sk_select_reuseport(r1, r2, r3, r4)
        0x0000_0052_0000_0085,
        EMPTY[0],
        EMPTY[1],
    ]
}
