//! The processes of an instance and their listeners, from /proc. Nothing is cached: processes come and go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use super::report::{Listener, ListenerKind};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// The name, which the process may have set itself.
    pub(super) name: String,
}

/// A socket bound to an address, in a process's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bound {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(String),
}

/// Those of these processes that exist.
pub(super) fn processes(pids: &[u32]) -> Vec<Process> {
    pids.iter().filter_map(|pid| process(*pid)).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may contain parentheses itself.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?);
    (state != "Z").then_some(Process {
        pid,
        parent: parent.parse().ok()?,
        name: name.to_owned(),
    })
}

/// Milliseconds since the process was started.
pub(super) fn age_ms(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let (whole, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let now_ms = whole.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10;
    // A clock tick is a hundredth of a second on every Linux.
    Some(now_ms.saturating_sub(ticks * 10))
}

/// Every listener of these processes, once each, with the first process that has it open. `asked` is the value of `--port`.
pub(super) fn listeners(processes: &[Process], asked: Option<u16>) -> (Vec<Listener>, Vec<u32>) {
    let picked = picked_ports();
    let mut networks: HashMap<String, HashMap<u64, Bound>> = HashMap::new();
    let mut found: BTreeMap<(ListenerKind, String), String> = BTreeMap::new();
    let mut holders = BTreeSet::new();
    for process in processes {
        let network = fs::read_link(format!("/proc/{}/ns/net", process.pid))
            .map(|link| link.display().to_string())
            .unwrap_or_default();
        let bound = networks.entry(network).or_insert_with(|| bound_sockets(process.pid));
        for socket in sockets_of(process.pid).iter().filter_map(|inode| bound.get(inode)) {
            let (kind, address) = match socket {
                Bound::Tcp(address) => (kind_of(address.port(), asked, &picked), address.to_string()),
                Bound::Udp(address) => (ListenerKind::Udp, address.to_string()),
                Bound::Unix(path) => (ListenerKind::Unix, path.clone()),
            };
            if kind == ListenerKind::Shared {
                holders.insert(process.pid);
            }
            found.entry((kind, address)).or_insert_with(|| process.name.clone());
        }
    }
    let listeners = found
        .into_iter()
        .map(|((kind, address), program)| Listener { address, kind, program });
    (listeners.collect(), holders.into_iter().collect())
}

fn kind_of(port: u16, asked: Option<u16>, picked: &RangeInclusive<u16>) -> ListenerKind {
    match asked {
        Some(asked) if asked == port => ListenerKind::Shared,
        Some(_) => ListenerKind::Private,
        None if picked.contains(&port) => ListenerKind::Private,
        None => ListenerKind::Shared,
    }
}

/// The names of the processes from `main` to the highest process that has a shared listener open; empty if that is `main` itself.
pub(super) fn wrappers(processes: &[Process], main: u32, holders: &[u32]) -> Vec<String> {
    let by_pid: HashMap<u32, &Process> = processes.iter().map(|process| (process.pid, process)).collect();
    let way_to = |holder: u32| {
        let mut way = Vec::new();
        let mut at = holder;
        while at != main {
            at = by_pid.get(&at)?.parent;
            way.push(by_pid.get(&at)?.name.clone());
        }
        way.reverse();
        Some(way)
    };
    let ways = holders.iter().filter_map(|holder| way_to(*holder));
    ways.min_by_key(Vec::len).unwrap_or_default()
}

/// Every address in this network namespace on which any program listens with TCP.
pub(super) fn tcp_listeners() -> Vec<SocketAddr> {
    let all = bound_sockets(std::process::id()).into_values();
    all.filter_map(|bound| match bound {
        Bound::Tcp(address) => Some(address),
        Bound::Udp(_) | Bound::Unix(_) => None,
    })
    .collect()
}

/// The range of ports that the kernel assigns to sockets which request none.
fn picked_ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().filter_map(|port| port.parse().ok());
    ports.next().unwrap_or(32_768)..=ports.next().unwrap_or(60_999)
}

