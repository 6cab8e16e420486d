use super::layout::{Cut, Layout, Piece, in_rotation, index_of, rotated};
use super::rotate::{COLLAPSE, PUNCH, copy_to, fallocate};
use super::*;
use proptest::prelude::*;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Folders on different file systems: one that supports collapsing and one that doesn't, or those in `REUSE_LOG_PLACES`.
fn places() -> Vec<String> {
    let given = std::env::var("REUSE_LOG_PLACES").unwrap_or_else(|_| "/tmp:/dev/shm".into());
    given.split(':').map(str::to_owned).collect()
}

pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        Self::on("/tmp", name)
    }

    fn on(place: &str, name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(Path::new(place).join(format!("reuse-ctl-logs-{}-{number}-{name}", std::process::id())))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("shop/worker-0.log")
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    fn append(&self, text: &[u8]) {
        open_for_append(&self.log(), 65534, 65534)
            .expect("opens")
            .write_all(text)
            .expect("writes");
    }

    fn kept(&self, max_bytes: u64, keep: u16) -> KeptLog {
        KeptLog::new(self.log(), Limits { max_bytes, keep })
    }

    /// The rotated parts, oldest first, followed by the live file without holes.
    fn everything(&self) -> Vec<u8> {
        let copies = (1..)
            .map(|number| rotated(&self.log(), number))
            .take_while(|path| path.exists());
        let copies: Vec<_> = copies.collect();
        let mut all = Vec::new();
        for copy in copies.iter().rev() {
            all.extend(fs::read(copy).expect("readable"));
        }
        all.extend(
            fs::read(self.log())
                .expect("readable")
                .into_iter()
                .filter(|byte| *byte != 0),
        );
        all
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn never() -> bool {
    false
}

fn tail(scratch: &Scratch, offset: u64, count: usize) -> Vec<String> {
    let range = Range::behind(&scratch.log(), offset).expect("readable");
    last_lines(&[range], count).expect("readable")
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers
        .flat_map(|number| format!("line {number}\n").into_bytes())
        .collect()
}

/// The numbers of a log's lines, which must be valid.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines()
        .map(|line| {
            let number = line.strip_prefix("line ").and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| panic!("{line:?}"))
        })
        .collect()
}

#[test]
fn the_log_is_the_workers_and_no_link_is_followed() {
    let scratch = Scratch::new("owner");
    scratch.append(b"hello\n");
    let metadata = fs::metadata(scratch.log()).expect("there");
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o777),
        (65534, 65534, 0o640)
    );
    let link = scratch.0.join("link");
    std::os::unix::fs::symlink(scratch.log(), &link).expect("made");
    assert_eq!(
        open_for_append(&link, 0, 0).expect_err("a link").raw_os_error(),
        Some(libc::ELOOP)
    );
}

#[test]
fn the_last_lines_are_of_one_instance_and_come_in_pieces_if_they_are_long() {
    let scratch = Scratch::new("tail");
    assert_eq!(tail(&scratch, 0, 5), Vec::<String>::new());
    scratch.append(b"old\n");
    let offset = len(&scratch.log());
    scratch.append(b"one\ntwo \xff\n\nthree\r\nunfinished");
    assert_eq!(tail(&scratch, offset, 4), ["two \u{fffd}", "", "three", "unfinished"]);
    assert_eq!(tail(&scratch, offset, 99)[0], "one");
    assert_eq!(tail(&scratch, 1 << 40, 99)[0], "old");
    scratch.append(format!("\n{}\nlast\n", "x".repeat(1_000_000)).as_bytes());
    let lines = tail(&scratch, 0, 3);
    assert_eq!(lines[2], "last");
    assert!(
        lines[1].len() >= 64 * 1024 && lines[1].len() <= 256 * 1024,
        "{}",
        lines[1].len()
    );
}

#[test]
fn a_follower_gives_whole_lines_and_survives_a_cut() {
    let scratch = Scratch::new("follow");
    let mut follower = Follower::new(scratch.log(), 0);
    assert!(follower.poll().expect("no file yet").is_empty());
    scratch.append(b"one\ntw");
    assert_eq!(follower.poll().expect("readable"), ["one"]);
    assert!(follower.poll().expect("readable").is_empty());
    scratch.append(b"o\n");
    assert_eq!(follower.poll().expect("readable"), ["two"]);
    let file = OpenOptions::new().write(true).open(scratch.log()).expect("opens");
    file.set_len(0).expect("cut");
    scratch.append(b"new\n");
    assert_eq!(follower.poll().expect("readable"), ["new"]);
}

