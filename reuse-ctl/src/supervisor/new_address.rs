//! Decides when a new instance may listen on another address than its predecessors.
//!
//! Listening elsewhere by mistake would take the old address away from its clients. So an instance counts as ready only when it serves what
//! its predecessor serves, with two exceptions: a user said that another address is meant (`--new-address`), or the instance's command and
//! variables show it. They show it if the old port (or host) occurs in the predecessor's command or variables and not in the new ones, and
//! the new port the other way round: `PORT=8080` became `PORT=8081`. A port that only the program's code names is no such sign. Nor is a
//! new port in addition while an old one is just missing: there must be as many new addresses as old ones are gone.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
};

/// The parts of an instance's command and variables that may say where to listen: every number that could be a port, and every IP address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    ports: BTreeSet<u16>,
    hosts: BTreeSet<IpAddr>,
}

impl Named {
    /// Finds them in the words of a command and the values of variables.
    pub(crate) fn of<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let mut told = Self::default();
        for word in words {
            let word = String::from_utf8_lossy(word.as_bytes());
            let numbers = word.split(|letter: char| !letter.is_ascii_digit());
            told.ports.extend(
                numbers
                    .filter_map(|number| number.parse::<u16>().ok())
                    .filter(|&port| port != 0),
            );
            let parts = word.split(|letter: char| letter.is_whitespace() || ",;=/\"'@".contains(letter));
            told.hosts.extend(parts.filter_map(host_in));
        }
        told
    }

    /// The union of both.
    pub(crate) fn or(mut self, other: &Self) -> Self {
        self.ports.extend(&other.ports);
        self.hosts.extend(&other.hosts);
        self
    }

    /// Whether this names a part of the address that the other doesn't name.
    fn alone_says(&self, addr: SocketAddr, other: &Self) -> bool {
        let (port, host) = (addr.port(), addr.ip());
        (self.ports.contains(&port) && !other.ports.contains(&port))
            || (self.hosts.contains(&host) && !other.hosts.contains(&host))
    }
}

/// The IP address in `10.0.0.1`, `10.0.0.1:80`, `[::1]:80` or `::1`.
fn host_in(text: &str) -> Option<IpAddr> {
    let whole = text.parse::<SocketAddr>().map(|addr| addr.ip());
    whole.or_else(|_| text.trim_matches(['[', ']']).parse()).ok()
}

/// Where an instance listens, and what its command and variables name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServedAt {
    pub(crate) addresses: BTreeSet<SocketAddr>,
    pub(crate) told: Named,
}

/// The addresses of the predecessors that the new instance must serve too and doesn't (yet). `asked`: a user said that another address is
/// meant.
pub(crate) fn missing(before: &ServedAt, now: &ServedAt, asked: bool) -> Vec<SocketAddr> {
    let lost = before.addresses.difference(&now.addresses).copied().collect();
    if is_meant(before, now, asked) { Vec::new() } else { lost }
}

