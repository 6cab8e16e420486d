//! Conflicts between apps of one file: a name or a port that two of them claim.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use super::{
    parsed::ParsedApp,
    source::{Problem, Source},
};
use crate::{
    app::{
        keys::{Keys, NAME},
        options::{ReadyKind, RunOptions},
    },
    process::{env_file::Rights, variables::Variables},
};

/// Checks that each of several apps has its own name.
pub(super) fn names(apps: &[ParsedApp], keys: &Keys, source: &Source, problems: &mut Vec<Problem>) {
    let mut seen: Vec<(&str, &Range<usize>)> = Vec::new();
    for app in apps {
        let Some((name, span)) = app.said(keys, NAME).next() else {
            if apps.len() > 1 && !app.is_named {
                problems.push(Problem::new(
                    app.span.clone(),
                    "this app has no `name`",
                    "give one like name = \"web\": there are several apps",
                ));
            }
            continue;
        };
        match seen.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => {
                let hint = format!(
                    "the other is in line {}: give each a name of its own",
                    source.line(first.start)
                );
                problems.push(Problem::new(
                    span.clone(),
                    format!("two apps have the name {name:?}"),
                    hint,
                ));
            }
            None => seen.push((name, span)),
        }
    }
}

/// Checks that no two apps serve the same port.
pub(super) fn ports(apps: &[ParsedApp], keys: &Keys, source: &Source, problems: &mut Vec<Problem>) {
    let mut seen: Vec<(usize, Port, &Range<usize>)> = Vec::new();
    for (number, app) in apps.iter().enumerate() {
        let said = app.said(keys, "port").chain(app.said(keys, "listen"));
        for (port, span) in said.filter_map(|(text, span)| Some((Port::read(text)?, span))) {
            let taken = seen
                .iter()
                .find(|(owner, other, _)| *owner != number && other.clashes(port));
            match taken {
                Some((owner, _, first)) => {
                    let name = apps[*owner]
                        .said(keys, NAME)
                        .next()
                        .map_or_else(|| "another app".to_owned(), |(name, _)| format!("{name:?}"));
                    let error = format!(
                        "port {} is served by {name} already, in line {}",
                        port.number(),
                        source.line(first.start)
                    );
                    problems.push(Problem::new(span.clone(), error, "two apps can't share a port"));
                }
                None => seen.push((number, port, span)),
            }
        }
    }
}

/// The ports that an app is told to serve, by its options or by the `PORT` of its workers' environment.
#[derive(Debug)]
pub(super) struct Ports<'a> {
    name: String,
    /// From the options; empty if `PORT` decides.
    said: Vec<(Port, &'a Range<usize>)>,
    /// The `PORT`s of all its workers (`port_step` and `increment_var` give each another one), and where they are given.
    given: Option<(BTreeSet<u16>, &'a Range<usize>)>,
}

impl<'a> Ports<'a> {
    /// The ports in an environment; `options` includes it. If the app gives `port` or `listen`, `PORT` may be for something else and is
    /// ignored, and so it is for an app that serves no port.
    pub(super) fn of(app: &'a ParsedApp, keys: &Keys, options: &RunOptions, environment: Option<&str>) -> Self {
        let said = app.said(keys, "port").chain(app.said(keys, "listen"));
        let said: Vec<_> = said
            .filter_map(|(text, span)| Some((Port::read(text)?, span)))
            .collect();
        let given = if said.is_empty() && options.ready.kind != ReadyKind::Started {
            given(options)
        } else {
            BTreeSet::new()
        };
        Self {
            name: options.name.clone(),
            said,
            given: (!given.is_empty()).then(|| (given, app.place_of_port(keys, environment))),
        }
    }

    /// The port that both are told to serve, if at least one of them by `PORT`, and the two places where it is given.
    fn conflict_with(&self, other: &Self) -> Option<(u16, &'a Range<usize>, &'a Range<usize>)> {
        if let (Some((ours, here)), Some((theirs, there))) = (&self.given, &other.given) {
            return Some((*ours.intersection(theirs).next()?, here, there));
        }
        let one_of = |given: &BTreeSet<u16>, said: &[(Port, &'a Range<usize>)]| {
            let found = said.iter().find(|(port, _)| given.contains(&port.number()));
            found.map(|(port, place)| (port.number(), *place))
        };
        if let Some((ours, here)) = &self.given {
            return one_of(ours, &other.said).map(|(port, there)| (port, *here, there));
        }
        let (theirs, there) = other.given.as_ref()?;
        one_of(theirs, &self.said).map(|(port, here)| (port, here, *there))
    }
}

/// The `PORT`s of the workers according to the file. This machine's own environment is not known here, and errors in env files are reported
/// elsewhere.
fn given(options: &RunOptions) -> BTreeSet<u16> {
    let folder = options.cwd.as_deref().unwrap_or(Path::new("/"));
    let Ok(variables) = Variables::read(options.environment.clone(), folder, Rights::Callers) else {
        return BTreeSet::new();
    };
    let port_of = |slot| {
        let of_worker = variables.of(&options.name, slot, |_| None).ok()?;
        let (_, port) = of_worker.into_iter().find(|(name, _)| name == "PORT")?;
        port.to_str()?.trim().parse().ok().filter(|port| *port != 0)
    };
    (0..options.workers).filter_map(port_of).collect()
}

/// Checks that no two apps are told by `PORT` to serve the same port.
pub(super) fn given_ports(apps: &[Ports<'_>], source: &Source, problems: &mut Vec<Problem>) {
    for (number, app) in apps.iter().enumerate() {
        let found = apps[..number]
            .iter()
            .find_map(|other| Some((other, app.conflict_with(other)?)));
        let Some((other, (port, here, there))) = found else {
            continue;
        };
        problems.push(Problem::new(
            here.clone(),
            format!(
                "port {port} is for {:?} already, in line {}",
                other.name,
                source.line(there.start)
            ),
            "two apps can't share a port: give one another PORT, or set `port` to what it serves; an app that serves no port sets ready = \"started\"",
        ));
    }
}

/// A port that an app serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    /// `port`: on any address that the workers bind.
    Any(u16),
    /// `listen`.
    On(SocketAddr),
}

impl Port {
    /// Parses a port, or an address with a port.
    fn read(text: &str) -> Option<Self> {
        let number = text.parse().map(Self::Any).ok();
        number.or_else(|| text.parse().map(Self::On).ok())
    }

    fn number(self) -> u16 {
        match self {
            Self::Any(port) => port,
            Self::On(address) => address.port(),
        }
    }

    /// Whether two apps could not both listen there. `::` also occupies the port on every IPv4 address.
    fn clashes(self, other: Self) -> bool {
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
