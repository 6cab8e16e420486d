//! One request on a connection of its own, on a socket that never blocks.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use reuse_tests::http::{self, Failure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::load::sample::RequestOutcome;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    state: State,
    received: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Waiting,
}

impl Connection {
    /// Begins to connect.
    ///
    /// # Errors
    /// Of the system call that failed; that the connection is not there yet is none.
    pub(crate) fn open(to: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // Many connections of one address: the port is unique only together with where the connection goes to.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        Ok(Self {
            stream: socket.into(),
            state: State::Connecting,
            received: Vec::new(),
        })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Goes as far as it goes without waiting; says how it ended, once it has.
    pub(crate) fn proceed(&mut self, path: &str) -> Option<RequestOutcome> {
        self.try_proceed(path).unwrap_or_else(|error| Some(outcome_of(&error)))
    }

    fn try_proceed(&mut self, path: &str) -> io::Result<Option<RequestOutcome>> {
        if self.state == State::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
            match self.stream.write(request.as_bytes()) {
                Ok(sent) if sent == request.len() => self.state = State::Waiting,
                // A fresh socket takes sixty bytes.
                Ok(_) => return Ok(Some(RequestOutcome::Other)),
                Err(error) if is_not_yet(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        loop {
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(answer(&self.received, true)),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some(outcome) = answer(&self.received, false) {
                return Ok(Some(outcome));
            }
        }
    }
}

/// A socket that is still connecting is "not connected".
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

/// Why there was no connection, or no answer on it.
pub(crate) fn outcome_of(error: &io::Error) -> RequestOutcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => RequestOutcome::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            RequestOutcome::Reset
        }
        io::ErrorKind::TimedOut => RequestOutcome::TimedOut,
        _ => {
            eprintln!("load: {error}");
            RequestOutcome::Other
        }
    }
}

/// What the bytes say, once they are complete.
fn answer(received: &[u8], ended: bool) -> Option<RequestOutcome> {
    Some(match http::parse(received, ended) {
        Ok(answer) => answer?.pid.map_or(RequestOutcome::Other, RequestOutcome::Answered),
        Err(Failure::Status(status)) => RequestOutcome::Status(status),
        Err(Failure::Closed(_) | Failure::CutOff) => RequestOutcome::Closed,
        Err(Failure::Malformed | Failure::Connect(_) | Failure::Send(_) | Failure::TimedOut) => RequestOutcome::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n- 4711\n";
        assert_eq!(answer(whole, false), Some(RequestOutcome::Answered(4711)));
        assert_eq!(answer(&whole[..whole.len() - 1], false), None);
        assert_eq!(answer(&whole[..whole.len() - 1], true), Some(RequestOutcome::Closed));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n", true), Some(RequestOutcome::Closed));
        let endless = b"HTTP/1.1 200 OK\r\n\r\n2 4711\n";
        assert_eq!(
            (answer(endless, false), answer(endless, true)),
            (None, Some(RequestOutcome::Answered(4711)))
        );
    }

    #[test]
    fn a_proxy_that_has_no_server_is_a_failure() {
        let text = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(answer(text, false), Some(RequestOutcome::Status(502)));
    }
}
