//! Splits a stream into messages, which end with a newline.

/// The longest line in bytes, without the newline.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that were read and not yet taken.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Everything before this was taken.
    start: usize,
    /// Everything between `start` and here was searched and has no newline.
    searched: usize,
    /// Everything up to the next newline belongs to a line that is too long.
    skipping: bool,
}

/// A line without its newline.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A complete line.
    Whole(&'a [u8]),
    /// A line of more than [`MAX_LINE_BYTES`] began here; none of it is kept.
    TooLong,
}

impl Lines {
    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is complete, or already too long.
    pub fn take(&mut self) -> Option<Line<'_>> {
        loop {
            let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                let is_long = self.searched - self.start > MAX_LINE_BYTES;
                if self.skipping || is_long {
                    self.forget();
                }
                if is_long && !self.skipping {
                    self.skipping = true;
                    return Some(Line::TooLong);
                }
                if self.start == self.buffer.len() {
                    // Frees the buffer: there are many channels, and most are silent.
                    self.forget();
                }
                return None;
            };
            let line = self.start..self.searched + length;
            self.start = line.end + 1;
            self.searched = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            return Some(if line.len() > MAX_LINE_BYTES {
                Line::TooLong
            } else {
                Line::Whole(&self.buffer[line])
            });
        }
    }

    fn forget(&mut self) {
        self.buffer = Vec::new();
        (self.start, self.searched) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that `bytes` yield in pieces of this size; `None` for a line that is too long.
    fn lines_of(bytes: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            lines.push(piece);
            while let Some(line) = lines.take() {
                all.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
        }
        all
    }

    #[test]
    fn however_they_are_cut_lines_are_lines() {
        let bytes = b"\"ready\"\n{\"a\":1}\n\n[2]\nno end";
        let expected: Vec<_> = [&b"\"ready\""[..], b"{\"a\":1}", b"", b"[2]"]
            .iter()
            .map(|line| Some(line.to_vec()))
            .collect();
        for piece in 1..=bytes.len() {
            assert_eq!(lines_of(bytes, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_the_next_is_whole() {
        let longest = vec![b'x'; MAX_LINE_BYTES];
        for extra in [0, 1, 100_000] {
            let bytes = [b"a\n", &longest[..], &vec![b'y'; extra], b"\nb\n"].concat();
            let expected = if extra == 0 { Some(longest.clone()) } else { None };
            for piece in [65_536, bytes.len()] {
                assert_eq!(
                    lines_of(&bytes, piece),
                    [Some(b"a".to_vec()), expected.clone(), Some(b"b".to_vec())]
                );
            }
        }
    }

    #[test]
    fn a_line_that_never_ends_is_not_kept() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; 1024 * 1024];
        let mut told = 0;
        for _ in 0..64 {
            lines.push(&piece);
            told += std::iter::from_fn(|| lines.take().map(|line| line == Line::TooLong)).count();
            assert!(lines.buffer.len() <= MAX_LINE_BYTES);
        }
        assert_eq!(told, 1);
    }
}
