//! When two apps would be in each other's way.

use std::net::{IpAddr, SocketAddr};

/// What an app serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// `port`: on whatever address the workers bind.
    Any(u16),
    /// `listen`.
    On(SocketAddr),
}

impl Port {
    /// A number, or an address with one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let number = text.parse().map(Self::Any).ok();
        number.or_else(|| text.parse().map(Self::On).ok())
    }

    pub(super) fn number(self) -> u16 {
        match self {
            Self::Any(port) => port,
            Self::On(address) => address.port(),
        }
    }

    /// Whether one of two apps could not listen there. `::` takes the port of every IPv4 address, too.
    pub(super) fn clashes(self, other: Self) -> bool {
        if self.number() != other.number() {
            return false;
        }
        let (Self::On(left), Self::On(right)) = (self, other) else {
            return true;
        };
        let (left, right) = (left.ip(), right.ip());
        let covers = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
        left == right || covers(left, right) || covers(right, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_for_one_app() {
        for (left, right, clash) in [
            ("80", "80", true),
            ("80", "81", false),
            ("80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "0.0.0.0:81", false),
        ] {
            let port = |text: &str| Port::read(text).expect("a port");
            assert_eq!(port(left).clashes(port(right)), clash, "{left} {right}");
            assert_eq!(port(right).clashes(port(left)), clash, "{right} {left}");
        }
        assert_eq!(Port::read("x"), None);
    }
}
