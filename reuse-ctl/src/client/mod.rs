//! The client of `control.sock`. Each request has its own connection, so that status can be read while another request waits for a drain.

pub(crate) mod own_controller;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::wire::{Event, GetRequest, Got, Packet, Reply, Status, WORKER_HEADER};

/// A request without an answer after this time may take as long as it needs, provided that the controller answers a quick request
/// meanwhile.
const PROBE_AFTER: Duration = Duration::from_secs(2);

/// Timeout of that quick request: longer than any answer seen under load.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stream that is silent for this long is checked in the same way. A live stream sends a comment every 15 seconds.
const SILENT_STREAM: Duration = Duration::from_secs(20);

/// Why a request to a controller failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket doesn't exist: there is no controller, or it is still starting.
    #[error("there is no control socket {0}")]
    NoSocket(PathBuf),
    /// The socket exists, but nobody listens: its controller was killed.
    #[error("nobody answers on {0}")]
    Refused(PathBuf),
    /// The socket belongs to another user.
    #[error("{path} belongs to {owner}")]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
        /// The user's name, or the uid.
        owner: String,
    },
    /// The controller is alive but doesn't answer: it is stopped (Ctrl-Z), or stuck.
    #[error("{0}: the controller is there, and does not answer")]
    Silent(PathBuf),
    /// The controller refused the request.
    #[error("{}", .0.error.as_deref().unwrap_or("the controller refused"))]
    Refusal(Box<Reply>),
    /// The controller ended before the answer was complete, or the socket's owner is not a controller.
    #[error("{path}: {reason}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was wrong with the answer.
        reason: String,
    },
}

/// A controller that answers.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Checks that a controller listens on `path`, accepts the connection and answers. A stopped controller would carry out a request when
    /// it continues, at a time when nobody expects it any more, so no request is sent to it.
    ///
    /// # Errors
    /// Every error but `Refusal`.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let client = Self { path: path.to_owned() };
        // An unknown path gives the cheapest answer.
        client.probe("/v1").await.map(|()| client)
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// Every error.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let (head, body) = self.ask(Method::GET, "/v1/status", Bytes::new()).await?;
        if head.status.is_success() {
            self.parse(&body)
        } else {
            Err(ClientError::Refusal(Box::new(self.parse(&body)?)))
        }
    }

    /// Sends any other request and returns the reply, including a refusal.
    ///
    /// # Errors
    /// Every error but `Refusal`.
    pub async fn command(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Reply, ClientError> {
        let body = serde_json::to_vec(body).expect("requests are plain data");
        let (_, body) = self.ask(method, path, body.into()).await?;
        self.parse(&body)
    }

    /// `POST /v1/workers/{id}/get`: the worker's answer, whatever its status.
    ///
    /// # Errors
    /// Every error. `Refusal` if the controller got no answer from the worker.
    pub async fn get(&self, id: u16, request: &GetRequest) -> Result<Got, ClientError> {
        let body = serde_json::to_vec(request).expect("requests are plain data");
        let path = format!("/v1/workers/{id}/get");
        let (head, body) = self.ask(Method::POST, &path, body.into()).await?;
        if !head.headers.contains_key(WORKER_HEADER) {
            return Err(ClientError::Refusal(Box::new(self.parse(&body)?)));
        }
        let content_type = head.headers.get("content-type");
        Ok(Got {
            status: head.status.as_u16(),
            content_type: content_type.and_then(|text| Some(text.to_str().ok()?.to_owned())),
            body: body.to_vec(),
        })
    }

    /// `GET /v1/events`.
    ///
    /// # Errors
    /// Every error.
    pub async fn events(&self) -> Result<EventStream, ClientError> {
        Ok(EventStream(self.stream("/v1/events").await?))
    }

    /// `GET /v1/bus`.
    ///
    /// # Errors
    /// Every error.
    pub async fn bus(&self) -> Result<BusStream, ClientError> {
        Ok(BusStream(self.stream("/v1/bus").await?))
    }

    async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let response = self
            .unless_silent(PROBE_AFTER, self.send(Method::GET, path, Bytes::new()))
            .await??;
        if !response.status().is_success() {
            let body = self.whole(response.into_body()).await?;
            return Err(ClientError::Refusal(Box::new(self.parse(&body)?)));
        }
        Ok(Stream {
            client: self.clone(),
            body: response.into_body(),
            buffered: Buffered::default(),
        })
    }

    /// Sends one request and waits for the complete answer, however long the controller takes.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(Parts, Bytes), ClientError> {
        let asked = async {
            let (head, body) = self.send(method, path, body).await?.into_parts();
            Ok((head, self.whole(body).await?))
        };
        self.unless_silent(PROBE_AFTER, asked).await?
    }

    /// Waits as long as the controller is alive, which is checked whenever nothing has arrived for `quiet`.
    ///
    /// # Errors
    /// `Silent` only.
    async fn unless_silent<T>(&self, quiet: Duration, awaited: impl Future<Output = T>) -> Result<T, ClientError> {
        let falls_silent = async {
            loop {
                tokio::time::sleep(quiet).await;
                // If the controller has just ended, the awaited future reports it.
                if let Err(ClientError::Silent(_)) = self.probe("/v1/status").await {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            result = awaited => Ok(result),
            () = falls_silent => Err(ClientError::Silent(self.path.clone())),
        }
    }

    /// Whether the controller answers this request in time, even with a refusal.
    async fn probe(&self, path: &str) -> Result<(), ClientError> {
        let answered = async {
            let response = self.send(Method::GET, path, Bytes::new()).await?;
            self.whole(response.into_body()).await
        };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(ClientError::Silent(self.path.clone())),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = open(&self.path).await?;
        let failed = |error: hyper::Error| {
            let reason = if error.is_incomplete_message() {
                "the controller went away before it answered".into()
            } else {
                error.to_string()
            };
            self.protocol(reason)
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // The task ends with the response's body. Its errors are reported through the sender and the body.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "reuse-ctl")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.protocol(error.to_string()))?;
        sender.send_request(request).await.map_err(failed)
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let body = body.collect().await.map_err(|error| self.protocol(error.to_string()))?;
        Ok(body.to_bytes())
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body)
            .map_err(|error| self.protocol(format!("an answer that is not understood: {error}")))
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol {
            path: self.path.clone(),
            reason,
        }
    }
}

/// The app's events as they happen.
#[derive(Debug)]
pub struct EventStream(Stream);

/// The packets of PM2's bus.
#[derive(Debug)]
pub struct BusStream(Stream);

/// Server-sent events.
#[derive(Debug)]
struct Stream {
    client: Client,
    body: Incoming,
    buffered: Buffered,
}

impl EventStream {
    /// The next event; `None` when the app has ended.
    ///
    /// # Errors
    /// `Protocol` and `Silent` only.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        let message = self.0.next().await?;
        Some(message.and_then(|message| self.0.client.parse(&message.data)))
    }
}

