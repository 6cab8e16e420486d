//! What the kernel itself says about sockets, independent of the product's counters.

use std::collections::{BTreeSet, HashSet};
use std::fs;

/// One line of `/proc/net/tcp` or `tcp6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The local port.
    pub port: u16,
    /// The state, as in `include/net/tcp_states.h`.
    pub state: u8,
    /// Of a listener: how many established connections wait in its accept queue.
    pub receive_queue: u32,
    /// 0 while a connection has not been accepted.
    pub inode: u64,
}

const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// Every TCP socket of the calling thread's network namespace.
pub fn sockets() -> Vec<Socket> {
    ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
            text.lines().skip(1).filter_map(parse).collect::<Vec<_>>()
        })
        .collect()
}

/// The listeners on a port.
pub fn listeners(port: u16) -> Vec<Socket> {
    sockets()
        .into_iter()
        .filter(|socket| socket.state == LISTEN && socket.port == port)
        .collect()
}

/// How many connections wait in the accept queues of a process's listeners on a port.
pub fn queued(pid: i32, port: u16) -> u32 {
    let own = inodes(pid);
    listeners(port)
        .iter()
        .filter(|socket| own.contains(&socket.inode))
        .map(|socket| socket.receive_queue)
        .sum()
}

/// How many connections to a port a process has accepted and not closed.
pub fn accepted(pid: i32, port: u16) -> usize {
    let own = inodes(pid);
    sockets()
        .iter()
        .filter(|socket| {
            socket.port == port && matches!(socket.state, ESTABLISHED | CLOSE_WAIT) && own.contains(&socket.inode)
        })
        .count()
}

/// How many times, at most, the program may have run for something that did not become a connection of its own, in the calling
/// thread's network namespace since it was made: a SYN sent again, the last packet of a handshake by SYN cookie, and a stray packet of
/// a connection that is gone, which the kernel looks up among the listeners before it answers with a reset.
pub fn selections_without_connection() -> u64 {
    let sum = |table: &str, names: &[&str]| -> u64 {
        counters(table)
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, value)| value)
            .sum()
    };
    sum("netstat", &["TCPSynRetrans", "SyncookiesRecv", "SyncookiesFailed"]) + sum("snmp", &["OutRsts"])
}

/// `/proc/net/snmp` or `netstat`: pairs of lines, names above values.
fn counters(table: &str) -> Vec<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).expect("the kernel's counters");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let pairs = lines.chunks(2).flat_map(|pair| pair[0].iter().zip(&pair[1]));
    pairs
        .filter_map(|(name, value)| Some(((*name).to_owned(), value.parse().ok()?)))
        .collect()
}

/// The processes that hold a listener on a port.
pub fn listening_processes(port: u16) -> BTreeSet<i32> {
    let wanted: HashSet<u64> = listeners(port).iter().map(|socket| socket.inode).collect();
    let processes = fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    processes.filter(|pid| !inodes(*pid).is_disjoint(&wanted)).collect()
}

/// Whether a process exists and is not a zombie. One whose first thread has ended lives, and has its files open, until the last one has.
pub fn is_alive(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    // The command in parentheses may itself hold anything; the state follows the last one.
    states.any(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

/// Whether a process is stopped (SIGSTOP): the signal is sent at once, but acted upon a little later.
pub fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The processes that a process has started itself, and that live.
pub fn children(pid: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let parent = |child: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse().ok()
    };
    processes.filter(|child| parent(*child) == Some(pid)).collect()
}

/// The real user id of a process.
pub fn user_of(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The descriptor numbers of a process that are sockets, with their inodes.
pub fn socket_descriptors(pid: i32) -> Vec<(i32, u64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let link = fs::read_link(entry.path()).ok()?;
            let inode = link
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        })
        .collect()
}

fn inodes(pid: i32) -> HashSet<u64> {
    socket_descriptors(pid).into_iter().map(|(_, inode)| inode).collect()
}

fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let port = fields.get(1)?.rsplit_once(':')?.1;
    let receive_queue = fields.get(4)?.rsplit_once(':')?.1;
    Some(Socket {
        port: u16::from_str_radix(port, 16).ok()?,
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        receive_queue: u32::from_str_radix(receive_queue, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_with_three_waiting_is_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0";
        assert_eq!(
            parse(line),
            Some(Socket {
                port: 8080,
                state: LISTEN,
                receive_queue: 3,
                inode: 4711
            })
        );
    }

    #[test]
    fn this_process_is_alive_and_runs() {
        let own = nix::unistd::getpid().as_raw();
        assert!(is_alive(own) && !is_stopped(own));
    }
}
