//! The connections that clients have open when the stop signal is sent, and what becomes of them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Progress, close_code, progress};
use super::report::{Client, Fate, Http, What};
use crate::base::whole_ms::whole_ms;

/// Timeout of the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Pause between requests to a server that doesn't answer yet.
const AGAIN: Duration = Duration::from_millis(20);

/// A server that leaves a request unanswered for this long while another connection is open handles one connection at a time.
const ALONE: Duration = Duration::from_secs(1);

/// Time for the server to start on a request, so that it is in progress when the signal is sent.
const TAKEN_UP: Duration = Duration::from_millis(300);

/// When the rest of the half-sent request is sent, after the signal.
const REST_AFTER: Duration = Duration::from_millis(300);

/// The rest of the half-sent request.
const REST: &[u8] = b"\r\n";

/// The server, and the paths to request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) address: SocketAddr,
    /// The path, such as `/`.
    pub(super) path: &'a str,
    /// A path whose answer takes a while.
    pub(super) slow_path: Option<&'a str>,
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Open {
    connections: Vec<(What, TcpStream)>,
    not_tried: Vec<What>,
}

impl Target<'_> {
    /// Sends requests until there is an answer below 500; after half of the time any answer will do.
    pub(super) async fn first_answer(&self) -> Http {
        let begun = Instant::now();
        let deadline = begun + FIRST_ANSWER;
        loop {
            match timeout_at(deadline, self.ask()).await {
                Ok(Ok((status, keeps_alive, _))) if status < 500 || begun.elapsed() > FIRST_ANSWER / 2 => {
                    return Http::Answered {
                        status,
                        first_answer_ms: whole_ms(begun.elapsed()),
                        keeps_alive,
                    };
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => return Http::Silent,
                Ok(Ok(_) | Err(_)) if Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
                Ok(Ok(_) | Err(_)) | Err(_) => return Http::Silent,
            }
        }
    }

    /// Sends one request on a new connection. Returns the answer's status and the connection.
    async fn ask(&self) -> io::Result<(u16, bool, TcpStream)> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(&self.request(self.path)).await?;
        let mut bytes = Vec::new();
        loop {
            let length = stream.read_buf(&mut bytes).await?;
            match progress(&bytes) {
                Progress::Complete { status, keeps_alive } => return Ok((status, keeps_alive, stream)),
                Progress::UntilClosed { status } if length == 0 => return Ok((status, false, stream)),
                Progress::NoHttp => return Err(io::ErrorKind::InvalidData.into()),
                Progress::Partly | Progress::UntilClosed { .. } if length == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Progress::Partly | Progress::UntilClosed { .. } => {}
            }
        }
    }

    fn request(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: */*\r\n\r\n", self.address).into_bytes()
    }

    /// Opens the connections that the server is to have when the signal is sent.
    pub(super) async fn open(&self, keeps_alive: bool) -> Open {
        let mut open = Open {
            connections: Vec::new(),
            not_tried: Vec::new(),
        };
        if let Ok(Some(upgraded)) = timeout(ALONE, self.upgrade()).await {
            open.connections.push((What::WebSocket, upgraded));
        }
        if keeps_alive {
            open.keep(
                What::Idle,
                timeout(ALONE, self.ask())
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .map(|asked| asked.2),
            );
        }
        open.keep(What::HalfRead, self.half_a_request().await.ok());
        // A server that handles one connection at a time is busy with the half-sent request now, and would never see the others.
        if !matches!(timeout(ALONE, self.ask()).await, Ok(Ok(_))) {
            open.connections
                .retain(|(what, _)| !matches!(what, What::HalfRead | What::Idle));
            open.not_tried.extend([What::HalfRead, What::Idle]);
        }
        if let Some(path) = self.slow_path {
            let sent = self.send(path).await.ok();
            open.keep(What::InFlight, sent);
            tokio::time::sleep(TAKEN_UP).await;
        }
        open.keep(What::JustSent, self.send(self.path).await.ok());
        open
    }

    async fn send(&self, path: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(&self.request(path)).await?;
        Ok(stream)
    }

    async fn half_a_request(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = self.request(self.path);
        stream.write_all(&request[..request.len() - REST.len()]).await?;
        Ok(stream)
    }

    /// A WebSocket connection, if the server accepts the upgrade.
    async fn upgrade(&self) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.path, self.address
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.ok()? > 0 {
            if let Progress::Complete { status, .. } = progress(&bytes) {
                return (status == 101).then_some(stream);
            }
        }
        None
    }
}

impl Open {
    fn keep(&mut self, what: What, stream: Option<TcpStream>) {
        match stream {
            Some(stream) => self.connections.push((what, stream)),
            None => self.not_tried.push(what),
        }
    }

    /// Starts to watch all connections. `signalled` is set when the signal was sent.
    pub(super) fn watch(self, signalled: &watch::Receiver<Option<Instant>>) -> WatchedConnections {
        let tasks = self.connections.into_iter().map(|(what, stream)| {
            let watching = watch_one(what, stream, signalled.clone());
            (what, tokio::spawn(watching))
        });
        WatchedConnections {
            tasks: tasks.collect(),
            not_tried: self.not_tried,
        }
    }
}

/// Connections that are being watched.
#[derive(Debug)]
pub(super) struct WatchedConnections {
    tasks: Vec<(What, JoinHandle<(Seen, Instant)>)>,
    not_tried: Vec<What>,
}

impl WatchedConnections {
    /// What has become of them by `until`.
    pub(super) async fn fates(self, signal: Instant, until: Instant) -> Vec<Client> {
        let mut clients = Vec::new();
        for (what, mut task) in self.tasks {
            let seen = timeout_at(until, &mut task).await;
            task.abort();
            let fate = match seen {
                Ok(Ok((seen, at))) => fate(seen, at, signal),
                Ok(Err(_)) | Err(_) => Fate::LeftOpen,
            };
            clients.push(Client { what, fate });
        }
        clients.extend(self.not_tried.into_iter().map(|what| Client {
            what,
            fate: Fate::NotTried,
        }));
        clients.sort_by_key(|client| client.what);
        clients
    }
}

/// What was seen of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Answered(u16),
    ClosedWith(u16),
    Closed { partly_answered: bool },
    Reset,
}

fn fate(seen: Seen, at: Instant, signal: Instant) -> Fate {
    let after_ms = whole_ms(at.saturating_duration_since(signal));
    match seen {
        Seen::Answered(_) if at < signal => Fate::TooFast,
        Seen::Answered(status) => Fate::Answered { status, after_ms },
        Seen::ClosedWith(code) => Fate::ClosedWith { code, after_ms },
        Seen::Closed { partly_answered } => Fate::Closed {
            after_ms,
            partly_answered,
        },
        Seen::Reset => Fate::Reset { after_ms },
    }
}

async fn watch_one(
    what: What,
    mut stream: TcpStream,
    mut signalled: watch::Receiver<Option<Instant>>,
) -> (Seen, Instant) {
    if what == What::HalfRead {
        // The sender outlives the trial. Without it there is no signal, and nothing to wait for.
        drop(signalled.wait_for(Option::is_some).await);
        // If the server has closed the connection or answered by then, reading shows it.
        if timeout(REST_AFTER, stream.peek(&mut [0])).await.is_err() {
            drop(stream.write_all(REST).await);
        }
    }
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await;
        let now = Instant::now();
        let seen = match read {
            Ok(0) => Some(closed(what, &bytes)),
            Ok(_) => said(what, &bytes),
            Err(_) => Some(Seen::Reset),
        };
        if let Some(seen) = seen {
            return (seen, now);
        }
    }
}

/// The outcome if these are all bytes that arrived.
fn said(what: What, bytes: &[u8]) -> Option<Seen> {
    match what {
        What::WebSocket => close_code(bytes).map(Seen::ClosedWith),
        What::Idle | What::InFlight | What::HalfRead | What::JustSent => match progress(bytes) {
            Progress::Complete { status, .. } => Some(Seen::Answered(status)),
            Progress::Partly | Progress::UntilClosed { .. } | Progress::NoHttp => None,
        },
    }
}

/// The outcome if the connection ended after these bytes.
fn closed(what: What, bytes: &[u8]) -> Seen {
    match (what, progress(bytes)) {
        (What::InFlight | What::HalfRead | What::JustSent, Progress::UntilClosed { status }) => Seen::Answered(status),
        (
            What::Idle | What::WebSocket | What::InFlight | What::HalfRead | What::JustSent,
            Progress::Partly | Progress::UntilClosed { .. } | Progress::Complete { .. } | Progress::NoHttp,
        ) => Seen::Closed {
            partly_answered: !bytes.is_empty(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_signal_shows_nothing() {
        let signal = Instant::now();
        let (before, after) = (signal - Duration::from_millis(1), signal + Duration::from_millis(7));
        assert_eq!(fate(Seen::Answered(200), before, signal), Fate::TooFast);
        assert_eq!(
            fate(Seen::Answered(200), after, signal),
            Fate::Answered {
                status: 200,
                after_ms: 7
            }
        );
        assert_eq!(fate(Seen::Reset, after, signal), Fate::Reset { after_ms: 7 });
    }

    #[test]
    fn an_answer_without_a_length_ends_with_its_connection() {
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(said(What::InFlight, bytes), None);
        assert_eq!(closed(What::InFlight, bytes), Seen::Answered(200));
        assert_eq!(
            closed(What::InFlight, b"HTTP/1.1 200"),
            Seen::Closed { partly_answered: true }
        );
        assert_eq!(closed(What::Idle, b""), Seen::Closed { partly_answered: false });
    }
}
