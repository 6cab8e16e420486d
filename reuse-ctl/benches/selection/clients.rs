//! The clients and what they send. All of 127.0.0.0/8 is loopback, so there are as many addresses as anyone wants.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Socket, Type};

/// Sockets that datagrams leave from: with the addresses that makes thousands of 4-tuples for `hash`.
const SENDERS: usize = 16;

/// Clients per group that are recorded before anything is measured.
pub(crate) const KNOWN: usize = 250;

/// Hands out addresses.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    used: u32,
}

impl Clients {
    /// The known clients of groups of this size: no client is on groups of two sizes, since those have different workers.
    pub(crate) fn known(size: u16) -> Vec<Ipv4Addr> {
        let size = u8::try_from(size).expect("at most 255 workers");
        (1..=250).map(|last| Ipv4Addr::new(127, 1, size, last)).collect()
    }

    /// Clients that nobody has seen before.
    pub(crate) fn unknown(&mut self, count: usize) -> Vec<Ipv4Addr> {
        let first = u32::from(Ipv4Addr::new(127, 2, 0, 0)) + self.used;
        let count = u32::try_from(count).expect("a few thousand");
        self.used += count;
        (first..first + count).map(Ipv4Addr::from).collect()
    }
}

/// A connection that ends with a reset.
pub(crate) fn connection(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("socket")?;
    socket.set_linger(Some(Duration::ZERO)).context("SO_LINGER")?;
    socket.bind(&SocketAddr::from((from, 0)).into()).context("bind")?;
    socket
        .connect(&to.into())
        .with_context(|| format!("connect from {from} to {to}"))?;
    Ok(socket)
}

/// A datagram from each of these addresses.
pub(crate) fn datagrams(from: &[Ipv4Addr], to: SocketAddr) -> anyhow::Result<()> {
    let SocketAddr::V4(to) = to else {
        anyhow::bail!("{to} is not IPv4");
    };
    let senders = (0..SENDERS)
        .map(|_| Socket::new(Domain::IPV4, Type::DGRAM, None))
        .collect::<std::io::Result<Vec<Socket>>>()
        .context("socket")?;
    for (&from, sender) in from.iter().zip(senders.iter().cycle()) {
        datagram(sender, from, to)?;
    }
    Ok(())
}

fn datagram(sender: &Socket, from: Ipv4Addr, to: SocketAddrV4) -> anyhow::Result<()> {
    let source = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from(from).to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let sent = sendmsg(
        sender.as_raw_fd(),
        &[IoSlice::new(b"?")],
        &[ControlMessage::Ipv4PacketInfo(&source)],
        MsgFlags::empty(),
        Some(&SockaddrIn::from(to)),
    )
    .with_context(|| format!("send from {from} to {to}"))?;
    ensure!(sent == 1, "a datagram of one byte was cut");
    Ok(())
}
