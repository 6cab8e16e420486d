//! The least that a server can do: accept, read, answer one byte, close. Whatever steering costs weighs most against this.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

use reuse_tests::binaries::node24;

use crate::peers;
use crate::traffic::Exchange;

const BACKLOG: i32 = 1024;

/// Serves, one connection after the other, until a signal ends it. The server closes first, as HTTP servers do.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).context("socket")?;
    socket.set_reuse_address(true).context("SO_REUSEADDR")?;
    socket.set_reuse_port(true).context("SO_REUSEPORT")?;
    socket.bind(&address.into()).context("bind")?;
    socket.listen(BACKLOG).context("listen")?;
    let listener = TcpListener::from(socket);
    let mut request = [0; 64];
    loop {
        let (mut stream, _) = listener.accept().context("accept")?;
        // A client that has gone is not the server's business; the clients count what they did not get.
        if stream.read(&mut request).is_ok_and(|length| length > 0) {
            drop(stream.write_all(b"."));
        }
    }
}

/// A server whose connection rate is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// This program's own, which does next to nothing.
    Bare,
    /// Node's HTTP server.
    Node,
}

impl Subject {
    pub(crate) const ALL: [Self; 2] = [Self::Bare, Self::Node];

    /// As it stands in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "the bare server",
            Self::Node => "Node's HTTP server",
        }
    }

    /// What a connection to it is for.
    pub(crate) fn exchange(self) -> Exchange {
        match self {
            Self::Bare => Exchange {
                request: b"?",
                answer: b".",
            },
            Self::Node => Exchange {
                request: b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n",
                answer: b"HTTP/1.1 200 ",
            },
        }
    }

    /// Its command line.
    ///
    /// # Errors
    /// When this program's own path is not known, or not text.
    pub(crate) fn command(self, address: SocketAddr) -> anyhow::Result<Vec<String>> {
        if self == Self::Node {
            return Ok(peers::server(node24(), address.port()).to_vec());
        }
        let own = env::current_exe().context("own path")?;
        let own = own.to_str().context("own path is UTF-8")?;
        Ok(vec![
            own.to_owned(),
            "server".to_owned(),
            "--listen".to_owned(),
            address.to_string(),
        ])
    }
}
