//! Short connections from a few threads.
//!
//! The server closes first and the client then ends with a reset (`SO_LINGER` 0), so that nothing waits in TIME_WAIT and no port is
//! ever used up; each thread goes round 250 source addresses of 127.0.0.0/8, so that `sticky` sees a thousand clients.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use socket2::{Domain, Socket, Type};

/// More than the machine has cores, so that a core never waits for the client alone.
const THREADS: u8 = 4;

/// How long a client waits for the answer: longer than any hiccup of the machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    /// Sent once it is established.
    pub(crate) request: &'static [u8],
    /// What the answer begins with; the server closes after it.
    pub(crate) answer: &'static [u8],
}

/// What one round did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) connections: u64,
    pub(crate) seconds: f64,
}

/// Opens and closes connections to `server` for so long.
///
/// # Errors
/// The first connection that fails: a run with losses is not a measurement.
pub(crate) fn run(server: SocketAddr, exchange: Exchange, length: Duration) -> anyhow::Result<Round> {
    let started = Instant::now();
    let deadline = started + length;
    let clients: Vec<_> = (0..THREADS)
        .map(|thread| thread::spawn(move || client(server, exchange, thread, deadline)))
        .collect();
    let mut connections = 0;
    for client in clients {
        match client.join() {
            Ok(count) => connections += count.with_context(|| format!("a connection to {server}"))?,
            Err(_) => bail!("a client thread panicked"),
        }
    }
    Ok(Round {
        connections,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn client(server: SocketAddr, what: Exchange, thread: u8, deadline: Instant) -> io::Result<u64> {
    let mut count = 0;
    for last in (1..=250).cycle() {
        if Instant::now() >= deadline {
            break;
        }
        exchange(server, what, Ipv4Addr::new(127, 0, 1 + thread, last))?;
        count += 1;
    }
    Ok(count)
}

fn exchange(server: SocketAddr, what: Exchange, from: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&server.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(what.request)?;
    let mut answer = Vec::with_capacity(512);
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(what.answer) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
    }
    Ok(())
}
