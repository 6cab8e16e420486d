//! Parses just enough of an answer to know when it is complete.

/// How much of an HTTP/1 answer has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Progress {
    /// More must arrive.
    Partly,
    /// The answer is complete.
    Complete {
        /// The status.
        status: u16,
        /// Whether another request may follow on the connection.
        keeps_alive: bool,
    },
    /// The answer ends when the connection is closed.
    UntilClosed {
        /// The status.
        status: u16,
    },
    /// This is not HTTP/1.
    NoHttp,
}

/// Interprets these bytes, which begin with the answer to a GET.
pub(in crate::cli) fn progress(bytes: &[u8]) -> Progress {
    let begin = b"HTTP/1.";
    let shown = bytes.len().min(begin.len());
    if bytes[..shown] != begin[..shown] {
        return Progress::NoHttp;
    }
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Progress::Partly;
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let Some(status) = first.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()) else {
        return Progress::NoHttp;
    };
    let field = |name: &str| {
        fields
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    let body = &bytes[end + 4..];
    let connection = field("connection").unwrap_or_default();
    let keeps_alive =
        !connection.contains("close") && (first.starts_with("HTTP/1.1") || connection.contains("keep-alive"));
    let is_complete = match (field("transfer-encoding"), field("content-length")) {
        // 101 and 204 have no body; an interim answer is followed by another.
        _ if matches!(status, 101 | 204 | 304) => true,
        _ if (100..200).contains(&status) => return progress(body),
        (Some(coding), _) if coding.contains("chunked") => {
            body.starts_with(b"0\r\n") || find(body, b"\r\n0\r\n").is_some()
        }
        (_, Some(length)) => match length.parse::<usize>() {
            Ok(length) => body.len() >= length,
            Err(_) => return Progress::NoHttp,
        },
        (_, None) => return Progress::UntilClosed { status },
    };
    if is_complete {
        Progress::Complete { status, keeps_alive }
    } else {
        Progress::Partly
    }
}

/// What follows the head of an answer.
pub(in crate::cli) fn body(bytes: &[u8]) -> &[u8] {
    find(bytes, b"\r\n\r\n").map_or(&[], |end| &bytes[end + 4..])
}

/// The code of the first WebSocket close frame in these bytes, which begin with a frame; 1005 if it names none.
pub(super) fn close_code(mut frames: &[u8]) -> Option<u16> {
    loop {
        let [first, second, rest @ ..] = frames else {
            return None;
        };
        let (length, rest) = match second & 0x7f {
            126 => (
                usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)),
                &rest[2..],
            ),
            127 => (
                usize::try_from(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?)).ok()?,
                &rest[8..],
            ),
            length => (usize::from(length), rest),
        };
        let payload = rest.get(..length)?;
        if first & 0x0f == 8 {
            return Some(match payload {
                [high, low, ..] => u16::from_be_bytes([*high, *low]),
                _ => 1005,
            });
        }
        frames = &rest[length..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_when_its_body_is() {
        let complete = |keeps_alive| Progress::Complete {
            status: 200,
            keeps_alive,
        };
        for (text, expected) in [
            ("", Progress::Partly),
            ("HT", Progress::Partly),
            ("SSH-2.0-OpenSSH", Progress::NoHttp),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", Progress::Partly),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", Progress::Partly),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", complete(true)),
            (
                "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
                complete(false),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", complete(false)),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                complete(true),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Progress::Partly,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                complete(true),
            ),
            ("HTTP/1.0 200 OK\r\n\r\nabc", Progress::UntilClosed { status: 200 }),
        ] {
            assert_eq!(progress(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_close_frame_is_found_behind_others() {
        assert_eq!(close_code(&[0x88, 2, 0x03, 0xe9]), Some(1001));
        assert_eq!(close_code(&[0x88, 0]), Some(1005));
        assert_eq!(close_code(&[0x81, 2, b'h', b'i', 0x88, 2, 0x03, 0xf4]), Some(1012));
        assert_eq!(close_code(&[0x81, 2, b'h']), None);
        assert_eq!(close_code(&[]), None);
    }
}