/// The inodes of the process's open sockets.
fn sockets_of(pid: u32) -> BTreeSet<u64> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// All bound sockets in the process's network namespace, by inode.
fn bound_sockets(pid: u32) -> HashMap<u64, Bound> {
    let read = |file: &str| {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net").join(file)).unwrap_or_default()
    };
    let mut bound = HashMap::new();
    for file in ["tcp", "tcp6"] {
        bound.extend(parse_internet(&read(file), "0A").map(|(inode, address)| (inode, Bound::Tcp(address))));
    }
    for file in ["udp", "udp6"] {
        bound.extend(parse_internet(&read(file), "07").map(|(inode, address)| (inode, Bound::Udp(address))));
    }
    bound.extend(parse_unix(&read("unix")).map(|(inode, path)| (inode, Bound::Unix(path))));
    bound
}

/// Parses the lines of /proc/net/tcp in this state.
fn parse_internet<'a>(text: &'a str, state: &'a str) -> impl Iterator<Item = (u64, SocketAddr)> + 'a {
    text.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, own_state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = local.split_once(':')?;
        if *own_state != state {
            return None;
        }
        let address = SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
        Some((inode.parse().ok()?, address))
    })
}

/// Parses 32-bit words in hexadecimal, each as the CPU reads it from memory.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// Parses Unix sockets that listen on a path.
fn parse_unix(text: &str) -> impl Iterator<Item = (u64, String)> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (flags, inode, path) = (fields.get(3)?, fields.get(6)?, fields.get(7)?);
        // SO_ACCEPTCON. `@` begins an abstract name, which leaves no file behind.
        (*flags == "00010000" && path.starts_with('/')).then(|| Some((inode.parse().ok()?, (*path).to_owned())))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        let found: Vec<_> = parse_internet(tcp, "0A").collect();
        assert_eq!(found, [(4711, "127.0.0.1:8080".parse().expect("an address"))]);
        let six = "head\n 0: 00000000000000000000000001000000:0050 0:0 0A 0:0 0:0 0 0 0 12 1\n";
        let found: Vec<_> = parse_internet(six, "0A").collect();
        assert_eq!(found, [(12, "[::1]:80".parse().expect("an address"))]);
        let unix = "Num RefCount Protocol Flags Type St Inode Path\n\
            f: 00000002 00000000 00010000 0001 01 77 /run/x.sock\n\
            f: 00000003 00000000 00000000 0001 03 78 /run/x.sock\n\
            f: 00000002 00000000 00010000 0001 01 79 @abstract\n";
        assert_eq!(parse_unix(unix).collect::<Vec<_>>(), [(77, "/run/x.sock".to_owned())]);
    }

    #[test]
    fn what_stands_in_between_is_named_from_the_top() {
        let process = |pid, parent, name: &str| Process {
            pid,
            parent,
            name: name.into(),
        };
        let all = [
            process(10, 1, "npm start"),
            process(11, 10, "sh"),
            process(12, 11, "node"),
            process(13, 12, "node"),
        ];
        assert_eq!(wrappers(&all, 10, &[12, 13]), ["npm start", "sh"]);
        assert!(wrappers(&all, 12, &[12, 13]).is_empty());
        assert!(wrappers(&all, 10, &[]).is_empty());
        assert!(wrappers(&all, 10, &[99]).is_empty(), "not one of ours");
    }

    #[test]
    fn a_port_that_the_kernel_picked_is_private() {
        let picked = 32_768..=60_999;
        assert_eq!(kind_of(8080, None, &picked), ListenerKind::Shared);
        assert_eq!(kind_of(40_000, None, &picked), ListenerKind::Private);
        assert_eq!(kind_of(40_000, Some(40_000), &picked), ListenerKind::Shared);
        assert_eq!(kind_of(9090, Some(8080), &picked), ListenerKind::Private);
    }

    #[test]
    fn this_process_is_there() {
        let own = std::process::id();
        assert_eq!(processes(&[own]).len(), 1);
        assert!(age_ms(own).is_some_and(|age| age < 600_000));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        assert!(tcp_listeners().contains(&address));
        let (found, _) = listeners(&processes(&[own]), Some(address.port()));
        assert!(
            found.iter().any(|found| found.address == address.to_string()),
            "{found:?}"
        );
    }
}
