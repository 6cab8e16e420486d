//! Sends workers' output to systemd's journal: their standard output and error are connected to journald directly.
//!
//! Done as in `systemd-cat`: <https://github.com/systemd/systemd/blob/v257/src/libsystemd/sd-journal/journal-send.c#L371>.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::logs::Stream;

/// The socket on which journald listens for streams.
pub const SOCKET: &str = "/run/systemd/journal/stdout";

/// The identifier of a slot's output, for `journalctl -t`.
pub fn identifier(app: &str, slot: u16) -> String {
    format!("reuse-ctl/{app}.{slot}")
}

/// Checks that journald listens on its socket.
///
/// # Errors
/// As connect(2).
pub fn check() -> io::Result<()> {
    UnixStream::connect(SOCKET).map(drop)
}

/// Connects a stream whose lines appear in the journal under this identifier, as lines of the calling user and process.
///
/// # Errors
/// As connect(2), write(2).
pub(super) fn connect(identifier: &str, stream: Stream) -> io::Result<UnixStream> {
    connect_at(Path::new(SOCKET), identifier, stream)
}

fn connect_at(socket: &Path, identifier: &str, stream: Stream) -> io::Result<UnixStream> {
    let mut journal = UnixStream::connect(socket)?;
    journal.shutdown(Shutdown::Read)?;
    // Identifier, unit (empty: that of the process), priority, whether lines begin with a priority of their own (`<3>`); then other
    // destinations.
    journal.write_all(format!("{identifier}\n\n{}\n1\n0\n0\n0\n", priority(stream)).as_bytes())?;
    Ok(journal)
}

/// The priority "informational" or "error".
fn priority(stream: Stream) -> u8 {
    match stream {
        Stream::Out => 6,
        Stream::Err => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_journal_is_told_who_writes() {
        let path = std::env::temp_dir().join(format!("reuse-ctl-journal-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bound");
        let mut stream = connect_at(&path, &identifier("shop", 2), Stream::Err).expect("connected");
        stream.write_all(b"hello\n").expect("written");
        drop(stream);
        let mut words = String::new();
        let (mut end, _) = listener.accept().expect("connected");
        end.read_to_string(&mut words).expect("text");
        assert_eq!(words, "reuse-ctl/shop.2\n\n3\n1\n0\n0\n0\nhello\n");
        std::fs::remove_file(path).expect("removed");
    }
}
