//! What the controller itself writes: a terminal that takes nothing holds up nobody, and its own log in the background is rotated.

use std::fs::{self, File};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reuse_tests::heavy::Heavy;
use reuse_tests::http::get;
use reuse_tests::leftovers::assert_nothing_left;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, SERVER, binaries, commands, wait};

const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);

/// What one who waits for the terminal would exceed.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What the controller writes to, and what reads from there when it is time.
struct Held {
    end: OwnedFd,
    reader: File,
}

impl Held {
    fn pipe() -> Self {
        let (reader, writer): (PipeReader, _) = std::io::pipe().expect("pipe");
        Self {
            end: writer.into(),
            reader: OwnedFd::from(reader).into(),
        }
    }

    fn terminal() -> Self {
        let pty = nix::pty::openpty(None, None).expect("openpty");
        Self {
            end: pty.slave,
            reader: pty.master.into(),
        }
    }

    /// Nothing more goes in.
    fn is_full(&self) -> bool {
        let mut ends = [PollFd::new(self.end.as_fd(), PollFlags::POLLOUT)];
        poll(&mut ends, PollTimeout::ZERO).expect("poll") == 0
    }

    /// Takes everything from now on.
    fn release(self) -> Arc<Mutex<Vec<u8>>> {
        drop(self.end);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (to, mut from) = (Arc::clone(&taken), self.reader);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            // A terminal ends with EIO.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                to.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
        taken
    }
}

/// Ended with the test.
struct Controller(Child);

impl Controller {
    #[track_caller]
    fn wait_exit(&mut self) -> ExitStatus {
        wait::until_some("the controller ends", LONG, || self.0.try_wait().expect("ours"))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Ended already, most often.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server beside a process that writes as much as it can.
fn flood(scratch: &Scratch) -> Vec<String> {
    let python = scratch.write(
        "flood.py",
        "import os\nwhile True:\n    os.write(1, b'flood\\n' * 1000)\n",
    );
    let script = format!(
        "{} {} & exec {}",
        binaries::python(),
        python.display(),
        commands::rust(&[]).join(" ")
    );
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}

fn log_folder(app: &str) -> PathBuf {
    Path::new("/var/log/reuse-ctl").join(app)
}

fn nothing_is_held_up_by(held: Held) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let options = [
        "--workers",
        "2",
        "--settle",
        "0s",
        "--log-size",
        "1M",
        "--log-keep",
        "1",
    ];
    let launch = Launch::new(&options).env("REUSE_LOG", "reuse_ctl=debug");
    let mut command = launch.command(&flood(&scratch));
    let end = || Stdio::from(held.end.try_clone().expect("dup"));
    command.stdin(Stdio::null()).stdout(end()).stderr(end());
    let mut controller = Controller(command.spawn().expect("run reuse-ctl"));
    // Or the test itself would keep it open.
    drop(command);
    let app = App::detached(launch.app_name());
    app.wait_status("both are active", LONG, |status| status.all_active(2));
    wait::until("nothing more goes in", SOON, || held.is_full());

    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || begun.elapsed() < Duration::from_secs(3) {
        for verb in [
            &["status"][..],
            &["drain", "0"],
            &["undrain", "0"],
            &["restart", "1"],
            &["reload"],
        ] {
            let took = app.ctl(verb).expect_code(0).took;
            assert!(took < AT_ONCE, "{verb:?} took {took:?}");
            get(SERVER, None).unwrap_or_else(|failure| panic!("after {verb:?}: {failure}"));
        }
        rounds += 1;
    }
    assert!(held.is_full(), "somebody has read, and nothing was tested");

    let taken = held.release();
    let shown = || String::from_utf8_lossy(&taken.lock().expect("no panic")).into_owned();
    wait::until("it is said how much was lost", SOON, || {
        shown().contains("not shown: the terminal did not keep up")
    });
    // What is written now is shown: the queue is not stuck, and the end is not lost.
    app.ctl(&["restart", "0"]).expect_code(0);
    app.stop();
    assert_eq!(controller.wait_exit().code(), Some(0));
    wait::until("the machine's last step is shown", SOON, || {
        let shown = shown();
        let last = shown.lines().rfind(|line| line.contains("effect"));
        last.is_some_and(|line| line.contains("Finish"))
    });
    fs::remove_dir_all(log_folder(launch.app_name())).expect("removed");
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nobody() {
    nothing_is_held_up_by(Held::pipe());
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_nobody() {
    nothing_is_held_up_by(Held::terminal());
}

/// The end of the app is the end of the controller, also when nobody will ever read its last lines.
#[test]
fn a_controller_ends_though_nobody_takes_its_last_lines() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let launch = Launch::new(&["--workers", "1", "--log-size", "1M"]);
    let held = Held::pipe();
    let end = || Stdio::from(held.end.try_clone().expect("dup"));
    let mut command = launch.command(&flood(&scratch));
    command.stdin(Stdio::null()).stdout(end()).stderr(end());
    let mut controller = Controller(command.spawn().expect("run reuse-ctl"));
    let app = App::detached(launch.app_name());
    app.wait_status("it is active", LONG, |status| status.all_active(1));
    wait::until("nothing more goes in", SOON, || held.is_full());
    app.ctl(&["stop"]).expect_code(0);
    assert_eq!(controller.wait_exit().code(), Some(0));
    assert!(held.is_full());
    fs::remove_dir_all(log_folder(launch.app_name())).expect("removed");
}

#[test]
fn a_controller_whose_workers_failed_ends_though_nobody_takes_its_error() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "1"]);
    let held = Held::pipe();
    let end = || Stdio::from(held.end.try_clone().expect("dup"));
    let mut command = launch.command(&["/bin/sh", "-c", "yes | head -c 400000; exit 3"]);
    command.stdin(Stdio::null()).stdout(end()).stderr(end());
    let mut controller = Controller(command.spawn().expect("run reuse-ctl"));
    assert_eq!(controller.wait_exit().code(), Some(1));
    assert!(held.is_full());
    assert_nothing_left(launch.app_name());
    fs::remove_dir_all(log_folder(launch.app_name())).expect("removed");
}

