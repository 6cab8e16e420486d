//! A network namespace for one test.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;

use crate::{binaries, wait};

/// The calling thread, and everything it starts from now on, has ports and addresses of its own; dropping it goes back.
#[derive(Debug)]
pub struct Namespace {
    outer: File,
}

impl Namespace {
    /// Makes a namespace with a loopback interface that is up, and moves the calling thread into it.
    ///
    /// # Panics
    /// Without root: these tests are not skipped.
    pub fn enter() -> Self {
        assert!(
            geteuid().is_root(),
            "the scenario tests need root: they make network namespaces, cgroups and load BPF programs"
        );
        binaries::install();
        let outer = File::open("/proc/thread-self/ns/net").expect("open the network namespace of this thread");
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
        ip(&["link", "set", "lo", "up"]);
        wait::until("::1 is usable", Duration::from_secs(5), || {
            TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
        });
        Self { outer }
    }

    /// `count` IPv6 addresses on the loopback interface, each in a /64 of its own: clients that have nothing in common.
    pub fn ipv6_clients(&self, count: u16) -> Vec<Ipv6Addr> {
        let addresses: Vec<_> = (1..=count)
            .map(|n| Ipv6Addr::new(0xfd00, 0, 0, n, 0, 0, 0, 1))
            .collect();
        let script: String = addresses
            .iter()
            .map(|address| format!("addr add {address}/128 dev lo nodad\n"))
            .collect();
        ip_batch(&script);
        let last = *addresses.last().expect("count is not 0");
        wait::until("the last address is usable", Duration::from_secs(5), || {
            TcpListener::bind((last, 0)).is_ok()
        });
        addresses
    }

    /// Answers to 10.0.0.0/8 are routed to nobody and vanish, so that handshakes from there stay half-open.
    pub fn swallow_answers_to_ten(&self) {
        ip(&["route", "add", "10.0.0.0/8", "dev", "lo"]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        setns(&self.outer, CloneFlags::CLONE_NEWNET).expect("setns back to where this thread came from");
    }
}

/// `count` IPv4 addresses, all of them loopback: 127.0.1.1, 127.0.1.2, …
pub fn ipv4_clients(count: u16) -> Vec<Ipv4Addr> {
    (0..count)
        .map(|n| {
            Ipv4Addr::new(
                127,
                0,
                1 + u8::try_from(n / 250).expect("at most 63,000 clients"),
                1 + u8::try_from(n % 250).expect("below 250"),
            )
        })
        .collect()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("run ip (package iproute2)");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn ip_batch(script: &str) {
    let scratch = crate::scratch::Scratch::new();
    let file = scratch.write("batch", script);
    ip(&["-6", "-batch", file.to_str().expect("a plain path")]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_clients_are_two_hundred_addresses() {
        let mut clients = ipv4_clients(600);
        clients.dedup();
        assert_eq!(clients.len(), 600);
        assert!(clients.iter().all(Ipv4Addr::is_loopback));
    }
}
