//! Making, or taking over, the listeners.

use std::net::TcpListener;
use std::os::fd::FromRawFd as _;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Options;

const BACKLOG: i32 = 1024;

/// The first descriptor that `LISTEN_FDS` speaks of.
const FIRST_INHERITED: i32 = 3;

pub(crate) fn listeners(options: &Options) -> anyhow::Result<Vec<TcpListener>> {
    if options.inherited {
        return inherited().map(|listener| vec![listener]);
    }
    options
        .listen
        .iter()
        .map(|address| bound(*address, options.reuse_port).with_context(|| format!("listen on {address}")))
        .collect()
}

fn bound(address: std::net::SocketAddr, reuse_port: bool) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).context("socket")?;
    socket.set_reuse_address(true).context("SO_REUSEADDR")?;
    if reuse_port {
        socket.set_reuse_port(true).context("SO_REUSEPORT")?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false).context("IPV6_V6ONLY")?;
    }
    socket.bind(&address.into()).context("bind")?;
    socket.listen(BACKLOG).context("listen")?;
    socket.set_nonblocking(true).context("O_NONBLOCK")?;
    Ok(socket.into())
}

fn inherited() -> anyhow::Result<TcpListener> {
    let count = std::env::var("LISTEN_FDS").context("LISTEN_FDS is not set")?;
    let own = std::env::var("LISTEN_PID").context("LISTEN_PID is not set")?;
    anyhow::ensure!(count == "1", "LISTEN_FDS is {count}");
    anyhow::ensure!(
        own == std::process::id().to_string(),
        "LISTEN_PID is {own}, this is {}",
        std::process::id()
    );
    // SAFETY: LISTEN_FDS and LISTEN_PID say that descriptor 3 was handed over to this process, which has not used it yet.
    let listener = unsafe { TcpListener::from_raw_fd(FIRST_INHERITED) };
    listener.set_nonblocking(true).context("O_NONBLOCK on descriptor 3")?;
    Ok(listener)
}