#[test]
fn the_log_of_a_controller_in_the_background_is_rotated_and_its_last_words_are_found() {
    let _namespace = Namespace::enter();
    let options = ["--detach", "--settle", "0s", "--log-size", "64K", "--log-keep", "2"];
    let launch = Launch::new(&options).env("REUSE_LOG", "reuse_ctl=debug");
    let name = launch.app_name().to_owned();
    let log = log_folder(&name).join("controller.log");
    let size = |suffix: &str| fs::metadata(format!("{}{suffix}", log.display())).map_or(0, |log| log.len());

    // An earlier one has left much; it is rotated while the next one fails.
    fs::create_dir_all(log.parent().expect("a folder")).expect("made");
    fs::write(&log, "from before\n".repeat(40_000)).expect("written");
    let failed = launch
        .to_end(&["/bin/sh", "-c", "echo alas; exit 3"], LONG)
        .expect_code(1);
    assert!(failed.stderr.contains("every worker has failed"), "{}", failed.stderr);
    launch.to_end(&commands::rust(&[]), LONG).expect_code(0);
    // What the first one has not done, this one does.
    wait::until("it is rotated", LONG, || size(".2") > 0 && size("") <= 64 * 1024 + 8192);
    let app = App::detached(&name);
    let is_old = || {
        let copies = [".1", ".2"].map(|suffix| fs::read(format!("{}{suffix}", log.display())));
        // In the middle of a rotation one is not there.
        let [Ok(first), Ok(second)] = copies else { return true };
        String::from_utf8_lossy(&[first, second].concat()).contains("from before")
    };
    wait::until("what it writes now fills both copies", LONG, || {
        app.ctl(&["restart", "0"]).expect_code(0);
        !is_old()
    });
    wait::until("the log is no larger than it may be", SOON, || size("") <= 64 * 1024);
    app.stop();
    assert_eq!(size(".3"), 0);
    // What is in them is one text: no line is lost or cut where one ends and the next begins.
    let all = [".2", ".1", ""].map(|suffix| fs::read(format!("{}{suffix}", log.display())).expect("there"));
    let all = String::from_utf8(all.concat()).expect("text");
    let is_whole = |line: &str| {
        line.starts_with("20") && line.contains("Z DEBUG") || line.starts_with("reuse-ctl") || line.starts_with("  ")
    };
    let broken: Vec<&str> = all.lines().skip(1).filter(|line| !is_whole(line)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    fs::remove_dir_all(log_folder(&name)).expect("removed");
}
