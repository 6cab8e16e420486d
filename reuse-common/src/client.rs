//! What counts as one client under `sticky`.

use crate::{cell, ids::SlotId, rendezvous::mix};

/// A client: an address with every bit beyond the prefix cleared. IPv4 addresses are written as `::ffff:a.b.c.d`, so that a client has the
/// same key on an IPv4 listener and on a dual-stack one. The words are in network byte order.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey {
    words: [u32; 4],
}

/// The word before the address in `::ffff:a.b.c.d`.
const MAPPED: u32 = 0xffff_u32.to_be();

/// The address prefixes that tell clients apart.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientMask {
    v4: u32,
    v6: [u32; 4],
}

impl ClientMask {
    /// Takes prefix lengths in bits: `v4` 0…32, `v6` 0…128. Longer ones mean the whole address.
    pub const fn new(v4: u32, v6: u32) -> Self {
        Self {
            v4: word_mask(v4),
            v6: [
                word_mask(v6),
                word_mask(v6.saturating_sub(32)),
                word_mask(v6.saturating_sub(64)),
                word_mask(v6.saturating_sub(96)),
            ],
        }
    }
}

/// The first `bits` of a word in network byte order.
const fn word_mask(bits: u32) -> u32 {
    if bits == 0 {
        0
    } else if bits >= 32 {
        u32::MAX
    } else {
        (u32::MAX << (32 - bits)).to_be()
    }
}

impl ClientKey {
    /// The client of an IPv4 address (network byte order).
    #[inline(always)]
    pub const fn from_v4(address: u32, mask: &ClientMask) -> Self {
        Self {
            words: [0, 0, MAPPED, address & mask.v4],
        }
    }

    /// The client of an IPv6 address. A v4-mapped address gives the client of the IPv4 address.
    #[inline(always)]
    pub const fn from_v6(address: [u32; 4], mask: &ClientMask) -> Self {
        if address[0] == 0 && address[1] == 0 && address[2] == MAPPED {
            return Self::from_v4(address[3], mask);
        }
        Self {
            words: [
                address[0] & mask.v6[0],
                address[1] & mask.v6[1],
                address[2] & mask.v6[2],
                address[3] & mask.v6[3],
            ],
        }
    }

    /// An evenly spread hash of the client. Each `attempt` gives an independent one.
    #[inline(always)]
    pub const fn hash(&self, attempt: u64) -> u64 {
        let high = (self.words[0] as u64) << 32 | self.words[1] as u64;
        let low = (self.words[2] as u64) << 32 | self.words[3] as u64;
        mix(mix(high.wrapping_add(attempt)) ^ low)
    }
}

/// What the kernel remembers of a client: its slot, and when the client was last seen.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRecord {
    slot: u32,
    seen: u32,
}

/// The age of a client is measured in ticks of 2^30 ns (1.07 s).
const SEEN_SHIFT: u32 = 30;

impl ClientRecord {
    /// A record for this slot, last seen now.
    #[inline(always)]
    pub const fn new(slot: SlotId, now_ns: u64) -> Self {
        Self {
            slot: slot.0 as u32,
            seen: (now_ns >> SEEN_SHIFT) as u32,
        }
    }

    /// The slot, unless the record is older than `ttl_ticks` (units of 2^30 ns; 0 never expires).
    #[inline(always)]
    pub const fn slot(&self, now_ns: u64, ttl_ticks: u32) -> Option<SlotId> {
        let age = ((now_ns >> SEEN_SHIFT) as u32).wrapping_sub(self.seen);
        // If another CPU's clock was slightly ahead, the age wraps to just below 2^32.
        if ttl_ticks != 0 && age > ttl_ticks && age < u32::MAX / 2 {
            None
        } else {
            Some(SlotId(self.slot as u16))
        }
    }

    /// Marks a record as seen now if it belongs to this slot, and returns whether it does. Only the time is written: if the kernel has
    /// reused the record for another client meanwhile, that client's slot stays right.
    ///
    /// # Safety
    /// `record` must be valid for reads and writes, and aligned.
    #[inline(always)]
    pub unsafe fn renew(record: *mut Self, slot: SlotId, now_ns: u64) -> bool {
        let now = Self::new(slot, now_ns);
        // SAFETY: the caller's promise.
        unsafe {
            if cell::read(&raw const (*record).slot) != now.slot {
                return false;
            }
            // Usually the tick is the same, and without a write no other CPU has to fetch the cache line again.
            if cell::read(&raw const (*record).seen) != now.seen {
                cell::write(&raw mut (*record).seen, now.seen);
            }
            true
        }
    }

