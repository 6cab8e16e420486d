//! What workers write: never through the controller, never lost, found by worker, stream and time.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::app::controller_command;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::get;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, SERVER, binaries, commands, leftovers, run, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);

/// A server beside a process that writes numbered lines as fast as it can: Python, Node, or a shell, by the worker's number.
fn at_full_speed(scratch: &Scratch) -> Vec<String> {
    let python = scratch.write(
        "writer.py",
        "import itertools, os\nfor n in itertools.count():\n    os.write(1, b'line %d\\n' % n)\n",
    );
    // Synchronous, as console.log is to a file.
    let node = scratch.write(
        "writer.js",
        "const fs = require('fs');\nfor (let n = 0; ; n++) fs.writeSync(1, `line ${n}\\n`);\n",
    );
    let script = format!(
        "case $REUSE_WORKER_ID in\n0) {} {} & ;;\n1) {} {} & ;;\n*) (n=0; while :; do echo \"line $n\"; n=$((n + 1)); done) & ;;\nesac\nexec {}",
        binaries::python(),
        python.display(),
        binaries::node(),
        node.display(),
        commands::rust(&[]).join(" ")
    );
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// A server beside a process that writes what it is told: `out TEXT` or `err TEXT`.
struct Told {
    scratch: Scratch,
}

impl Told {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
        }
    }

    fn pipe(&self, worker: u16) -> PathBuf {
        self.scratch.path().join(format!("pipe-{worker}"))
    }

    fn command(&self) -> Vec<String> {
        let script = format!(
            "pipe={}/pipe-$REUSE_WORKER_ID; [ -p $pipe ] || mkfifo $pipe; \
             (while :; do while read -r stream text; do \
             case $stream in err) echo \"$text\" >&2 ;; *) echo \"$text\" ;; esac; done < $pipe; done) & exec {}",
            self.scratch.path().display(),
            commands::rust(&[]).join(" ")
        );
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
    }

    fn tell(&self, worker: u16, words: &str) {
        let mut pipe = File::options().write(true).open(self.pipe(worker)).expect("its pipe");
        writeln!(pipe, "{words}").expect("it reads");
    }
}

fn folder(app: &str) -> PathBuf {
    Path::new("/var/log/reuse-ctl").join(app)
}

/// All that is left of a log, rotated files first.
fn everything(folder: &Path, name: &str) -> Vec<u8> {
    let copies = (1..).map(|number| folder.join(format!("{name}.{number}")));
    let copies: Vec<PathBuf> = copies.take_while(|path| path.exists()).collect();
    let mut all = Vec::new();
    for copy in copies.iter().rev() {
        all.extend(fs::read(copy).expect("readable"));
    }
    all.extend(fs::read(folder.join(name)).expect("readable"));
    all
}

/// The numbers of the lines `line N`.
fn numbers(text: &str) -> Vec<u64> {
    let numbers = text.lines().filter_map(|line| line.strip_prefix("line "));
    numbers
        .map(|number| number.parse().unwrap_or_else(|_| panic!("{number:?}")))
        .collect()
}

#[track_caller]
fn assert_complete(numbers: &[u64], what: &str) {
    assert!(!numbers.is_empty(), "{what}: no lines");
    let gap = numbers
        .iter()
        .enumerate()
        .find(|(place, number)| **number != *place as u64);
    assert_eq!(
        gap,
        None,
        "{what}: the first line that is not in its place, of {}",
        numbers.len()
    );
}

/// The last number that a worker has written.
fn progress(folder: &Path, worker: u16) -> u64 {
    let path = folder.join(format!("worker-{worker}.log"));
    let bytes = fs::read(path).expect("readable");
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4096)..]).into_owned();
    let whole = tail.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.parse().ok())
        .next_back();
    last.unwrap_or(0)
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn said(lines: &[Value]) -> Vec<String> {
    let said = |line: &Value| {
        format!(
            "{} {} {}",
            line["worker"],
            line["stream"].as_str()?,
            line["line"].as_str()?
        )
        .into()
    };
    lines.iter().filter_map(said).collect()
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_millis()
}

