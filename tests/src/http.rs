//! A plain HTTP/1.1 client that says exactly what went wrong. Every socket has timeouts.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};

use crate::interrupted;

/// How long a client waits for anything. Longer than any wait that the product promises to bridge.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The slot that the server says it is.
    pub slot: Option<u16>,
    /// The process that the server says it is.
    pub pid: Option<u32>,
    /// The whole body.
    pub body: String,
    /// Whether another request may follow on this connection.
    pub keeps_alive: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect(io::ErrorKind),
    /// The request could not be sent.
    Send(io::ErrorKind),
    /// The connection ended before a byte of the answer, with or without an error.
    Closed(Option<io::ErrorKind>),
    /// The connection ended within the answer.
    CutOff,
    /// Nothing came for [`PATIENCE`].
    TimedOut,
    /// Not HTTP.
    Malformed,
    /// Another status than 200.
    Status(u16),
}

impl Failure {
    /// Whether a browser tries again, given that the connection had carried an answer before: the server closed while it was idle.
    pub fn is_stale_connection(self) -> bool {
        matches!(self, Self::Send(_) | Self::Closed(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(kind) => write!(f, "connect: {kind}"),
            Self::Send(kind) => write!(f, "send: {kind}"),
            Self::Closed(None) => f.write_str("closed before an answer"),
            Self::Closed(Some(kind)) => write!(f, "no answer: {kind}"),
            Self::CutOff => f.write_str("answer cut off"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    answered: u32,
}

impl Connection {
    /// Connects from `from` (any address and port when absent; a port of 0 is any port).
    ///
    /// # Errors
    /// [`Failure::Connect`], [`Failure::TimedOut`].
    pub fn open(to: SocketAddr, from: Option<SocketAddr>) -> Result<Self, Failure> {
        let stream = connect(to, from).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Failure::TimedOut,
            kind => Failure::Connect(kind),
        })?;
        Ok(Self { stream, answered: 0 })
    }

    /// One that is established already, and may have carried a part of a request.
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, answered: 0 }
    }

    /// Sends anything.
    ///
    /// # Errors
    /// [`Failure::Send`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream
            .write_all(bytes)
            .map_err(|error| Failure::Send(error.kind()))
    }

    /// Whether it has carried an answer before.
    pub fn is_reused(&self) -> bool {
        self.answered > 0
    }

    /// The local address.
    pub fn local(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connected socket has a local address")
    }

    /// `GET /`, with `Connection: close` when it is the last request.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn get(&mut self, last: bool) -> Result<Answer, Failure> {
        let request: &[u8] = if last {
            b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        } else {
            b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
        };
        self.send(request)?;
        let answer = self.read_answer()?;
        self.answered += 1;
        Ok(answer)
    }

    /// Waits until the server closes; whether it did so within `limit`.
    pub fn wait_closed(&mut self, limit: Duration) -> bool {
        self.stream
            .set_read_timeout(Some(limit))
            .expect("a timeout that is not 0");
        !interrupted::retry(|| self.stream.read(&mut [0; 1024])).is_err_and(|error| is_timeout(&error))
    }

    /// Ends it with a reset, so that nothing of it lingers and its port can be used again at once.
    pub fn reset(self) {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Waits for the answer to what was sent.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn read_answer(&mut self) -> Result<Answer, Failure> {
        let mut received = Vec::with_capacity(512);
        let mut chunk = [0; 4096];
        loop {
            let count = match interrupted::retry(|| self.stream.read(&mut chunk)) {
                Ok(count) => count,
                Err(error) if is_timeout(&error) => return Err(Failure::TimedOut),
                Err(error) => return Err(broken(&received, error.kind())),
            };
            received.extend_from_slice(&chunk[..count]);
            if let Some(answer) = parse(&received, count == 0)? {
                return Ok(answer);
            }
        }
    }
}