#[tokio::test]
async fn a_follower_waits() {
    let scratch = Scratch::new("wait");
    let mut follower = Follower::new(scratch.log(), 0);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), follower.next())
            .await
            .is_err()
    );
    scratch.append(b"there\n");
    let lines = tokio::time::timeout(Duration::from_secs(5), follower.next())
        .await
        .expect("in time");
    assert_eq!(lines.expect("readable"), ["there"]);
}

#[test]
fn a_log_is_marked_as_it_grows_and_its_lines_have_times() {
    let scratch = Scratch::new("marked");
    let mut kept = scratch.kept(1 << 20, 1);
    assert_eq!(kept.look().expect("no file"), Looked::Absent);
    assert!(!index_of(&scratch.log()).exists());
    let at = |ms: u64| std::time::UNIX_EPOCH + Duration::from_millis(ms);
    for (ms, text) in [(1_000, "a\n"), (5_000, "b\nc\n"), (2_000, "d\n"), (9_000, "e\n")] {
        scratch.append(text.as_bytes());
        let file = OpenOptions::new().append(true).open(scratch.log()).expect("opens");
        file.set_modified(at(ms)).expect("set");
        assert_eq!(kept.look().expect("marked"), Looked::Changed { too_large: false });
        assert_eq!(kept.look().expect("nothing new"), Looked::Same);
    }
    // A part that no controller has seen has the time of the last write.
    drop(kept);
    scratch.append(b"f\nunfinished");
    let file = OpenOptions::new().append(true).open(scratch.log()).expect("opens");
    file.set_modified(at(20_000)).expect("set");

    let times = |since_ms| {
        let range = Range::since(&scratch.log(), since_ms).expect("readable");
        let mut follower = TimedFollower::new(scratch.log(), range.start, since_ms);
        let mut lines = follower.lines().expect("readable");
        lines.extend(follower.rest().expect("readable"));
        lines
            .into_iter()
            .map(|line| (line.at_ms, line.text))
            .collect::<Vec<_>>()
    };
    // A clock that is set back does not change the order of lines.
    let all = [
        (1_000, "a"),
        (5_000, "b"),
        (5_000, "c"),
        (5_000, "d"),
        (9_000, "e"),
        (20_000, "f"),
        (20_000, "unfinished"),
    ]
    .map(|(ms, text)| (ms, text.to_owned()));
    assert_eq!(times(0), all);
    assert_eq!(times(1_001), all[1..]);
    assert_eq!(times(5_001), all[4..]);
    assert_eq!(times(9_500), all[5..]);
    assert_eq!(times(20_001), []);
    // The marks tell where to begin, so earlier content is not read.
    assert_eq!(Range::since(&scratch.log(), 9_000).expect("readable").start, 8);
}

#[test]
fn rotation_moves_whole_blocks_and_what_is_older_goes() {
    for place in &places() {
        let scratch = Scratch::on(place, "rotate");
        let mut kept = scratch.kept(8192, 2);
        scratch.append(&numbered(0..4000));
        let size = len(&scratch.log());
        assert_eq!(kept.look().expect("marked"), Looked::Changed { too_large: true });
        kept.rotate(false, never).expect("rotated");
        let left = scratch.everything();
        let first_line = left.iter().position(|byte| *byte == b'\n').expect("several") + 1;
        let left = numbers(&left[first_line..]);
        assert_eq!(left, (4000 - left.len() as u64..4000).collect::<Vec<_>>(), "{place}");
        for number in [1, 2] {
            let metadata = fs::metadata(rotated(&scratch.log(), number)).expect("there");
            assert_eq!(
                (metadata.uid(), metadata.len(), metadata.mode() & 0o777),
                (65534, 8192, 0o640)
            );
        }
        assert!(!rotated(&scratch.log(), 3).exists() && !in_rotation(&scratch.log()).exists());
        assert_eq!(len(&scratch.log()), size, "{place}: offsets stay");
        let metadata = fs::metadata(scratch.log()).expect("there");
        assert!(
            metadata.blocks() * 512 <= 8192 + 4096,
            "{place}: {} blocks",
            metadata.blocks()
        );

        scratch.append(&numbered(4000..4001));
        kept.rotate(true, never).expect("rotated");
        let metadata = fs::metadata(scratch.log()).expect("there");
        assert!(metadata.blocks() * 512 <= 4096, "{place}: {} blocks", metadata.blocks());
        assert_eq!(tail(&scratch, 0, 2), ["line 3999", "line 4000"]);

        // From here on, no rotated files are kept.
        drop(kept);
        let mut kept = scratch.kept(8192, 0);
        scratch.append(&numbered(4001..6000));
        kept.rotate(false, never).expect("rotated");
        assert!(!rotated(&scratch.log(), 1).exists());
        assert_eq!(numbers(tail(&scratch, 0, 1)[0].as_bytes()), [5999]);
    }
}