/// Whether the new instance is meant to listen where it does, and not where its predecessors did. `asked` as in [`missing`].
///
/// That it doesn't listen on an address, even when it is published because nobody else serves, proves nothing by itself: a server opens its
/// listeners one after the other.
pub(crate) fn is_meant(before: &ServedAt, now: &ServedAt, asked: bool) -> bool {
    let lost: Vec<SocketAddr> = before.addresses.difference(&now.addresses).copied().collect();
    let gained: Vec<SocketAddr> = now.addresses.difference(&before.addresses).copied().collect();
    let shown = gained
        .iter()
        .filter(|addr| now.told.alone_says(**addr, &before.told))
        .count();
    let was_told = lost.iter().all(|addr| before.told.alone_says(*addr, &now.told)) && shown >= lost.len();
    was_told || (asked && gained.len() >= lost.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(addresses: &[&str], words: &[&str]) -> ServedAt {
        ServedAt {
            addresses: addresses.iter().map(|addr| addr.parse().expect("an address")).collect(),
            told: Named::of(words.iter().map(OsStr::new)),
        }
    }

    fn missing_words(before: &ServedAt, now: &ServedAt) -> Vec<String> {
        missing(before, now, false).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_may_say_where_to_listen() {
        let told = Named::of(
            [
                "--listen=127.0.0.1:8081",
                "http://[::1]:9000/x",
                "65536",
                "0",
                "10.0.0.7",
            ]
            .map(OsStr::new),
        );
        for port in [8081, 9000] {
            assert!(told.ports.contains(&port), "{told:?}");
        }
        assert!(!told.ports.contains(&0));
        let hosts = ["127.0.0.1", "::1", "10.0.0.7"].map(|host| host.parse().expect("an address"));
        assert_eq!(told.hosts, BTreeSet::from(hosts));
    }

    #[test]
    fn a_port_that_was_told_may_change() {
        let before = place(&["127.0.0.1:8080"], &["node", "server.js", "8080"]);
        let now = place(&["127.0.0.1:8081"], &["node", "server.js", "8081"]);
        assert!(missing_words(&before, &now).is_empty());
        assert!(missing_words(&now, &before).is_empty(), "and back");
        let host = place(&["0.0.0.0:8080"], &["--host", "0.0.0.0", "8080"]);
        assert!(missing_words(&place(&["127.0.0.1:8080"], &["--host", "127.0.0.1", "8080"]), &host).is_empty());
    }

    #[test]
    fn a_port_that_was_not_told_may_not() {
        let before = place(&["127.0.0.1:8080"], &["/srv/start"]);
        let elsewhere = place(&["127.0.0.1:8099"], &["/srv/start"]);
        assert_eq!(
            missing_words(&before, &elsewhere),
            ["127.0.0.1:8080"],
            "a mistake in the script"
        );
        let told = place(&["127.0.0.1:8099"], &["/srv/start", "8099"]);
        assert_eq!(
            missing_words(&before, &told),
            ["127.0.0.1:8080"],
            "the old port may be the program's own, and still to come"
        );
        let both = place(&["127.0.0.1:8080"], &["--port", "8080", "--admin", "9090"]);
        let main_is_late = place(&["127.0.0.1:9091"], &["--port", "8080", "--admin", "9091"]);
        assert_eq!(missing_words(&both, &main_is_late), ["127.0.0.1:8080"]);
    }

    #[test]
    fn each_old_address_needs_a_new_one() {
        let before = place(&["127.0.0.1:8080", "127.0.0.1:9090"], &["8080", "9090"]);
        let words = ["8081", "9091"];
        assert_eq!(
            missing_words(&before, &place(&["127.0.0.1:9091"], &words)).len(),
            2,
            "the other is still to come"
        );
        assert!(missing_words(&before, &place(&["127.0.0.1:8081", "127.0.0.1:9091"], &words)).is_empty());
    }

    #[test]
    fn somebody_may_say_that_it_is_meant() {
        let before = place(&["127.0.0.1:8080", "127.0.0.1:9090"], &[]);
        let one = place(&["127.0.0.1:8081"], &[]);
        assert_eq!(missing(&before, &one, true).len(), 2);
        assert!(missing(&before, &place(&["127.0.0.1:8081", "127.0.0.1:9090"], &[]), true).is_empty());
    }

    proptest! {
        /// Whatever is named, an instance that serves everything its predecessor served has nothing missing, and one that listens nowhere
        /// lacks everything.
        #[test]
        fn nothing_is_lost_unnoticed(old in any_place(), new in any_place(), asked: bool) {
            let lost: Vec<_> = old.addresses.difference(&new.addresses).copied().collect();
            let gained = new.addresses.difference(&old.addresses).count();
            let missing = missing(&old, &new, asked);
            prop_assert!(missing.is_empty() || missing == lost);
            if gained < lost.len() {
                prop_assert_eq!(missing, lost, "an address would go without another in its place");
            }
        }
    }

    fn any_place() -> impl Strategy<Value = ServedAt> {
        let addresses = proptest::collection::btree_set(8080..8084_u16, 0..4);
        let words = proptest::collection::vec(8080..8084_u16, 0..4);
        (addresses, words).prop_map(|(ports, words)| ServedAt {
            addresses: ports.into_iter().map(|port| ([127, 0, 0, 1], port).into()).collect(),
            told: Named {
                ports: words.into_iter().collect(),
                hosts: BTreeSet::new(),
            },
        })
    }
}
