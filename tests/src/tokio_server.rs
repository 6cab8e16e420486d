//! A tokio HTTP server: its listener is watched edge-triggered, as in Go. It answers `SLOT PID` and closes.
//!
//! An `accept` that fails is written to standard error, and the loop goes on, as in every tokio server of some care.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BACKLOG: i32 = 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .context("usage: reuse-tokio-server ADDRESS:PORT")?
        .parse()
        .context("ADDRESS:PORT")?;
    let listener = listen(address)?;
    let slot = std::env::var("REUSE_WORKER_ID").unwrap_or_else(|_| "-".to_owned());
    let body = format!("{slot} {}\n", std::process::id());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let body = body.clone();
                tokio::spawn(async move {
                    // A client that goes away is not the server's business.
                    drop(answer(stream, &body).await);
                });
            }
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).context("socket")?;
    socket.set_reuse_address(true).context("SO_REUSEADDR")?;
    socket.set_reuse_port(true).context("SO_REUSEPORT")?;
    socket.bind(&address.into()).context("bind")?;
    socket.listen(BACKLOG).context("listen")?;
    socket.set_nonblocking(true).context("O_NONBLOCK")?;
    TcpListener::from_std(socket.into()).context("register the listener")
}

async fn answer(mut stream: TcpStream, body: &str) -> anyhow::Result<()> {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}