#[test]
fn a_copy_for_which_there_is_no_index_is_read_too() {
    let scratch = Scratch::new("upgrade");
    scratch.append(b"c\nd\n");
    scratch.write(&rotated(&scratch.log(), 1), b"a\nb\n");
    assert_eq!(len(&scratch.log()), 8);
    assert_eq!(tail(&scratch, 0, 9), ["a", "b", "c", "d"]);
    scratch.kept(100, 2).look().expect("marked");
    scratch.write(&index_of(&scratch.log()), b"what is this?");
    assert_eq!(tail(&scratch, 0, 3), ["b", "c", "d"]);
    scratch.kept(100, 2).look().expect("a new index");
    assert_eq!(tail(&scratch, 0, 3), ["b", "c", "d"]);
}

#[test]
fn a_log_that_someone_else_has_cut_short_goes_on() {
    let scratch = Scratch::new("strange");
    let mut kept = scratch.kept(1 << 20, 2);
    scratch.append(b"one\ntwo\n");
    kept.look().expect("marked");
    let file = OpenOptions::new().write(true).open(scratch.log()).expect("opens");
    file.set_len(0).expect("cut");
    scratch.append(b"three\n");
    kept.look().expect("marked");
    assert_eq!(len(&scratch.log()), 14);
    assert_eq!(tail(&scratch, 8, 9), ["three"]);
    fs::remove_file(scratch.log()).expect("removed");
    scratch.append(b"four is new\n");
    kept.look().expect("marked");
    assert_eq!(len(&scratch.log()), 26);
    assert_eq!(tail(&scratch, 0, 9), ["four is new"]);
}

#[test]
fn an_index_has_one_owner() {
    let scratch = Scratch::new("owner");
    scratch.append(b"one\n");
    let mut first = scratch.kept(1 << 20, 2);
    first.look().expect("free");
    let mut second = scratch.kept(1 << 20, 2);
    assert_eq!(second.look().expect_err("taken").kind(), io::ErrorKind::WouldBlock);
    drop(first);
    second.look().expect("free again");
}

/// The states in which a crash may leave a log, made by hand: each can be read, and is completed by the next controller.
#[test]
fn whenever_a_rotation_is_cut_off_nothing_is_lost_and_nothing_doubled() {
    const LEN: u64 = 8192;
    for place in &places() {
        for (copied, step) in [
            (true, 0),
            (true, 1),
            (true, 2),
            (true, 3),
            (true, 4),
            (true, 5),
            (true, 6),
            (false, 1),
            (false, 2),
            (false, 4),
        ] {
            let scratch = Scratch::on(place, "crash");
            let mut kept = scratch.kept(LEN, 9);
            scratch.append(&numbered(0..3000));
            kept.rotate(false, never).expect("rotated");
            assert!(rotated(&scratch.log(), 3).exists() && !rotated(&scratch.log(), 4).exists());
            scratch.append(&numbered(3000..5000));
            drop(kept);

            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(scratch.log())
                .expect("opens");
            let mut index = index::Index::open(&scratch.log()).expect("free");
            let mut at = index.layout();
            let piece = Piece { len: LEN, copied };
            let rename = |from: &Path, to: u16| fs::rename(from, rotated(&scratch.log(), to)).expect("renamed");
            if copied {
                copy_to(&file, at.hole, LEN, &in_rotation(&scratch.log())).expect("copied");
            }
            if step >= 1 {
                at.cut = Cut::Begun(piece);
                index.set_layout(at).expect("written");
            }
            if step >= 2 {
                fallocate(&file, PUNCH, at.hole, LEN).expect("punched");
            }
            if step >= 3 {
                at.cut = Cut::Hollow(piece);
                index.set_layout(at).expect("written");
            }
            if step >= 4 {
                // Not everywhere.
                drop(fallocate(&file, COLLAPSE, 0, at.hole + LEN));
            }
            if step >= 5 {
                rename(&rotated(&scratch.log(), 3), 4);
                rename(&rotated(&scratch.log(), 2), 3);
            }
            if step >= 6 {
                rename(&rotated(&scratch.log(), 1), 2);
                rename(&in_rotation(&scratch.log()), 1);
            }
            drop((file, index));
            scratch.append(&numbered(5000..5100));

            // Dropped content was not copied, and the line at its end is incomplete.
            let first = if copied {
                0
            } else {
                numbers_after(&numbered(0..5000), 4 * LEN)
            };
            let expected: Vec<u64> = (first..5100).collect();
            let start = if copied { 0 } else { 4 * LEN };
            let read = |when: &str| {
                let mut follower = Follower::new(scratch.log(), start);
                let mut lines = Vec::new();
                loop {
                    let more = follower.poll().expect("readable");
                    if more.is_empty() {
                        break;
                    }
                    lines.extend(more);
                }
                if !copied {
                    lines.remove(0);
                }
                let found = numbers(lines.join("\n").as_bytes());
                assert!(
                    found == expected,
                    "{place}, {when}, step {step}: {} to {:?}",
                    found.len(),
                    found.last()
                );
                assert_eq!(tail(&scratch, start, expected.len()).len(), expected.len());
            };
            read("before");
            let mut kept = scratch.kept(1 << 20, 9);
            kept.look().expect("finished");
            read("after");
            assert!(!in_rotation(&scratch.log()).exists());
            assert_eq!(Layout::of(&scratch.log()).expect("there").cut, Cut::None);
            if copied {
                assert_eq!(numbers(&scratch.everything()), expected);
            }
        }
    }
}

