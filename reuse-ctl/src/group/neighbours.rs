//! Detects other apps on the same address. The kernel lets the listeners of all apps of one user share an address, with one program for all
//! of them, so the app that came last would take every connection from the others.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
};

use super::{
    GroupError,
    diag::{Diag, Listener},
};
use crate::process::cgroup::AppCgroup;

/// The ports in this network namespace on which any program listens. Workers of an app that must disturb nobody may not bind them.
///
/// # Errors
/// [`GroupError::Unlisted`].
pub(super) fn taken_ports() -> Result<BTreeSet<u16>, GroupError> {
    let listeners = Diag::new()?.listeners()?;
    Ok(listeners.iter().map(|listener| listener.addr.port()).collect())
}

/// Checks that no other program listens on `addr`, so that an app that must disturb nobody may attach its program there.
///
/// # Errors
/// [`GroupError::Foreign`]: another program listens there. [`GroupError::Unlisted`].
pub(super) fn refuse_foreign(own: &AppCgroup, addr: SocketAddr, only_v6: bool) -> Result<(), GroupError> {
    let listeners = Diag::new()?.listeners_on(addr.port())?;
    // If the kernel reports no cgroup, the owner of a listener is unknown.
    let is_foreign = |listener: &Listener| listener.cgroup.is_some_and(|cgroup| !own.has(cgroup));
    let mut overlapping = listeners
        .into_iter()
        .filter(|listener| overlaps(listener, addr, only_v6));
    match overlapping.find(is_foreign) {
        Some(foreign) => Err(GroupError::Foreign(Box::new(foreign))),
        None => Ok(()),
    }
}

/// Checks that no other app listens on `addr`, so that this app may attach its program there. If two apps begin to listen at the same time
/// and each calls this while it listens already, at least one is refused.
///
/// # Errors
/// [`GroupError::Taken`]: another app listens there. If the listeners can't be listed, this succeeds.
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

/// Whether connections to one of the two could reach the other.
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
