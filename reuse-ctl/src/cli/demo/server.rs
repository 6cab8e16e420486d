//! The demo's server: an ordinary HTTP/1.1 server that knows nothing of steering, and shuts down gracefully on SIGTERM.
//!
//! On SIGTERM it accepts the connections in its queue, closes its listener, answers every further request with `Connection: close`, closes
//! silent connections, and exits when none is left.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a kept connection may be silent after SIGTERM before it is closed, so that a client that is about to send a request gets its
/// answer.
const SILENCE: Duration = Duration::from_millis(500);
/// Time that connections have to end.
const GRACE: Duration = Duration::from_secs(10);
const BACKLOG: u32 = 1024;

/// Serves `127.0.0.1:port` as worker `worker` until `ended` resolves, and then until its connections have ended.
///
/// # Errors
/// The system call that failed.
pub(crate) async fn serve(listener: TcpListener, worker: u16, ended: impl Future<Output = ()>) -> io::Result<()> {
    let (end, ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            biased;
            () = &mut ended => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, worker, ending.clone()))),
                // The client has disconnected already, or there are temporarily no free descriptors.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    end.send_replace(true);
    let listener = listener.into_std()?;
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        connections.spawn(connection(TcpStream::from_std(stream)?, worker, ending.clone()));
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(GRACE, all).await);
    Ok(())
}

/// Opens the listener.
///
/// # Errors
/// The system call that failed.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

async fn connection(stream: TcpStream, worker: u16, mut ending: watch::Receiver<bool>) {
    let closing = ending.clone();
    let service = service_fn(move |_: Request<hyper::body::Incoming>| {
        let answer = answer(worker, *closing.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut connection = std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let silent = async {
        // An error means that the server itself is gone.
        drop(ending.wait_for(|ending| *ending).await);
        tokio::time::sleep(SILENCE).await;
    };
    tokio::select! {
        // Errors of a connection that its client resets are ignored.
        _ = connection.as_mut() => return,
        () = silent => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

fn answer(worker: u16, is_last: bool) -> Response<Full<Bytes>> {
    let body = format!("{{\"worker\":{worker},\"pid\":{}}}\n", std::process::id());
    let mut response = Response::new(Full::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if is_last {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::http::{Answer, ExchangeError, exchange};
    use super::*;

    /// Longer than any step of these tests takes.
    const LONG: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn what_is_queued_at_the_end_is_answered() {
        let listener = listen(0).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let server = tokio::spawn(serve(listener, 3, std::future::ready(())));
        for client in &mut clients {
            let answer = exchange(client, true).await.expect("it was in the queue");
            assert_eq!(
                answer,
                Answer {
                    worker: 3,
                    keeps_open: false
                }
            );
        }
        tokio::time::timeout(LONG, server)
            .await
            .expect("it ends")
            .expect("no panic")
            .expect("no error");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn kept_connections_get_a_last_answer_or_are_closed() {
        let listener = listen(0).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, 0, async { drop(ended.await) }));
        let mut busy = TcpStream::connect(address).await.expect("it listens");
        let mut silent = TcpStream::connect(address).await.expect("it listens");
        for client in [&mut busy, &mut silent] {
            assert!(exchange(client, true).await.expect("an answer").keeps_open);
        }
        end.send(()).expect("it runs");
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!exchange(&mut busy, true).await.expect("a last answer").keeps_open);
        tokio::time::timeout(LONG, server)
            .await
            .expect("the silent one is closed")
            .expect("no panic")
            .expect("no error");
        assert!(matches!(
            exchange(&mut silent, true).await,
            Err(ExchangeError::Unanswered)
        ));
    }
}