    /// Converts seconds to the ticks that [`slot`](Self::slot) compares, rounded up.
    pub const fn ticks(seconds: u64) -> u32 {
        let ticks = (seconds as u128 * 1_000_000_000).div_ceil(1 << SEEN_SHIFT);
        if ticks > u32::MAX as u128 / 4 {
            u32::MAX / 4
        } else {
            ticks as u32
        }
    }
}

const _: () = assert!(size_of::<ClientKey>() == 16 && size_of::<ClientRecord>() == 8 && size_of::<ClientMask>() == 20);

crate::plain_data!(ClientKey, ClientRecord, ClientMask);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(text: &str) -> u32 {
        u32::from_ne_bytes(text.parse::<Ipv4Addr>().expect("an address").octets())
    }

    fn v6(text: &str) -> [u32; 4] {
        let octets = text.parse::<Ipv6Addr>().expect("an address").octets();
        core::array::from_fn(|word| u32::from_ne_bytes(octets[word * 4..][..4].try_into().expect("four bytes")))
    }

    #[test]
    fn a_mapped_client_is_its_ipv4_client() {
        let mask = ClientMask::new(32, 64);
        assert_eq!(
            ClientKey::from_v6(v6("::ffff:10.1.2.3"), &mask),
            ClientKey::from_v4(v4("10.1.2.3"), &mask)
        );
        assert_ne!(
            ClientKey::from_v6(v6("::ffff:10.1.2.3"), &mask),
            ClientKey::from_v4(v4("10.1.2.4"), &mask)
        );
        assert_ne!(
            ClientKey::from_v6(v6("::10.1.2.3"), &mask),
            ClientKey::from_v4(v4("10.1.2.3"), &mask)
        );
    }

    #[test]
    fn prefixes_join_clients() {
        let mask = ClientMask::new(24, 56);
        assert_eq!(
            ClientKey::from_v4(v4("10.1.2.3"), &mask),
            ClientKey::from_v4(v4("10.1.2.200"), &mask)
        );
        assert_ne!(
            ClientKey::from_v4(v4("10.1.2.3"), &mask),
            ClientKey::from_v4(v4("10.1.3.3"), &mask)
        );
        assert_eq!(
            ClientKey::from_v6(v6("2001:db8:0:1ab::1"), &mask),
            ClientKey::from_v6(v6("2001:db8:0:1cd:9::2"), &mask)
        );
        assert_ne!(
            ClientKey::from_v6(v6("2001:db8:0:1ab::1"), &mask),
            ClientKey::from_v6(v6("2001:db8:0:2ab::1"), &mask)
        );
        let whole = ClientMask::new(32, 128);
        assert_ne!(
            ClientKey::from_v6(v6("2001:db8::1"), &whole),
            ClientKey::from_v6(v6("2001:db8::2"), &whole)
        );
        let nothing = ClientMask::new(0, 0);
        assert_eq!(
            ClientKey::from_v6(v6("2001:db8::1"), &nothing),
            ClientKey::from_v6(v6("fe80::2"), &nothing)
        );
    }

    #[test]
    fn records_expire() {
        let second = 1_000_000_000;
        let record = ClientRecord::new(SlotId(7), 1000 * second);
        let ttl = ClientRecord::ticks(60);
        assert_eq!(record.slot(1030 * second, ttl), Some(SlotId(7)));
        assert_eq!(record.slot(1070 * second, ttl), None);
        assert_eq!(
            record.slot(999 * second, ttl),
            Some(SlotId(7)),
            "a slightly later clock is not an old record"
        );
        assert_eq!(record.slot(900_000 * second, 0), Some(SlotId(7)), "0 keeps it");
    }

    #[test]
    fn records_are_renewed_by_their_own_slot() {
        let second = 1_000_000_000;
        let mut record = ClientRecord::new(SlotId(7), 1000 * second);
        // SAFETY: the record outlives the calls.
        let renewed = [(SlotId(8), 1050), (SlotId(7), 1050)]
            .map(|(slot, at)| unsafe { ClientRecord::renew(&raw mut record, slot, at * second) });
        assert_eq!(renewed, [false, true]);
        assert_eq!(record, ClientRecord::new(SlotId(7), 1050 * second));
    }
}