/// The number of the first line that begins behind `offset`.
fn numbers_after(text: &[u8], offset: u64) -> u64 {
    let offset = usize::try_from(offset).expect("small");
    text[..offset].iter().filter(|byte| **byte == b'\n').count() as u64 + 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// With a fast writer, a rotating thread and readers, every line occurs once and in order, for the readers too.
    #[test]
    fn no_line_is_lost_under_a_writer_at_full_speed(
        blocks in 1..24_u64,
        place in prop::sample::select(places()),
        batch in 1..200_u64,
        everything in any::<bool>(),
    ) {
        let scratch = Scratch::on(&place, "race");
        let limits = blocks * 4096 + batch;
        let done = AtomicBool::new(false);
        let expected = numbered(0..12_000 + batch);
        scratch.append(b"");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut file = open_for_append(&scratch.log(), 65534, 65534).expect("opens");
                for first in (0..12_000).step_by(usize::try_from(batch).expect("small")) {
                    file.write_all(&numbered(first..first + batch)).expect("written");
                }
                done.store(true, Ordering::Release);
            });
            let reader = scope.spawn(|| {
                let mut follower = Follower::new(scratch.log(), 0);
                let mut lines = Vec::new();
                loop {
                    let ended = done.load(Ordering::Acquire);
                    let more = follower.poll().expect("readable");
                    if more.is_empty() && ended {
                        return lines;
                    }
                    lines.extend(more);
                }
            });
            // A reader at the end of the part that was just cut meets rotations most often.
            let late_reader = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let (_, end) = view::bounds(&scratch.log()).expect("readable");
                    let mut from = end.saturating_sub(3 * limits);
                    while from < end {
                        let chunk = view::read(&scratch.log(), from, 1000).expect("readable");
                        assert_eq!(chunk.start, from);
                        for (place, byte) in (from..).zip(chunk.bytes) {
                            assert_eq!(byte, expected[usize::try_from(place).expect("small")], "at {place}");
                        }
                        from += 1000;
                    }
                }
            });
            let mut kept = scratch.kept(limits, 1000);
            let mut rotations = 0;
            loop {
                let ended = done.load(Ordering::Acquire);
                if let Looked::Changed { too_large } = kept.look().expect("looked") && (too_large || everything) {
                    kept.rotate(everything, never).expect("rotated");
                    rotations += 1;
                }
                if ended {
                    break;
                }
            }
            writer.join().expect("it writes");
            late_reader.join().expect("it reads");
            let written = 12_000_u64.div_ceil(batch) * batch;
            let all: Vec<u64> = (0..written).collect();
            assert_eq!(numbers(&scratch.everything()), all, "{rotations} rotations");
            assert_eq!(numbers(reader.join().expect("it reads").join("\n").as_bytes()), all, "{rotations} rotations");
            assert!(rotations > 0);
        });
    }
}
