//! What a worker writes: one file per slot, to which the process itself appends. The controller only reads, so its death or
//! slowness never blocks a worker.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Uid};

/// No more than this is read to find the last lines.
const TAIL_BYTES: u64 = 64 * 1024;
/// A line that is longer is given out in pieces.
const LINE_BYTES: usize = 64 * 1024;
/// How often a log is looked at for new lines.
pub const POLL: Duration = Duration::from_millis(200);
/// A log above this is cut; see [`bound`].
pub const BOUND_BYTES: u64 = 32 * 1024 * 1024;

/// Opens a slot's log for a worker, which owns it; makes file and folder if they are not there. Follows no symbolic link: the
/// caller is root.
///
/// # Errors
/// As mkdir(2), open(2), fchown(2).
pub fn open_for_append(path: &Path, uid: u32, gid: u32) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        nix::unistd::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(file)
}

/// Its length in bytes: taken before a spawn, it tells the new instance's output from the old one's. 0 if there is none.
pub fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The last lines, at most `max_lines` and 64 KiB, that were written after `offset`. If the log was cut meanwhile, from its start.
///
/// # Errors
/// As open(2) and read(2). No file, no lines.
pub fn tail_since(path: &Path, offset: u64, max_lines: usize) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let wanted_from = if offset > length { 0 } else { offset };
    let from = wanted_from.max(length.saturating_sub(TAIL_BYTES));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    // What begins in the middle of a line is no line.
    if from > wanted_from && lines.len() > 1 {
        lines.remove(0);
    }
    let skipped = lines.len().saturating_sub(max_lines);
    Ok(lines.into_iter().skip(skipped).map(str::to_owned).collect())
}

/// Where to begin so that the last `lines` lines are read first: for `logs -f`.
///
/// # Errors
/// As open(2) and read(2). No file is 0.
pub fn offset_of_last(path: &Path, lines: usize) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let ends: Vec<usize> = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    // The last newline ends the last line, so `lines` lines lie between it and the newline that many before.
    let start = match ends.len().checked_sub(lines + 1) {
        Some(at) => ends[at],
        None => 0,
    };
    Ok(from + start as u64)
}

/// Keeps a log bounded: above [`BOUND_BYTES`] the newest half is copied to `<path>.1`, which it replaces, and the log is emptied.
/// The worker goes on appending, at 0 then, and notices nothing; what it writes between the copy and the cut is lost. Returns
/// whether it was cut. Copies 16 MiB: call it off the runtime's threads.
///
/// # Errors
/// As open(2), read(2), write(2), ftruncate(2).
pub fn bound(path: &Path) -> io::Result<bool> {
    bound_to(path, BOUND_BYTES)
}

fn bound_to(path: &Path, limit: u64) -> io::Result<bool> {
    if len(path) <= limit {
        return Ok(false);
    }
    let mut log = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = log.metadata()?;
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    let older = PathBuf::from(older);
    match fs::remove_file(&older) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&older)?;
    nix::unistd::fchown(
        &copy,
        Some(Uid::from_raw(metadata.uid())),
        Some(Gid::from_raw(metadata.gid())),
    )?;
    log.seek(SeekFrom::Start(metadata.len() - limit / 2))?;
    // Not to the end, which a fast writer keeps ahead of us.
    io::copy(&mut (&log).take(limit / 2), &mut copy)?;
    log.set_len(0)?;
    Ok(true)
}

/// Reads a log as it grows.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Follower {
    /// Begins at `offset`; the file may not be there yet.
    pub fn new(path: impl Into<PathBuf>, offset: u64) -> Self {
        Self {
            path: path.into(),
            offset,
            partial: Vec::new(),
        }
    }

    /// Waits for the next complete lines, looking every 200 ms. Cancel-safe: what was not given out is given out next time.
    ///
    /// # Errors
    /// As open(2) and read(2). No file is waited for.
    pub async fn next(&mut self) -> io::Result<Vec<String>> {
        loop {
            let lines = self.poll()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The complete lines that are there now.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        // Most often nothing is new, and many logs are looked at: this is the one system call then.
        if len(&self.path) == self.offset {
            return Ok(Vec::new());
        }
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            // It was cut; the rest of a line begun before will never come.
            self.offset = 0;
            self.partial.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut fresh = Vec::new();
        let read = file.take(TAIL_BYTES).read_to_end(&mut fresh)?;
        self.offset += read as u64;
        self.partial.append(&mut fresh);
        Ok(self.take_lines())
    }

    fn take_lines(&mut self) -> Vec<String> {
        let complete = match self.partial.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if self.partial.len() >= LINE_BYTES => self.partial.len(),
            None => return Vec::new(),
        };
        let rest = self.partial.split_off(complete);
        let lines = std::mem::replace(&mut self.partial, rest);
        String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("reuse-ctl-logs-{}-{name}", std::process::id())))
        }

        fn log(&self) -> PathBuf {
            self.0.join("shop/worker-0.log")
        }

        fn append(&self, text: &[u8]) {
            open_for_append(&self.log(), 65534, 65534)
                .expect("opens")
                .write_all(text)
                .expect("writes");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
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
    fn the_tail_is_of_one_instance_and_bounded() {
        let scratch = Scratch::new("tail");
        assert_eq!(tail_since(&scratch.log(), 0, 5).expect("no file"), Vec::<String>::new());
        scratch.append(b"old\n");
        let offset = len(&scratch.log());
        scratch.append(b"one\ntwo \xff\nthree\nunfinished");
        let tail = tail_since(&scratch.log(), offset, 3).expect("readable");
        assert_eq!(tail, ["two \u{fffd}", "three", "unfinished"]);
        assert_eq!(tail_since(&scratch.log(), offset, 99).expect("readable")[0], "one");
        assert_eq!(tail_since(&scratch.log(), 1 << 40, 99).expect("it was cut")[0], "old");
        scratch.append(format!("\n{}\nlast\n", "x".repeat(100_000)).as_bytes());
        assert_eq!(tail_since(&scratch.log(), 0, 99).expect("readable"), ["last"]);
    }

    #[test]
    fn the_last_lines_have_an_offset() {
        let scratch = Scratch::new("offset");
        assert_eq!(offset_of_last(&scratch.log(), 2).expect("no file"), 0);
        scratch.append(b"one\ntwo\nthree\n");
        assert_eq!(offset_of_last(&scratch.log(), 2).expect("readable"), 4);
        assert_eq!(offset_of_last(&scratch.log(), 0).expect("readable"), 14);
        assert_eq!(offset_of_last(&scratch.log(), 9).expect("readable"), 0);
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
        OpenOptions::new()
            .write(true)
            .open(scratch.log())
            .expect("opens")
            .set_len(0)
            .expect("cut");
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
    fn a_long_log_is_cut_under_the_writer() {
        let scratch = Scratch::new("bound");
        let mut writer = open_for_append(&scratch.log(), 65534, 65534).unwrap_or_else(|error| panic!("{error}"));
        writer.write_all(b"0123456789").expect("writes");
        assert!(!bound_to(&scratch.log(), 10).expect("bounded"));
        writer.write_all(b"ab").expect("writes");
        assert!(bound_to(&scratch.log(), 10).expect("bounded"));
        writer.write_all(b"next").expect("writes");
        assert_eq!(fs::read(scratch.log()).expect("there"), b"next");
        let older = scratch.0.join("shop/worker-0.log.1");
        assert_eq!(fs::read(&older).expect("there"), b"789ab");
        assert_eq!(fs::metadata(&older).expect("there").uid(), 65534);
    }
}
