//! The client of `control.sock`: one connection per request, so that status can be read while a drain is waited for.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::bus::Packet;
use super::types::{Event, GetRequest, Got, Reply, Status, WORKER_HEADER};

/// Why a controller could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no such socket: no controller, or one that has not come so far yet.
    #[error("there is no control socket {0}")]
    NoSocket(PathBuf),
    /// The socket is there, and nobody behind it: its controller was killed.
    #[error("nobody answers on {0}")]
    Refused(PathBuf),
    /// The socket belongs to somebody else.
    #[error("{path} belongs to {owner}")]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
        /// A user's name, or its number.
        owner: String,
    },
    /// The controller answered a question with a refusal.
    #[error("{}", .0.error.as_deref().unwrap_or("the controller refused"))]
    Refusal(Box<Reply>),
    /// The controller went away in the middle, or what answers is not a controller.
    #[error("{path}: {reason}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
}

/// A controller that answers.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Checks that somebody listens on `path` and lets us in.
    ///
    /// # Errors
    /// Everything but `Refusal`.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        open(path).await?;
        Ok(Self { path: path.to_owned() })
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// All.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let response = self.send(Method::GET, "/v1/status", Bytes::new()).await?;
        let is_success = response.status().is_success();
        let body = self.whole(response).await?;
        if is_success {
            self.parse(&body)
        } else {
            Err(ClientError::Refusal(Box::new(self.parse(&body)?)))
        }
    }

    /// Any other request, and its reply, also when that is a refusal.
    ///
    /// # Errors
    /// Everything but `Refusal`.
    pub async fn command(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Reply, ClientError> {
        let body = serde_json::to_vec(body).expect("requests are plain data");
        let response = self.send(method, path, body.into()).await?;
        let body = self.whole(response).await?;
        self.parse(&body)
    }

    /// `POST /v1/workers/{id}/get`: what the worker answered, whatever its status.
    ///
    /// # Errors
    /// All; `Refusal` when the controller has no answer of the worker's.
    pub async fn get(&self, id: u16, request: &GetRequest) -> Result<Got, ClientError> {
        let body = serde_json::to_vec(request).expect("requests are plain data");
        let path = format!("/v1/workers/{id}/get");
        let response = self.send(Method::POST, &path, body.into()).await?;
        if !response.headers().contains_key(WORKER_HEADER) {
            let body = self.whole(response).await?;
            return Err(ClientError::Refusal(Box::new(self.parse(&body)?)));
        }
        let content_type = response.headers().get("content-type");
        Ok(Got {
            status: response.status().as_u16(),
            content_type: content_type.and_then(|text| Some(text.to_str().ok()?.to_owned())),
            body: self.whole(response).await?.to_vec(),
        })
    }

    /// `GET /v1/events`.
    ///
    /// # Errors
    /// All.
    pub async fn events(&self) -> Result<EventStream, ClientError> {
        Ok(EventStream(self.stream("/v1/events").await?))
    }

    /// `GET /v1/bus`.
    ///
    /// # Errors
    /// All.
    pub async fn bus(&self) -> Result<BusStream, ClientError> {
        Ok(BusStream(self.stream("/v1/bus").await?))
    }

    async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if !response.status().is_success() {
            let body = self.whole(response).await?;
            return Err(ClientError::Refusal(Box::new(self.parse(&body)?)));
        }
        Ok(Stream {
            client: self.clone(),
            body: response.into_body(),
            buffered: Buffered::default(),
        })
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
        // It ends with the response's body; its errors reach us through the sender and the body.
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

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| self.protocol(error.to_string()))?;
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

/// What happens in the app, as it happens.
#[derive(Debug)]
pub struct EventStream(Stream);

/// PM2's bus.
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
    /// `Protocol` only.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        let message = self.0.next().await?;
        Some(message.and_then(|message| self.0.client.parse(&message.data)))
    }
}

impl BusStream {
    /// The next packet; `None` when the app has ended.
    ///
    /// # Errors
    /// `Protocol` only.
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
            match self.body.frame().await? {
                Ok(frame) => self
                    .buffered
                    .bytes
                    .extend(frame.data_ref().map_or(&[][..], |data| data)),
                Err(error) => return Some(Err(self.client.protocol(error.to_string()))),
            }
        }
    }
}

/// A part of a stream of events.
#[derive(Debug, Default)]
struct Buffered {
    bytes: Vec<u8>,
    /// No message ends before. Without it, one of 16 MiB that comes in small pieces would be searched again with each of them.
    searched: usize,
}

/// One event; its data is not empty.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    name: Vec<u8>,
    data: Vec<u8>,
}

impl Buffered {
    /// The first complete message that has data; comments (keep-alives) are dropped on the way.
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

/// Who owns the socket, or the first folder above it that can be looked at.
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