/// The answer in what was received so far, and nothing more comes if it has `ended`; `None` when it is not complete.
///
/// # Errors
/// [`Failure::Malformed`], [`Failure::Status`], [`Failure::Closed`], [`Failure::CutOff`].
pub fn parse(received: &[u8], ended: bool) -> Result<Option<Answer>, Failure> {
    let head = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| Head::parse(&received[..at], at + 4))
        .transpose()?;
    match head {
        Some(head) => match head.length {
            Some(length) if received.len() >= head.size + length => head.answer(received).map(Some),
            None if ended => head.answer(received).map(Some),
            _ if ended => Err(Failure::CutOff),
            _ => Ok(None),
        },
        None if ended && received.is_empty() => Err(Failure::Closed(None)),
        None if ended => Err(Failure::CutOff),
        None => Ok(None),
    }
}

/// Whether a socket's time limit is over.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The failure that an error is after these bytes of an answer.
pub fn broken(received: &[u8], error: io::ErrorKind) -> Failure {
    if received.is_empty() {
        Failure::Closed(Some(error))
    } else {
        Failure::CutOff
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// See [`Failure`].
pub fn get(to: SocketAddr, from: Option<IpAddr>) -> Result<Answer, Failure> {
    Connection::open(to, from.map(|address| SocketAddr::new(address, 0)))?.get(true)
}

/// One request for `path` on a connection of its own.
///
/// # Errors
/// See [`Failure`].
pub fn get_path(to: SocketAddr, path: &str) -> Result<Answer, Failure> {
    let mut connection = Connection::open(to, None)?;
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())?;
    connection.read_answer()
}

/// Opens a connection, with timeouts set. The local port is chosen at connect, not at bind: many connections of one address to one server.
///
/// # Errors
/// Of the system call that failed.
pub fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        if from.port() == 0 {
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
        } else {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&from.into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What the head of an answer says.
struct Head {
    size: usize,
    status: u16,
    length: Option<usize>,
    keeps_alive: bool,
}

impl Head {
    fn parse(bytes: &[u8], size: usize) -> Result<Self, Failure> {
        let text = std::str::from_utf8(bytes).map_err(|_| Failure::Malformed)?;
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or(Failure::Malformed)?;
        let mut head = Self {
            size,
            status,
            length: None,
            keeps_alive: text.starts_with("HTTP/1.1"),
        };
        for (name, value) in text.lines().skip(1).filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
                head.keeps_alive = false;
            }
        }
        Ok(head)
    }

    fn answer(&self, received: &[u8]) -> Result<Answer, Failure> {
        if self.status != 200 {
            return Err(Failure::Status(self.status));
        }
        let body = String::from_utf8_lossy(&received[self.size..]).into_owned();
        let mut words = body.split_whitespace();
        let (slot, pid) = (
            words.next().and_then(|word| word.parse().ok()),
            words.next().and_then(|word| word.parse().ok()),
        );
        Ok(Answer {
            status: self.status,
            slot,
            pid,
            keeps_alive: self.keeps_alive,
            body,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What `ask` makes of a server that answers one request with these bytes.
    pub(crate) fn served<T>(bytes: &'static [u8], ask: impl FnOnce(SocketAddr) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let to = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            assert!(stream.read(&mut [0; 1024]).expect("a request") > 0);
            stream.write_all(bytes).expect("send");
        });
        let answer = ask(to);
        server.join().expect("the server ends");
        answer
    }

    fn answered_with(bytes: &'static [u8]) -> Result<Answer, Failure> {
        served(bytes, |to| get(to, None))
    }

    #[test]
    fn an_answer_names_slot_and_process() {
        let answer = answered_with(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n3 4711\n").expect("an answer");
        assert_eq!(
            (answer.slot, answer.pid, answer.keeps_alive),
            (Some(3), Some(4711), true)
        );
    }

    #[test]
    fn every_way_to_fail_is_told_apart() {
        assert_eq!(answered_with(b""), Err(Failure::Closed(None)));
        assert_eq!(
            answered_with(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n3"),
            Err(Failure::CutOff)
        );
        assert_eq!(
            answered_with(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
            Err(Failure::Status(500))
        );
        let nobody = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("bind");
        assert_eq!(
            get(nobody, None),
            Err(Failure::Connect(io::ErrorKind::ConnectionRefused))
        );
    }
}
