//! Client addresses: all of 127.0.0.0/8 is loopback.

use std::net::Ipv4Addr;

/// Clients per group that are recorded before anything is measured.
pub(crate) const KNOWN: usize = 250;

/// Hands out addresses.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    used: u32,
}

impl Clients {
    /// The known clients of group number `group`: no client has been on two groups, since those have different workers.
    pub(crate) fn known(&self, group: usize) -> Vec<Ipv4Addr> {
        let group = u8::try_from(group).expect("a handful of groups");
        (1..=250).map(|last| Ipv4Addr::new(127, 1, group, last)).collect()
    }

    /// Clients that nobody has seen before.
    pub(crate) fn unknown(&mut self, count: usize) -> Vec<Ipv4Addr> {
        let first = u32::from(Ipv4Addr::new(127, 2, 0, 0)) + self.used;
        let count = u32::try_from(count).expect("a few thousand");
        self.used += count;
        (first..first + count).map(Ipv4Addr::from).collect()
    }
}
