//! Other apps on the same address. The kernel lets the listeners of all apps of one user share it, with one program for all of them:
//! the app that came last would take every connection from the others.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
};

use super::{
    GroupError,
    diag::{Diag, Listener},
};
use crate::process::cgroup::AppCgroup;

/// Where anybody listens in this network: no worker of an app that is to be alone may come there.
///
/// # Errors
/// [`GroupError::Unlisted`].
pub(super) fn taken_ports() -> Result<BTreeSet<u16>, GroupError> {
    let listeners = Diag::new()?.listeners()?;
    Ok(listeners.iter().map(|listener| listener.addr.port()).collect())
}

/// Whether this app may put its program in charge of the listeners on `addr` though it is to be alone.
///
/// # Errors
/// [`GroupError::Foreign`]: anybody else listens there. [`GroupError::Unlisted`].
pub(super) fn refuse_foreign(own: &AppCgroup, addr: SocketAddr, only_v6: bool) -> Result<(), GroupError> {
    let listeners = Diag::new()?.listeners_on(addr.port())?;
    // Of a kernel that tells no cgroup nothing can be known.
    let is_foreign = |listener: &Listener| listener.cgroup.is_some_and(|cgroup| !own.has(cgroup));
    let mut overlapping = listeners
        .into_iter()
        .filter(|listener| overlaps(listener, addr, only_v6));
    match overlapping.find(is_foreign) {
        Some(foreign) => Err(GroupError::Foreign(Box::new(foreign))),
        None => Ok(()),
    }
}

/// Whether this app may put its program in charge of the listeners on `addr`. When two apps begin to listen at the same time, at least
/// one is refused, if each asks when it listens already.
///
/// # Errors
/// [`GroupError::Taken`]: another app listens there. That the listeners can't be listed is no reason to refuse.
pub(super) fn refuse_taken(own: &AppCgroup, addr: SocketAddr, only_v6: bool) -> Result<(), GroupError> {
    let listeners = Diag::new().and_then(|mut diag| diag.listeners_on(addr.port()));
    let listeners = listeners.unwrap_or_else(|error| {
        tracing::warn!("{addr}: whether another app listens there can't be seen: {error}");
        Vec::new()
    });
    let overlapping = listeners.iter().filter(|listener| overlaps(listener, addr, only_v6));
    let cgroups: HashSet<u64> = overlapping.filter_map(|listener| listener.cgroup).collect();
    match own.sibling_with_any(&cgroups) {
        Some(app) => Err(GroupError::Taken { addr, app }),
        None => Ok(()),
    }
}

/// Whether connections to one could be taken by the other.
fn overlaps(listener: &Listener, addr: SocketAddr, only_v6: bool) -> bool {
    let (theirs, ours) = (listener.addr.ip(), addr.ip());
    let one_is_only_v6 = only_v6 || listener.v6only.unwrap_or(false);
    let both_any = theirs.is_unspecified() && ours.is_unspecified() && !one_is_only_v6;
    listener.addr.port() == addr.port() && (theirs == ours || both_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps() {
        let listener = |addr: &str, v6only| Listener {
            addr: addr.parse().expect("an address"),
            cookie: 1,
            inode: 1,
            uid: 0,
            queue: 0,
            backlog: 1,
            v6only,
            cgroup: None,
        };
        for (theirs, v6only, ours, only_v6, expected) in [
            ("0.0.0.0:80", None, "0.0.0.0:80", false, true),
            ("0.0.0.0:80", None, "0.0.0.0:81", false, false),
            ("127.0.0.1:80", None, "0.0.0.0:80", false, false),
            ("127.0.0.1:80", None, "127.0.0.1:80", false, true),
            ("0.0.0.0:80", None, "[::]:80", false, true),
            ("0.0.0.0:80", None, "[::]:80", true, false),
            ("[::]:80", Some(false), "0.0.0.0:80", false, true),
            ("[::]:80", Some(true), "0.0.0.0:80", false, false),
            ("[::]:80", Some(true), "[::]:80", true, true),
            ("[::1]:80", Some(false), "[::]:80", false, false),
        ] {
            let found = overlaps(&listener(theirs, v6only), ours.parse().expect("an address"), only_v6);
            assert_eq!(found, expected, "{theirs} {v6only:?} {ours} {only_v6}");
        }
    }
}
