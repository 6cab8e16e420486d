//! Explains why a worker does not serve.

use crate::{
    base::{InstanceId, OutputOf, Text, Verb},
    group::{
        GroupError,
        diag::{Diag, Listener},
        discover,
    },
};
use reuse_common::notice::Notice;
use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Lines of a failed worker's output that are shown. Node takes ten to twenty for an error that nobody has caught, and the one that says
/// what it was stands above the stack.
pub(crate) const OUTPUT_LINES: usize = 20;

/// Of these, so many are of its standard error where it shares its files with another instance.
pub(crate) const COMPLAINT_LINES: usize = 15;

/// So many failures are remembered after their instance is gone, for answers that are still to be given.
const REMEMBERED: usize = 64;

/// What was wrong with instances that failed, by instance.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) known: HashMap<InstanceId, Failure>,
    order: VecDeque<InstanceId>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Failure {
    pub(crate) problem: Option<String>,
    pub(crate) output: LastOutput,
    /// What else might be meant, for a person.
    pub(crate) advice: Option<Text>,
}

/// It listens, but elsewhere, where nothing fixes the address.
pub(crate) fn elsewhere() -> Text {
    "if that is intended, use "
        + Verb::Reload.with("--new-address")
        + " or `apply --new-address`; the old address is served until the end"
}

/// The last lines that were written while a worker lived which failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastOutput {
    pub(crate) lines: Vec<String>,
    /// Absent: the worker wrote them.
    pub(crate) of: Option<OutputOf>,
}

impl Failures {
    pub(crate) fn remember(&mut self, id: InstanceId, failure: Failure) {
        if self.known.insert(id, failure).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

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
    if let GroupError::Taken { app, .. } = error {
        return format!(
            "{error}: serve on another port, name the ports of this app with --port, or end that one with `reuse-ctl stop --app {app}`"
        );
    }
    if let GroupError::Foreign(foreign) = error {
        return format!("{} is in use by {}", foreign.addr, owner(foreign));
    }
    error.to_string()
}

/// `process 123 (nginx: master)`.
pub(crate) fn owner(listener: &Listener) -> String {
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

/// The address of a notice.
pub(crate) fn address_of(notice: &Notice) -> SocketAddr {
    let port = u16::try_from(notice.port).unwrap_or(0);
    if notice.family == 2 {
        return (Ipv4Addr::from(notice.address[3].to_ne_bytes()), port).into();
    }
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(notice.address) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    (Ipv6Addr::from(octets), port).into()
}
