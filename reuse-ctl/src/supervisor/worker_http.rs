//! HTTP over a directed connection, for health checks and for requests of users to one worker.

use std::{io, net::SocketAddr};

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::wire::Got;

/// Maximum size of an answer's body in bytes, because it is held in memory.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The path can't be written in a request.
    #[error("{0:?} is not a path")]
    Path(String),
    /// The connection was refused, reset or closed.
    #[error("the connection: {0}")]
    Connection(#[from] io::Error),
    /// The server has closed the connection without an answer.
    #[error("the server closed the connection before it had answered")]
    Closed,
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(#[source] hyper::Error),
    /// The answer is longer than [`MAX_BODY_BYTES`].
    #[error("the answer is longer than 16 MiB")]
    TooLong,
    /// The timeout has passed.
    #[error("no answer in time")]
    Late,
}

impl From<hyper::Error> for RequestError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() || error.is_parse_too_large() {
            Self::NotHttp(error)
        } else if let Some(kind) = io_kind(&error) {
            Self::Connection(kind.into())
        } else {
            Self::Closed
        }
    }
}

/// Sends a request, and returns the status as soon as the head of the answer is complete.
pub(crate) async fn status(stream: TcpStream, host: SocketAddr, path: &str) -> Result<u16, RequestError> {
    let (response, _connection) = answer(stream, host, path).await?;
    Ok(response.status().as_u16())
}

/// Sends a request, and returns the whole answer.
pub(crate) async fn get(stream: TcpStream, host: SocketAddr, path: &str) -> Result<Got, RequestError> {
    let (response, _connection) = answer(stream, host, path).await?;
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
    let body = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return RequestError::TooLong;
        }
        match error.downcast::<hyper::Error>() {
            Ok(error) => RequestError::from(*error),
            Err(_) => RequestError::Closed,
        }
    })?;
    Ok(Got {
        status,
        content_type,
        body: body.to_bytes().into(),
    })
}

/// The head of the answer, and an object that reads the rest while it is held.
async fn answer(
    stream: TcpStream,
    host: SocketAddr,
    path: &str,
) -> Result<(Response<Incoming>, JoinSet<()>), RequestError> {
    let request = Request::builder()
        .uri(path)
        .header(HOST, host.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| RequestError::Path(path.to_owned()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        // Its errors are reported through the sender and the body.
        drop(connection.await);
    });
    Ok((sender.send_request(request).await?, reading))
}

fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Answers one request with these bytes, and returns the request.
    async fn server(answer: Vec<u8>) -> (TcpStream, SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let addr = listener.local_addr().expect("bound");
        let client = TcpStream::connect(addr).await.expect("connected");
        let (mut stream, _) = listener.accept().await.expect("one waits");
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.expect("a request"));
            }
            // The client may close before everything is written.
            drop(stream.write_all(&answer).await);
            String::from_utf8(asked).expect("ascii")
        });
        (client, addr, asked)
    }

    async fn got(answer: impl Into<Vec<u8>>) -> Result<Got, RequestError> {
        let (client, addr, _asked) = server(answer.into()).await;
        tokio::time::timeout(PATIENCE, get(client, addr, "/"))
            .await
            .expect("in time")
    }

    #[tokio::test]
    async fn a_request_is_as_servers_expect_and_its_answer_comes_whole() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\n\r\nnobody\n".to_vec();
        let (client, addr, asked) = server(answer).await;
        let expected = Got {
            status: 404,
            content_type: Some("text/plain".into()),
            body: b"nobody\n".to_vec(),
        };
        assert_eq!(get(client, addr, "/debug?x=1").await.expect("an answer"), expected);
        let asked = asked.await.expect("no panic");
        assert!(asked.starts_with("GET /debug?x=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {addr}\r\n")), "{asked}");
        assert!(asked.contains("connection: close\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_status_does_not_wait_for_the_body() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        let (client, addr, _asked) = server(head).await;
        assert_eq!(status(client, addr, "/health").await.expect("a head"), 200);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_apart() {
        assert!(matches!(got("SSH-2.0-x\r\n").await, Err(RequestError::NotHttp(_))));
        assert!(matches!(got("").await, Err(RequestError::Closed)));
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
        assert!(matches!(
            got(cut).await,
            Err(RequestError::Closed | RequestError::Connection(_))
        ));
        let mut long = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        long.resize(long.len() + MAX_BODY_BYTES + 1, b'x');
        assert!(matches!(got(long).await, Err(RequestError::TooLong)));
    }
}
