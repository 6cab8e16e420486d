//! A client that reads at a pace of its own, in whatever way the answer is framed, and counts the body instead of keeping it.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{self, Failure, is_timeout};
use crate::interrupted;

/// How long nothing may come: longer than the longest drain timeout and stop timeout that a server may be given by default.
const SILENCE: Duration = Duration::from_secs(45);

/// How much is taken from the kernel at a time.
const PIECE: usize = 256 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Conversation {
    stream: BufReader<Paced>,
    /// Whether it has carried an answer before.
    is_reused: bool,
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Bytes of the body, without what frames them.
    pub length: u64,
    /// Whether another request may follow on this connection.
    pub keeps_alive: bool,
}

impl Conversation {
    /// Connects; reads at most so many bytes each second.
    ///
    /// # Errors
    /// [`Failure::Connect`], [`Failure::TimedOut`].
    pub fn open(to: SocketAddr, bytes_per_second: u32) -> Result<Self, Failure> {
        let stream = http::connect(to, None).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Failure::TimedOut,
            kind => Failure::Connect(kind),
        })?;
        stream.set_read_timeout(Some(SILENCE)).expect("a timeout that is not 0");
        Ok(Self {
            stream: BufReader::with_capacity(PIECE, Paced::new(stream, bytes_per_second)),
            is_reused: false,
        })
    }

    /// Whether it has carried an answer before.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Sends `GET path`.
    ///
    /// # Errors
    /// [`Failure::Send`].
    pub fn ask(&mut self, path: &str) -> Result<(), Failure> {
        self.send(&request(path))
    }

    /// The same, with this between the halves of the request.
    ///
    /// # Errors
    /// [`Failure::Send`].
    pub fn ask_in_halves(&mut self, path: &str, between: impl FnOnce()) -> Result<(), Failure> {
        let request = request(path);
        let (first, second) = request.split_at(request.len() / 2);
        self.send(first)?;
        between();
        self.send(second)
    }

    /// Reads the whole answer to what was asked; says when its body has begun.
    ///
    /// # Errors
    /// See [`Failure`]. An answer that ends with the connection is never cut off: its length tells.
    pub fn answer(&mut self, begun: impl FnOnce()) -> Result<Answer, Failure> {
        self.wait_for_a_byte()?;
        let head = self.head()?;
        if !matches!(head.framing, Framing::Length(0)) {
            self.stream.fill_buf().map_err(|error| cut_off(&error))?;
        }
        begun();
        let length = match head.framing {
            Framing::Length(length) => self.skip(length)?,
            Framing::Chunks => self.skip_chunks()?,
            Framing::UntilClosed => io::copy(&mut self.stream, &mut io::sink()).map_err(|error| cut_off(&error))?,
        };
        self.is_reused = true;
        Ok(Answer {
            length,
            keeps_alive: head.keeps_alive,
        })
    }

    fn send(&mut self, text: &str) -> Result<(), Failure> {
        let sent = self.stream.get_mut().stream.write_all(text.as_bytes());
        sent.map_err(|error| Failure::Send(error.kind()))
    }

    fn wait_for_a_byte(&mut self) -> Result<(), Failure> {
        match self.stream.fill_buf() {
            Ok([]) => Err(Failure::Closed(None)),
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => Err(Failure::TimedOut),
            Err(error) => Err(Failure::Closed(Some(error.kind()))),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(|error| cut_off(&error))?;
        let whole = line.strip_suffix('\n').ok_or(Failure::CutOff)?;
        Ok(whole.trim_end_matches('\r').to_owned())
    }

    fn head(&mut self) -> Result<Head, Failure> {
        let status = self.line()?;
        if status.split(' ').nth(1) != Some("200") {
            return Err(Failure::Malformed);
        }
        let mut head = Head {
            framing: Framing::UntilClosed,
            keeps_alive: status.starts_with("HTTP/1.1"),
        };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            match (name, value.trim()) {
                ("content-length", length) => {
                    head.framing = Framing::Length(length.parse().map_err(|_| Failure::Malformed)?);
                }
                ("transfer-encoding", "chunked") => head.framing = Framing::Chunks,
                ("connection", "close") => head.keeps_alive = false,
                _ => {}
            }
        }
        if matches!(head.framing, Framing::UntilClosed) {
            head.keeps_alive = false;
        }
        Ok(head)
    }

    fn skip_chunks(&mut self) -> Result<u64, Failure> {
        let mut sum = 0;
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| Failure::Malformed)?;
            sum += self.skip(size)?;
            // After the last there may be trailers; none of our servers sends one.
            if !self.line()?.is_empty() {
                return Err(Failure::Malformed);
            }
            if size == 0 {
                return Ok(sum);
            }
        }
    }

    fn skip(&mut self, length: u64) -> Result<u64, Failure> {
        let mut body = self.stream.by_ref().take(length);
        let skipped = io::copy(&mut body, &mut io::sink()).map_err(|error| cut_off(&error))?;
        if skipped == length {
            Ok(length)
        } else {
            Err(Failure::CutOff)
        }
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

struct Head {
    framing: Framing,
    keeps_alive: bool,
}

/// How the end of a body is told.
enum Framing {
    Length(u64),
    Chunks,
    UntilClosed,
}

fn cut_off(error: &io::Error) -> Failure {
    if is_timeout(error) {
        Failure::TimedOut
    } else {
        Failure::CutOff
    }
}

/// A stream that is read no faster than the pace.
#[derive(Debug)]
struct Paced {
    stream: TcpStream,
    bytes_per_second: u32,
    /// Until when what was read last fills the time.
    busy_until: Instant,
}

impl Paced {
    fn new(stream: TcpStream, bytes_per_second: u32) -> Self {
        Self {
            stream,
            bytes_per_second,
            busy_until: Instant::now(),
        }
    }
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let now = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "a slow reader is what was asked for")]
        thread::sleep(self.busy_until.saturating_duration_since(now));
        let count = interrupted::retry(|| self.stream.read(buffer))?;
        let bytes = u32::try_from(count).expect("at most a piece");
        self.busy_until = Instant::now() + Duration::from_secs(1) * bytes / self.bytes_per_second;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::http::tests::served;

    fn answered_with(bytes: &'static [u8]) -> Result<Answer, Failure> {
        served(bytes, |to| {
            let mut conversation = Conversation::open(to, u32::MAX).expect("connect");
            conversation.ask("/").expect("send");
            conversation.answer(|| {})
        })
    }

    #[test]
    fn every_framing_is_counted() {
        let of = |length, keeps_alive| Ok(Answer { length, keeps_alive });
        assert_eq!(
            answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
            of(3, true)
        );
        assert_eq!(
            answered_with(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
            of(3, true)
        );
        assert_eq!(answered_with(b"HTTP/1.1 200 OK\r\n\r\nabc"), of(3, false));
    }

    #[test]
    fn every_cut_is_noticed() {
        assert_eq!(answered_with(b""), Err(Failure::Closed(None)));
        for cut in [
            &b"HTTP/1.1 200 OK\r\nContent-"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
        ] {
            assert_eq!(
                answered_with(cut),
                Err(Failure::CutOff),
                "{}",
                String::from_utf8_lossy(cut)
            );
        }
    }

    #[test]
    fn a_slow_reader_is_slow() {
        let begun = Instant::now();
        let mut paced = Paced::new(connected(b"0123456789"), 100);
        let mut buffer = [0; 5];
        for _ in 0..2 {
            paced.read_exact(&mut buffer).expect("ten bytes");
        }
        assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());
    }

    fn connected(bytes: &[u8]) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        server.write_all(bytes).expect("send");
        stream
    }
}
