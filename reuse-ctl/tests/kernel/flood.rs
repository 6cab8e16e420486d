//! SYNs from made-up addresses: they are chosen for, but make and evict no sticky client.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use reuse_common::{Policy, verdict::Verdict};
use socket2::{Domain, Protocol, Socket, Type};

use crate::rig::{CLIENT_CAPACITY, Group, Rig, reset, until};

#[tokio::test]
async fn a_client_is_recorded_when_established_and_a_flood_evicts_none() {
    let mut rig = Rig::new(Policy::Sticky);
    let mut group = rig.group("127.0.0.1:8080", 4);
    group.publish(0..4);
    let place = |group: &Group, host| {
        let (slot, stream) = rig.chosen(|| group.connect_from(Ipv4Addr::new(127, 0, 7, host).into()));
        reset(&stream);
        slot
    };
    let before: Vec<u16> = (0..50).map(|host| place(&group, host)).collect();
    assert_eq!(rig.app.client_count(), 50);

    let SocketAddr::V4(target) = group.target() else {
        unreachable!()
    };
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).expect("root");
    let flood = 3 * CLIENT_CAPACITY;
    for number in 0..flood {
        // Nobody waits at the other end: what the listener answers is refused.
        let from = SocketAddrV4::new(Ipv4Addr::from(0x7f20_0000 + number), 999);
        raw.send_to(&syn(from, target, number), &target.into()).expect("sent");
    }
    until("the program has seen the flood", || {
        group.verdict(Verdict::Chosen) >= u64::from(50 + flood)
    });
    assert_eq!(rig.app.client_count(), 50);
    let established: u64 = rig.each(|load| load.established_total()).iter().sum();
    assert_eq!(established, 50);

    let after: Vec<u16> = (0..50).map(|host| place(&group, host)).collect();
    assert_eq!(after, before);
    group.accept_all();
    rig.comes_to_rest();
}

/// An IPv4 packet with a TCP SYN. The kernel fills in the checksum of the IP header.
fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    let (ip, tcp) = packet.split_at_mut(20);
    // Version 4, five words of header; in all 40 bytes; 64 hops; TCP.
    ip[0] = 0x45;
    ip[3] = 40;
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&from.ip().octets());
    ip[16..20].copy_from_slice(&to.ip().octets());
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    // Five words of header; SYN; a window.
    tcp[12] = 0x50;
    tcp[13] = 0x02;
    tcp[14] = 0x40;
    // Over the addresses, the protocol and the length too.
    let sum = words(&ip[12..20]) + 6 + 20 + words(tcp);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).expect("folded");
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn words(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum()
}
