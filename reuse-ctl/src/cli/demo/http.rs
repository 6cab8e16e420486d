//! One HTTP request and its answer, written by hand: the demo must know whether a connection broke before the first byte of the answer.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cli::tryout::answer::{Progress, body, progress};

/// Maximum size of an answer of the demo's server.
const ANSWER_BYTES: usize = 4096;

/// An answer of the demo's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The worker that answered.
    pub(super) worker: u16,
    /// Whether the connection can be used for another request.
    pub(super) keeps_open: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The connection ended before the first byte of the answer. On a reused connection, the client may then try again.
    #[error("closed without an answer")]
    Unanswered,
    /// The connection ended in the middle of the answer.
    #[error("cut off within the answer: {0}")]
    CutOff(io::Error),
    /// The answer is not from the demo's server.
    #[error("an answer that is not the demo's: {0}")]
    Strange(String),
}

/// Sends one request over `stream`. `keeps_open`: whether the connection is to be kept.
pub(super) async fn exchange(stream: &mut TcpStream, keeps_open: bool) -> Result<Answer, ExchangeError> {
    let request: &[u8] = if keeps_open {
        b"GET / HTTP/1.1\r\nhost: demo\r\n\r\n"
    } else {
        b"GET / HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n"
    };
    if stream.write_all(request).await.is_err() {
        return Err(ExchangeError::Unanswered);
    }
    let mut received = Vec::with_capacity(512);
    loop {
        let read = stream.read_buf(&mut received).await;
        let ended = match read {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) if received.len() > ANSWER_BYTES => return Err(strange(&received)),
            Ok(_) => match parse(&received)? {
                Some(answer) => return Ok(answer),
                None => continue,
            },
            Err(error) => error,
        };
        return Err(if received.is_empty() {
            ExchangeError::Unanswered
        } else {
            ExchangeError::CutOff(ended)
        });
    }
}

/// Waits until the other end has closed, so that the port is not held on this side.
pub(super) async fn until_closed(stream: &mut TcpStream) {
    let mut rest = [0; 64];
    // The answer is complete, so it no longer matters how the connection ends.
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}

fn strange(received: &[u8]) -> ExchangeError {
    ExchangeError::Strange(String::from_utf8_lossy(&received[..received.len().min(60)]).into_owned())
}

/// The answer, once it is complete.
fn parse(received: &[u8]) -> Result<Option<Answer>, ExchangeError> {
    #[derive(serde::Deserialize)]
    struct Body {
        worker: u16,
    }
    let keeps_open = match progress(received) {
        Progress::Partly => return Ok(None),
        Progress::Complete {
            status: 200,
            keeps_alive,
        } => keeps_alive,
        Progress::Complete { .. } | Progress::UntilClosed { .. } | Progress::NoHttp => return Err(strange(received)),
    };
    match serde_json::from_slice(body(received)) {
        Ok(Body { worker }) => Ok(Some(Answer { worker, keeps_open })),
        Err(_) => Err(strange(received)),
    }
}
