//! Marks record how long a log was at which time. Lines carry no time themselves, so the controller watches the logs while they grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::layout::{LAYOUT_BYTES, index_of};

/// Size of a mark in the index: two 64-bit numbers.
pub(super) const MARK_BYTES: u64 = 16;

/// When there are more marks than this, they are thinned out, which limits an index to 1 MiB.
pub(super) const MAX_MARKS: usize = 65_536;

/// Number of marks read at once.
const WINDOW: u64 = 512;

/// Everything before `offset` had been written at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Milliseconds since 1970.
    pub(super) at_ms: u64,
    /// Lines that end at or before this offset are not younger than the mark.
    pub(super) offset: u64,
}

impl Mark {
    pub(super) fn encode(self) -> [u8; MARK_BYTES as usize] {
        let mut bytes = [0; MARK_BYTES as usize];
        bytes[..8].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self {
            at_ms: word(0),
            offset: word(8),
        }
    }
}

/// The marks of a log as they were when it was opened, oldest first. They are read on demand: finding a time in a long log takes some
/// kilobytes.
#[derive(Debug, Default)]
pub(super) struct Marks {
    file: Option<File>,
    count: u64,
    window: Vec<Mark>,
    window_start: u64,
}

impl Marks {
    /// # Errors
    /// As open(2) and read(2). A missing index has no marks.
    pub(super) fn open(log: &Path) -> io::Result<Self> {
        match File::open(index_of(log)) {
            Ok(file) => Self::of(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// As fstat(2).
    pub(super) fn of(index: File) -> io::Result<Self> {
        // A mark that was cut short when the machine stopped is ignored.
        let count = index.metadata()?.len().saturating_sub(LAYOUT_BYTES as u64) / MARK_BYTES;
        Ok(Self {
            file: Some(index),
            count,
            ..Self::default()
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// # Errors
    /// As read(2).
    pub(super) fn last(&mut self) -> io::Result<Option<Mark>> {
        match self.count.checked_sub(1) {
            Some(last) => self.get(last).map(Some),
            None => Ok(None),
        }
    }

    /// When a line that ends at `end` was written: the time of the first mark that includes it.
    ///
    /// # Errors
    /// As read(2).
    pub(super) fn time_of(&mut self, end: u64) -> io::Result<Option<u64>> {
        // Lines are usually requested one after the other.
        let near = self.window.partition_point(|mark| mark.offset < end);
        if near > 0 && near < self.window.len() {
            return Ok(Some(self.window[near].at_ms));
        }
        let at = self.search(|mark| mark.offset < end)?;
        if at == self.count {
            return Ok(None);
        }
        Ok(Some(self.get(at)?.at_ms))
    }

    /// An offset: lines that end at or before it were written before `since_ms`.
    ///
    /// # Errors
    /// As read(2).
    pub(super) fn offset_at(&mut self, since_ms: u64) -> io::Result<u64> {
        let first = self.search(|mark| mark.at_ms < since_ms)?;
        match first.checked_sub(1) {
            Some(last_before) => Ok(self.get(last_before)?.offset),
            None => Ok(0),
        }
    }

    /// # Errors
    /// As read(2).
    pub(super) fn all(&mut self) -> io::Result<Vec<Mark>> {
        (0..self.count).map(|at| self.get(at)).collect()
    }

    /// Number of marks, from the first one on, for which `before` is true.
    fn search(&mut self, before: impl Fn(&Mark) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn get(&mut self, at: u64) -> io::Result<Mark> {
        let in_window = at
            .checked_sub(self.window_start)
            .and_then(|at| self.window.get(usize::try_from(at).ok()?));
        if let Some(mark) = in_window {
            return Ok(*mark);
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        // It overlaps the previous window by half, for readers that continue from its edge.
        let start = at.saturating_sub(WINDOW / 2);
        let len = WINDOW.min(self.count - start);
        let mut bytes = vec![0; usize::try_from(len * MARK_BYTES).expect("some kilobytes")];
        file.read_exact_at(&mut bytes, LAYOUT_BYTES as u64 + start * MARK_BYTES)?;
        self.window = bytes.chunks_exact(MARK_BYTES as usize).map(Mark::decode).collect();
        self.window_start = start;
        Ok(self.window[usize::try_from(at - start).expect("in the window")])
    }
}

/// A smaller set of marks: drops those that only concern removed content (before `kept_from`), and every second one of the older half of
/// the rest.
pub(super) fn thinned(marks: &[Mark], kept_from: u64) -> Vec<Mark> {
    let gone = marks.partition_point(|mark| mark.offset <= kept_from);
    let marks = &marks[gone..];
    if marks.len() < MAX_MARKS / 4 * 3 {
        return marks.to_vec();
    }
    let (older, newer) = marks.split_at(marks.len() / 2);
    // Keeps the later one of two: a line is never said to be older than it is.
    let older = older.chunks_exact(2).map(|pair| pair[1]);
    older.chain(newer.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::logs::tests::Scratch;
    use proptest::prelude::*;

    fn marks() -> impl Strategy<Value = Vec<Mark>> {
        prop::collection::vec((0..50_u64, 1..100_u64), 0..2000).prop_map(|steps| {
            let mut last = Mark { at_ms: 1000, offset: 0 };
            steps
                .into_iter()
                .map(|(ms, bytes)| {
                    last = Mark {
                        at_ms: last.at_ms + ms,
                        offset: last.offset + bytes,
                    };
                    last
                })
                .collect()
        })
    }

    fn written(marks: &[Mark], name: &str) -> Marks {
        let scratch = Scratch::new(name);
        let mut bytes = vec![0; LAYOUT_BYTES];
        bytes.extend(marks.iter().flat_map(|mark| mark.encode()));
        // A mark that was cut short.
        bytes.extend([7; 9]);
        scratch.write(&index_of(&scratch.log()), &bytes);
        Marks::open(&scratch.log()).expect("readable")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_line_has_the_time_of_the_mark_that_follows_it(marks in marks(), asked in prop::collection::vec(0..120_000_u64, 1..200)) {
            let mut index = written(&marks, "marks-time");
            for end in asked {
                let expected = marks.iter().find(|mark| mark.offset >= end).map(|mark| mark.at_ms);
                prop_assert_eq!(index.time_of(end).expect("readable"), expected);
            }
        }

        #[test]
        fn what_is_before_a_time_is_not_read(marks in marks(), since_ms in 900..60_000_u64) {
            let mut index = written(&marks, "marks-since");
            let expected = marks.iter().rfind(|mark| mark.at_ms < since_ms).map_or(0, |mark| mark.offset);
            prop_assert_eq!(index.offset_at(since_ms).expect("readable"), expected);
        }
    }

    #[test]
    fn thinning_keeps_the_newest_as_they_are_and_says_nothing_false() {
        let mark = |at: u64| Mark {
            at_ms: at * 200,
            offset: at * 10,
        };
        let all: Vec<Mark> = (1..=MAX_MARKS as u64).map(mark).collect();
        let fewer = thinned(&all, 0);
        assert_eq!(fewer.len(), MAX_MARKS / 4 * 3);
        assert_eq!(fewer[MAX_MARKS / 4..], all[MAX_MARKS / 2..]);
        assert!(fewer.is_sorted_by_key(|mark| mark.offset) && fewer.iter().all(|mark| all.contains(mark)));
        assert_eq!(thinned(&all, 60_000 * 10), all[60_000..]);
    }
}
