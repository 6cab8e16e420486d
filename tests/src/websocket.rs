//! Just enough of a WebSocket client to see how a server says goodbye.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::{connect, is_timeout};

/// How a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// By the server's own close frame, with this code.
    Close(u16),
    /// Without one: the connection was closed or reset.
    Abrupt,
    /// Not at all, within the time.
    StillOpen,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

impl WebSocket {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// Of the connection, or `InvalidData` when the server does not upgrade.
    pub fn open(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Self> {
        let mut stream = connect(to, from)?;
        stream.write_all(
            b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if head.starts_with(b"HTTP/1.1 101") {
            Ok(Self { stream })
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                String::from_utf8_lossy(&head).into_owned(),
            ))
        }
    }

    /// Sends a text and waits for it to come back.
    ///
    /// # Errors
    /// Of the connection, or `InvalidData` when something else comes.
    pub fn echo(&mut self, text: &str) -> io::Result<()> {
        let length = u8::try_from(text.len())
            .ok()
            .filter(|length| *length < 126)
            .expect("a short text");
        // Clients must mask; a mask of zeros leaves the text as it is.
        let mut frame = vec![TEXT, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame)?;
        let (kind, body) = self.frame()?;
        if kind == TEXT && body == text.as_bytes() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame {kind:#x}")))
        }
    }

    /// Waits for the end.
    pub fn goodbye(mut self, limit: Duration) -> Goodbye {
        self.stream
            .set_read_timeout(Some(limit))
            .expect("a timeout that is not 0");
        loop {
            match self.frame() {
                Ok((CLOSE, body)) if body.len() >= 2 => return Goodbye::Close(u16::from_be_bytes([body[0], body[1]])),
                // 1005 is what the standard calls a close frame without a code.
                Ok((CLOSE, _)) => return Goodbye::Close(1005),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Goodbye::StillOpen,
                Err(_) => return Goodbye::Abrupt,
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let mut body = vec![0; usize::from(head[1] & 0x7f)];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }
}
