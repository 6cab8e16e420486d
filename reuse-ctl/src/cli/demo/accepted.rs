//! Finds out which connections a process has accepted, from its descriptors, so that the demo knows exactly which die with it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use socket2::Socket;

use crate::process::handle::ProcessHandle;

/// How long every thread may take to stop.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// How long a killed process may take to end. One that waits for a disk would take longer, but the demo's workers don't.
const END_PATIENCE_MS: u16 = 5_000;

/// Stops the process, passes the clients of every TCP connection that it has accepted to `condemn`, kills it, and waits until it has ended
/// and its listener is closed. Blocks for at most [`STOP_PATIENCE`] plus [`END_PATIENCE_MS`].
///
/// It is stopped first because a running process would go on accepting between the look and the kill. Connections still in its queue are
/// not included: the kernel moves those to other workers.
pub(super) fn kill_knowing(pid: u32, port: u16, condemn: impl FnOnce(Vec<SocketAddr>)) -> io::Result<()> {
    let process = ProcessHandle::open(pid)?;
    process.signal(Signal::SIGSTOP)?;
    wait_until_stopped(pid);
    let clients = accepted_by(&process, port);
    if let Ok(clients) = clients {
        condemn(clients);
    }
    // Killed in any case: a stopped worker must not remain.
    process.signal(Signal::SIGKILL)?;
    wait_until_ended(&process)
}

/// A process has ended once its descriptors are closed.
fn wait_until_ended(process: &ProcessHandle) -> io::Result<()> {
    let Some(pidfd) = process.as_pidfd() else { return Ok(()) };
    let ended = poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], END_PATIENCE_MS)?;
    if ended == 0 {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(())
    }
}

/// Waits until every thread has stopped, because a thread that is still running may accept once more. Threads stop at their next return
/// from the kernel, which takes microseconds; a thread that hangs in the kernel accepts nothing.
fn wait_until_stopped(pid: u32) {
    let deadline = Instant::now() + STOP_PATIENCE;
    while Instant::now() < deadline && !is_stopped(pid) {
        std::thread::yield_now();
    }
}

fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    // The state is the word after the name, which is in parentheses.
    let state = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next())
    };
    threads.map(state).all(|state| state == Some('T'))
}

/// The remote ends of the process's connections to `port`.
fn accepted_by(process: &ProcessHandle, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut clients = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", process.pid()))?.flatten() {
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|_| is_socket) else {
            continue;
        };
        let socket = Socket::from(process.duplicate_fd(number)?);
        let is_served = socket
            .local_addr()
            .ok()
            .and_then(|local| local.as_socket())
            .is_some_and(|local| local.port() == port);
        if is_served {
            // A listener has no peer.
            clients.extend(socket.peer_addr().ok().and_then(|peer| peer.as_socket()));
        }
    }
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn accepted_connections_are_told_from_queued_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let first = TcpStream::connect(address).expect("it listens");
        let (_accepted, client) = listener.accept().expect("one waits");
        let _queued = TcpStream::connect(address).expect("it listens");
        let this_process = ProcessHandle::open(std::process::id()).expect("it runs");
        let found = accepted_by(&this_process, address.port()).expect("our own descriptors");
        assert_eq!(found, [client]);
        assert_eq!(client, first.local_addr().expect("it is connected"));
    }
}
