//! Who has a listener: a worker that can't have its address wants to know.

use crate::group::{
    GroupError,
    diag::{Diag, Listener},
    discover,
};
use std::net::SocketAddr;

/// Who has the address that a worker wanted to bind.
pub(crate) fn taken_by(wanted: SocketAddr, listeners: &[Listener], ours: &[SocketAddr], uid: u32) -> Option<String> {
    let overlaps = |listener: &&Listener| {
        let (a, b) = (listener.addr, wanted);
        a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
    };
    let listener = listeners
        .iter()
        .filter(overlaps)
        .find(|listener| !ours.contains(&listener.addr) || listener.uid != uid);
    if let Some(listener) = listener {
        return Some(format!("{} is in use by {}", listener.addr, owner(listener)));
    }
    let same_port = listeners.iter().any(|listener| overlaps(&listener));
    same_port.then(|| {
        format!("{wanted} is held for workers of uid {uid}; a worker that binds it as another user is refused")
    })
}

/// Why a listener that is there can't be a member.
pub(crate) fn unsteerable(error: &GroupError, cookie: u64, diag: &mut Diag, uid: u32) -> String {
    if let GroupError::Backstop { addr, .. } = error
        && let Ok(listeners) = diag.listeners_on(addr.port())
        && let Some(listener) = listeners.iter().find(|listener| listener.cookie == cookie)
        && listener.uid != uid
    {
        return format!(
            "it listens on {addr} as uid {}, but workers run as uid {uid}, and all listeners of a port must have one: \
             say --user {0}, or keep the server from changing its user",
            listener.uid
        );
    }
    if let GroupError::Foreign(foreign) = error {
        return format!("{} is in use by {}", foreign.addr, owner(foreign));
    }
    error.to_string()
}

/// `process 123 (nginx: master)`.
fn owner(listener: &Listener) -> String {
    match discover::owner_of_inode(listener.inode) {
        Some((pid, command)) => format!("process {pid} ({command})"),
        None => format!("a process of uid {}", listener.uid),
    }
}

/// A unix socket on which one of these processes listens.
pub(crate) fn unix_listener(pids: &[u32]) -> Option<String> {
    let inodes = discover::socket_inodes(pids);
    let table = std::fs::read_to_string(format!("/proc/{}/net/unix", pids.first()?)).ok()?;
    // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is a listening socket.
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let listens = words
            .get(3)
            .and_then(|flags| u32::from_str_radix(flags, 16).ok())
            .is_some_and(|flags| flags & 0x1_0000 != 0);
        let inode: u32 = words.get(6)?.parse().ok()?;
        (listens && inodes.contains(&inode)).then(|| words.get(7).copied().unwrap_or("(without a name)").to_owned())
    })
}