/// As RFC 3339; and back.
fn date(arguments: &[&str]) -> String {
    let output = Command::new("date")
        .args(["-u"])
        .args(arguments)
        .output()
        .expect("run date");
    assert!(output.status.success(), "date {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// `logs -f`, until it is dropped.
struct Following {
    child: Child,
    scratch: Scratch,
}

impl Following {
    fn start(app: &App, arguments: &[&str]) -> Self {
        let scratch = Scratch::new();
        let output = File::create(scratch.path().join("output")).expect("create an output file");
        let mut command = controller_command();
        command.arg("logs").args(arguments).args(["-f", "--app", app.name()]);
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .expect("run reuse-ctl logs");
        Self { child, scratch }
    }

    fn output(&self) -> String {
        let bytes = fs::read(self.scratch.path().join("output")).expect("its output");
        String::from_utf8(bytes).expect("text")
    }

    /// Ctrl-C, which is no failure.
    fn stop(mut self) -> String {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, Signal::SIGINT).expect("our child");
        let status = wait::until_some("logs -f ends after Ctrl-C", SOON, || {
            self.child.try_wait().expect("ours")
        });
        assert_eq!(status.code(), Some(0));
        self.output()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // Ended already, most often.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_killed_controller_neither_stops_the_workers_writing_nor_loses_a_line() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let options = ["--workers", "4", "--log-size", "1M", "--log-keep", "100"];
    let mut app = Launch::new(&options).run(&at_full_speed(&scratch));
    let name = app.name().to_owned();
    let folder = folder(&name);
    wait::until("every worker's log is rotated", LONG, || {
        (0..4).all(|worker| folder.join(format!("worker-{worker}.log.1")).exists())
    });

    app.signal(Signal::SIGKILL);
    app.wait_exit(SOON);
    let killed = Instant::now();
    let mut seen: Vec<(u64, Instant)> = (0..4).map(|worker| (progress(&folder, worker), killed)).collect();
    let first: Vec<u64> = seen.iter().map(|(number, _)| *number).collect();
    wait::until("3 s have passed", SOON, || {
        for (worker, seen) in (0..).zip(&mut seen) {
            let number = progress(&folder, worker);
            if number > seen.0 {
                *seen = (number, Instant::now());
            }
            assert!(
                seen.1.elapsed() < Duration::from_secs(1),
                "worker {worker} has stopped writing at {number}"
            );
        }
        killed.elapsed() > Duration::from_secs(3)
    });
    for (worker, (number, first)) in seen
        .iter()
        .zip(first)
        .map(|((number, _), first)| (number, first))
        .enumerate()
    {
        assert!(*number > first + 1000, "worker {worker}: {first} to {number}");
    }
    get(SERVER, None).expect("they serve, too");

    // Another controller: it finishes what the first may have been at, and goes on with the same logs.
    run::to_end(controller_command().args(["stop", "--app", &name]), LONG).expect_code(0);
    let again = Launch::new(&options).name(&name).run(&commands::rust(&[]));
    wait::until("the logs are rotated again", LONG, || {
        (0..4).all(|worker| {
            let size = fs::metadata(folder.join(format!("worker-{worker}.log")))
                .expect("there")
                .len();
            size <= 1 << 20 && !folder.join(format!("worker-{worker}.log.rotating")).exists()
        })
    });
    for worker in 0..4_u16 {
        let all = String::from_utf8(everything(&folder, &format!("worker-{worker}.log"))).expect("text");
        let numbers = numbers(&all);
        assert_complete(&numbers, &format!("worker {worker}"));
        let last = seen[usize::from(worker)].0;
        assert!(
            numbers.len() as u64 > last,
            "worker {worker}: {} of {last} lines",
            numbers.len()
        );
        // And for those who ask: over all rotated files.
        let shown = again
            .ctl(&["logs", &worker.to_string(), "--out", "-n", "100000000"])
            .expect_code(0);
        assert!(
            shown.stdout == all,
            "{} of {} bytes are shown",
            shown.stdout.len(),
            all.len()
        );
    }
    again.stop();
    fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn who_follows_sees_every_line_over_rotations() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let options = ["--workers", "3", "--log-size", "96K", "--log-keep", "100"];
    let app = Launch::new(&options).run(&at_full_speed(&scratch));
    let following = Following::start(&app, &["2", "--out", "-n", "100000000"]);
    let tenth = folder(app.name()).join("worker-2.log.10");
    wait::until("the log was rotated ten times", LONG, || tenth.exists());
    let reached = progress(&folder(app.name()), 2);
    wait::until("it was shown so far", LONG, || {
        following.output().contains(&format!("line {reached}\n"))
    });
    let shown = following.stop();
    assert!(shown.ends_with('\n'), "whole lines only");
    assert_complete(&numbers(&shown), "what was shown");
    let (name, folder) = (app.name().to_owned(), folder(app.name()));
    app.stop();
    // The last lines are found at once, and are those of all workers, as many of each. Not while they write: all that is kept of 10 MB a second
    // can be replaced before a busy machine has shown it.
    let last = run::to_end(
        controller_command().args(["--app", &name, "logs", "-n", "5", "--json"]),
        LONG,
    )
    .expect_code(0);
    let last = json_lines(&last.stdout);
    assert_eq!(last.iter().filter(|line| line["worker"] == 0).count(), 5);
    assert_eq!(last.iter().filter(|line| line["worker"] == 1).count(), 5);
    fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn lines_are_found_by_worker_stream_and_time() {
    let _namespace = Namespace::enter();
    let told = Told::new();
    let app = App::run(&["--workers", "2"], &told.command());
    let logged = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["logs", "--json"].iter().chain(arguments).copied().collect();
        json_lines(&app.ctl(&arguments).expect_code(0).stdout)
    };
    let following = Following::start(&app, &[]);
    let mut told_at = Vec::new();
    for (worker, words) in [(0, "out first"), (1, "err second"), (0, "err third"), (1, "out fourth")] {
        told_at.push(now_ms());
        told.tell(worker, words);
        // Each is seen before the next is written, so their order is known.
        let (_, text) = words.split_once(' ').expect("two words");
        wait::until("the line is there, and its time", SOON, || {
            let lines = logged(&[]);
            let marked = fs::metadata(folder(app.name()).join(match (worker, &words[..3]) {
                (0, "out") => "worker-0.times",
                (0, _) => "worker-0.err.times",
                (_, "out") => "worker-1.times",
                _ => "worker-1.err.times",
            }));
            lines.iter().any(|line| line["line"] == text) && marked.is_ok_and(|marked| marked.size() > 128)
        });
        let begun = Instant::now();
        wait::until("another 600 ms have passed", SOON, || {
            begun.elapsed() > Duration::from_millis(600)
        });
    }

    let all = ["0 out first", "1 err second", "0 err third", "1 out fourth"];
    let is_told = |line: &Value| {
        all.iter()
            .any(|said| said.ends_with(line["line"].as_str().unwrap_or("?")))
    };
    let only_told = |lines: Vec<Value>| lines.into_iter().filter(is_told).collect::<Vec<Value>>();
    let lines = only_told(logged(&[]));
    assert_eq!(said(&lines), all);
    for (line, told_at) in lines.iter().zip(&told_at) {
        assert_eq!(line["app"], app.name());
        let at: u128 = date(&["-d", line["at"].as_str().expect("a time"), "+%s%3N"])
            .parse()
            .expect("a number");
        let late = at.saturating_sub(*told_at);
        assert!(
            at + 50 >= *told_at && late < 500,
            "said to be written {late} ms later: {line}"
        );
    }
    assert_eq!(said(&only_told(logged(&["--err"]))), all[1..3]);
    assert_eq!(said(&only_told(logged(&["--out", "1"]))), all[3..]);
    assert_eq!(said(&only_told(logged(&["0"]))), [all[0], all[2]]);
    let between = told_at[2] - 300;
    let since = date(&[
        "-d",
        &format!("@{}.{:03}", between / 1000, between % 1000),
        "+%FT%T.%3NZ",
    ]);
    assert_eq!(said(&logged(&["--since", &since])), all[2..]);
    assert_eq!(said(&logged(&["--since", &since, "-n", "1", "0"])), all[2..3]);
    assert_eq!(said(&only_told(logged(&["--since", "10m"]))), all);
    assert!(logged(&["--since", "1ms"]).is_empty());
    app.ctl(&["logs", "--since", "yesterday"]).expect_code(2);

    // For people: by worker, what went to the standard error marked; and the same on the controller's terminal.
    let text = app
        .ctl(&["logs", "--since", &since, "--timestamps"])
        .expect_code(0)
        .stdout;
    let lines: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    assert_eq!(lines, ["0! third", "1| fourth"], "{text}");
    let followed = "0| first\n1! second\n0! third\n1| fourth\n";
    let without_greetings = || {
        let output = following.output();
        let lines = output.lines().filter(|line| !line.ends_with("listening"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    wait::until("all lines were shown", SOON, || without_greetings() == followed);
    for line in followed.lines() {
        assert!(
            app.output().lines().any(|shown| shown == line),
            "{line:?} in {}",
            app.output()
        );
    }
    // Over a restart, too.
    app.ctl(&["restart", "0"]).expect_code(0);
    told.tell(0, "err another process");
    wait::until("its line is shown", SOON, || {
        following.output().ends_with("0! another process\n")
    });
    drop(following);
    app.stop();
}

/// What a worker wrote last says why it failed, whichever stream it went to.
#[test]
fn a_failure_is_shown_with_the_last_lines_of_both_streams() {
    let _namespace = Namespace::enter();
    let script = "echo on standard output; echo on standard error >&2; exit 3";
    let output = Launch::new(&["--workers", "1"])
        .to_end(&["/bin/sh", "-c", script], LONG)
        .expect_code(1);
    for line in ["on standard output", "on standard error"] {
        let shown = output
            .stderr
            .lines()
            .filter(|shown| shown.trim_start().ends_with(line))
            .count();
        assert!(shown > 0, "{line:?} is missing in:\n{}", output.stderr);
    }
}

/// An app with mounts of its own.
struct Apart {
    name: String,
    controller: Child,
}

impl Apart {
    /// Runs `shell` before the controller, in the same mount namespace.
    fn run(shell: &str, options: &[&str], command: &[String]) -> (Self, App) {
        let launch = Launch::new(&[]);
        let name = launch.app_name().to_owned();
        let mut inside = controller_command();
        inside.args(["run", "--name", &name, "--workers", "2"]);
        inside.args(options).arg("--").args(command);
        let mut outside = Command::new("unshare");
        outside.args(["-m", "sh", "-ec", &format!("{shell}\nexec \"$@\""), "sh"]);
        outside.arg(inside.get_program()).args(inside.get_args());
        outside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let controller = outside
            .process_group(0)
            .spawn()
            .expect("run unshare (package util-linux)");
        let mut app = App::detached(&name);
        app.wait_all_active(2);
        (Self { name, controller }, app)
    }

    /// On a file system of 1 MiB.
    fn on_little(options: &[&str], command: &[String]) -> (Self, App) {
        fs::create_dir_all("/var/log/reuse-ctl").expect("made");
        Self::run("mount -t tmpfs -o size=1m none /var/log/reuse-ctl", options, command)
    }

    /// The folder of the logs as the controller sees it.
    fn folder(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/root/var/log/reuse-ctl/{}",
            self.controller.id(),
            self.name
        ))
    }

    fn used(&self) -> u64 {
        let files = fs::read_dir(self.folder()).expect("readable").flatten();
        files
            .filter_map(|file| Some(file.metadata().ok()?.blocks() * 512))
            .sum()
    }

    fn ended(mut self) {
        let status = wait::until_some("the controller ends", LONG, || {
            self.controller.try_wait().expect("ours")
        });
        assert_eq!(status.code(), Some(0));
        leftovers::assert_nothing_left(&self.name);
    }
}

#[test]
fn a_full_disk_ends_nobody() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    // One that goes on when it can't write.
    let script = format!(
        "(n=0; while :; do echo \"line $n\" || :; n=$((n + 1)); done) 2>/dev/null & exec {}",
        commands::rust(&[]).join(" ")
    );
    let script = scratch.write_executable("worker", &format!("#!/bin/sh\n{script}\n"));
    let command = [script.to_str().expect("a plain path").to_owned()];
    let (small, app) = Apart::on_little(&["--log-size", "4M"], &command);
    wait::until("the disk is full", LONG, || small.used() >= (1 << 20) - 8192);
    let pids = app.status().pids();
    let full = Instant::now();
    wait::until("2 s have passed", SOON, || full.elapsed() > Duration::from_secs(2));
    let status = app.status();
    assert!(status.all_active(2), "{status:#?}");
    assert_eq!(status.pids(), pids, "nobody was restarted");
    get(SERVER, None).expect("they serve");
    app.stop();
    small.ended();

    // With logs that fit it never gets full, and the newest lines are there. A writer at full speed can fill a disk of this size before
    // anybody gets the processor to rotate its log.
    let script = format!(
        "(n=0; while :; do echo \"line $n\"; n=$((n + 1)); [ $((n % 500)) != 0 ] || sleep 0.02; done) & exec {}",
        commands::rust(&[]).join(" ")
    );
    let script = scratch.write_executable("paced", &format!("#!/bin/sh\n{script}\n"));
    let command = [script.to_str().expect("a plain path").to_owned()];
    let (small, app) = Apart::on_little(&["--log-size", "128K", "--log-keep", "1"], &command);
    let mut reached = 0;
    wait::until("more than fits on the disk was written", LONG, || {
        reached = progress(&small.folder(), 1);
        reached > 150_000
    });
    assert!(small.folder().join("worker-1.log.1").exists());
    app.stop();
    small.ended();
}

/// Real journald, in a place of its own.
#[test]
fn output_goes_to_the_journal() {
    const JOURNALD: &str = "/lib/systemd/systemd-journald";
    let _namespace = Namespace::enter();
    assert!(Path::new(JOURNALD).exists(), "{JOURNALD} is there (package systemd)");
    let refused = Launch::new(&["--log", "journald"]);
    if !Path::new("/run/systemd/journal/stdout").exists() {
        refused
            .to_end(&commands::rust(&[]), SOON)
            .expect_code(1)
            .expect_complaint(&["journald", "/run/systemd/journal/stdout"]);
        leftovers::assert_nothing_left(refused.app_name());
    }

    let scratch = Scratch::new();
    let pid_file = scratch.path().join("journald");
    let shell = format!(
        "mkdir -p /run/log /run/systemd; mount -t tmpfs none /run/systemd; mount -t tmpfs none /run/log\n\
         mkdir -p /run/systemd/journal /run/log/journal\n{JOURNALD} & echo $! > {}\n\
         for look in $(seq 500); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.02; done",
        pid_file.display()
    );
    let line = format!(
        "echo out of $REUSE_WORKER_ID; echo err of $REUSE_WORKER_ID >&2; exec {}",
        commands::rust(&[]).join(" ")
    );
    let command = ["/bin/sh".to_owned(), "-c".to_owned(), line];
    let (apart, app) = Apart::run(&shell, &["--log", "journald"], &command);
    let journal = format!("reuse-ctl/{}.1", app.name());
    let entries = || {
        let mut command = Command::new("nsenter");
        command.args(["-t", &apart.controller.id().to_string(), "-m"]);
        command.args(["journalctl", "-o", "json", "--no-pager", "-t", &journal]);
        let output = command.output().expect("run nsenter (package util-linux)");
        let entries = json_lines(&String::from_utf8_lossy(&output.stdout));
        let shown = |entry: &Value| {
            Some((
                entry["PRIORITY"].as_str()?.to_owned(),
                entry["MESSAGE"].as_str()?.to_owned(),
            ))
        };
        entries.iter().filter_map(shown).collect::<Vec<_>>()
    };
    for (priority, message) in [("6", "out of 1"), ("3", "err of 1")] {
        wait::until("the line is in the journal", SOON, || {
            entries().contains(&(priority.to_owned(), message.to_owned()))
        });
    }
    let asked = app.ctl(&["logs", "1"]).expect_code(1);
    asked.expect_complaint(&[&format!("journalctl -t {journal}")]);
    assert!(!folder(app.name()).join("worker-1.log").exists());
    let name = app.name().to_owned();
    app.stop();
    let journald = fs::read_to_string(pid_file).expect("its process id");
    let journald = Pid::from_raw(journald.trim().parse().expect("a process id"));
    kill(journald, Signal::SIGKILL).expect("ours");
    apart.ended();

    // The next time to files again.
    let app = Launch::new(&[]).name(&name).run(&commands::rust(&[]));
    app.ctl(&["logs"]).expect_code(0);
    app.stop();
    fs::remove_dir_all(folder(&name)).expect("removed");
}

#[test]
fn the_logs_belong_to_the_workers_and_the_index_to_the_controller() {
    let _namespace = Namespace::enter();
    let told = Told::new();
    fs::set_permissions(told.scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let app = App::run(&["--user", "nobody"], &told.command());
    told.tell(0, "out hello");
    let folder = folder(app.name());
    wait::until("the line is marked", SOON, || {
        fs::metadata(folder.join("worker-0.times")).is_ok_and(|times| times.size() > 128)
    });
    for (name, owner, mode) in [
        ("worker-0.log", 65534, 0o640),
        ("worker-0.err.log", 65534, 0o640),
        ("worker-0.times", 0, 0o644),
    ] {
        let metadata = fs::metadata(folder.join(name)).expect("there");
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (owner, mode), "{name}");
    }
    // It can do to its log what it wants; nobody follows its links.
    let outside = told.scratch.write("outside", "not a log\n");
    fs::remove_file(folder.join("worker-0.log")).expect("removed");
    std::os::unix::fs::symlink(&outside, folder.join("worker-0.log")).expect("made");
    let refused = app.ctl(&["restart", "0"]).expect_code(1);
    assert!(refused.stderr.contains("opening log"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(outside).expect("there"), "not a log\n");
    let file = File::options()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(folder.join("worker-0.log"));
    assert!(file.is_err(), "the link is still there");
    fs::remove_file(folder.join("worker-0.log")).expect("removed");
    app.stop();
}
