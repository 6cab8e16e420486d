//! Settings that the controller hands to the BPF programs.

use crate::{Policy, client::ClientMask, limits::MAX_PORTS};

/// The settings of one app, which every program reads.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A [`Policy`] as a number.
    pub policy: u32,
    /// Number of directed connections under way. The programs look at the table of directed connections only while it is not 0.
    pub directed: u32,
    /// The address prefixes that tell clients apart.
    pub client_mask: ClientMask,
    /// Time until a client is forgotten, in units of [`ClientRecord::ticks`](crate::client::ClientRecord::ticks); 0 means never.
    pub client_ttl_ticks: u32,
    /// The depth of an instance's cgroup below the root cgroup.
    pub cgroup_level: u32,
    /// How many of `ports` are set; 0 means that every port is a service port.
    pub port_count: u32,
    /// Service ports, host byte order.
    pub ports: [u16; MAX_PORTS],
}

impl Settings {
    /// Whether the policy compares loads, so that selections must count before they become connections. (No branch between the two
    /// comparisons: with neighbouring numbers they become one.)
    #[inline(always)]
    pub const fn weighs_loads(&self) -> bool {
        (self.policy == Policy::LeastLoaded as u32) | (self.policy == Policy::Sticky as u32)
    }

    /// Whether this port (host byte order) is a service port of the app.
    #[inline(always)]
    pub fn serves(&self, port: u16) -> bool {
        let mut found = self.port_count == 0;
        for (index, &candidate) in self.ports.iter().enumerate() {
            found |= (index as u32) < self.port_count && candidate == port;
        }
        found && port != 0
    }
}

/// The local end of a connection that the controller is about to open: the client address and port as the server sees them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirectedKey {
    /// IPv6, or IPv4 as `::ffff:a.b.c.d`; network byte order.
    pub address: [u32; 4],
    /// Host byte order.
    pub port: u32,
}

const _: () = assert!(size_of::<Settings>() == 8 + 20 + 12 + 2 * MAX_PORTS);
const _: () = assert!(size_of::<DirectedKey>() == 20);

crate::plain_data!(Settings, DirectedKey);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(policy: u32) -> Settings {
        Settings {
            policy,
            directed: 0,
            client_mask: ClientMask::new(32, 64),
            client_ttl_ticks: 0,
            cgroup_level: 3,
            port_count: 0,
            ports: [0; MAX_PORTS],
        }
    }

    #[test]
    fn loads_are_weighed_for_two_policies() {
        for policy in Policy::ALL {
            assert_eq!(
                settings(policy as u32).weighs_loads(),
                policy.weighs_loads(),
                "{policy:?}"
            );
        }
        assert!(!settings(4).weighs_loads(), "no such policy");
    }

    #[test]
    fn only_named_ports_are_served() {
        let mut settings = settings(0);
        assert!(settings.serves(1) && settings.serves(65535) && !settings.serves(0));
        settings.ports[0] = 80;
        settings.ports[1] = 443;
        settings.port_count = 2;
        assert!(settings.serves(80) && settings.serves(443) && !settings.serves(8080) && !settings.serves(0));
    }
}