impl BusStream {
    /// The next packet; `None` when the app has ended.
    ///
    /// # Errors
    /// `Protocol` and `Silent` only.
    pub async fn next(&mut self) -> Option<Result<Packet, ClientError>> {
        let message = self.0.next().await?;
        Some(message.and_then(|Message { name, data }| {
            let text = |bytes| String::from_utf8(bytes).map_err(|error| self.0.client.protocol(error.to_string()));
            Ok(Packet {
                name: text(name)?.trim_start().to_owned(),
                data: text(data)?.trim_start().to_owned(),
            })
        }))
    }
}

impl Stream {
    async fn next(&mut self) -> Option<Result<Message, ClientError>> {
        loop {
            if let Some(message) = self.buffered.take_message() {
                return Some(Ok(message));
            }
            let frame = match self.client.unless_silent(SILENT_STREAM, self.body.frame()).await {
                Ok(frame) => frame?,
                Err(silent) => return Some(Err(silent)),
            };
            match frame {
                Ok(frame) => self
                    .buffered
                    .bytes
                    .extend(frame.data_ref().map_or(&[][..], |data| data)),
                Err(error) => return Some(Err(self.client.protocol(error.to_string()))),
            }
        }
    }
}

/// The received part of a stream of events.
#[derive(Debug, Default)]
struct Buffered {
    bytes: Vec<u8>,
    /// No message ends before this index. Without it, a message of 16 MiB that arrives in small pieces would be searched again for each
    /// piece.
    searched: usize,
}

/// One event; its data is not empty.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    name: Vec<u8>,
    data: Vec<u8>,
}

impl Buffered {
    /// Takes the first complete message with data. Comments (keep-alives) are dropped.
    fn take_message(&mut self) -> Option<Message> {
        loop {
            let Some(end) = self.bytes[self.searched..].windows(2).position(|pair| pair == b"\n\n") else {
                self.searched = self.bytes.len().saturating_sub(1);
                return None;
            };
            let message: Vec<u8> = self.bytes.drain(..self.searched + end + 2).collect();
            self.searched = 0;
            let of_kind = |prefix: &[u8]| {
                let lines = message.split(|byte| *byte == b'\n');
                let values: Vec<&[u8]> = lines.filter_map(|line| line.strip_prefix(prefix)).collect();
                values.join(&b'\n')
            };
            let data = of_kind(b"data:");
            if !data.is_empty() {
                let name = of_kind(b"event:");
                return Some(Message { name, data });
            }
        }
    }
}

async fn open(path: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ClientError::NoSocket(path.to_owned()),
        io::ErrorKind::ConnectionRefused => ClientError::Refused(path.to_owned()),
        // The controller has not accepted for so long that its accept queue is full.
        io::ErrorKind::WouldBlock => ClientError::Silent(path.to_owned()),
        io::ErrorKind::PermissionDenied => ClientError::PermissionDenied {
            path: path.to_owned(),
            owner: owner_of(path),
        },
        _ => ClientError::Protocol {
            path: path.to_owned(),
            reason: format!("connect: {error}"),
        },
    })
}

/// The owner of the socket, or of the first folder above it that can be examined.
fn owner_of(path: &Path) -> String {
    let uid = path
        .ancestors()
        .find_map(|place| place.symlink_metadata().ok())
        .map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    let Some(uid) = uid else { return "another user".into() };
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_of_the_stream() {
        let stream = b":\n\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\nevent: z\ndata: 2\n\n";
        let message = |name: &[u8], data: &[u8]| Message {
            name: name.to_vec(),
            data: data.to_vec(),
        };
        let expected = [
            message(b"", b" {\"a\":1}"),
            message(b"", b" x\n y"),
            message(b" z", b" 2"),
        ];
        for piece in 1..=stream.len() {
            let mut buffered = Buffered::default();
            let mut found = Vec::new();
            for piece in stream.chunks(piece) {
                buffered.bytes.extend(piece);
                found.extend(std::iter::from_fn(|| buffered.take_message()));
            }
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }
}
