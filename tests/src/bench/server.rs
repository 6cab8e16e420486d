//! The least that a server can do: accept, read, answer one byte, close. Whatever steering costs weighs most against this.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

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

/// The command line of this program as the server.
///
/// # Errors
/// When the program's own path is not known, or not text.
pub(crate) fn command(address: SocketAddr) -> anyhow::Result<Vec<String>> {
    let own = env::current_exe().context("own path")?;
    let own = own.to_str().context("own path is UTF-8")?;
    Ok(vec![
        own.to_owned(),
        "server".to_owned(),
        "--listen".to_owned(),
        address.to_string(),
    ])
}
