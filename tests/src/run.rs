//! Running one command to its end, within a bound.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;
use crate::wait;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All it wrote to its standard output.
    pub stdout: String,
    /// All it wrote to its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// All it wrote to its standard error, but for the first lines that say how far it is (`3 of 4 active; worker 2: starting`).
    pub fn stderr_lines(&self) -> Vec<&str> {
        self.stderr.lines().skip_while(|line| is_progress(line)).collect()
    }

    /// Fails unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code; it wrote:\n{}{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails unless the complaint on standard error is one line that says what is wrong (with all of `words`) and one that says what
    /// to do next. What `run` logs (`reuse-ctl  …`, two spaces) and the workers' own lines (`0| …`) are no complaint; nor is how far it is
    /// (`3 of 4 active; worker 2: starting`), which comes before.
    #[track_caller]
    pub fn expect_complaint(self, words: &[&str]) -> Self {
        let is_log = |line: &str| {
            line.starts_with("reuse-ctl  ")
                || line
                    .split_once(['|', '!'])
                    .is_some_and(|(slot, _)| slot.parse::<u16>().is_ok())
        };
        let said = self.stderr_lines();
        let lines: Vec<_> = said
            .into_iter()
            .filter(|line| !line.trim().is_empty() && !is_log(line))
            .collect();
        assert!(
            matches!(lines[..], [reason, next] if reason.starts_with("reuse-ctl: ") && next.starts_with("  → ")),
            "one line with the reason, one with what to do next; it wrote:\n{}",
            self.stderr
        );
        assert_says(&lines.concat(), words);
        self
    }
}

/// Fails unless all of `words` are in `text`.
#[track_caller]
pub fn assert_says(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "{words:?} is missing in:\n{text}");
    }
}

/// "3 of 4 active; worker 2: starting".
fn is_progress(line: &str) -> bool {
    line.split_once(" active; worker ").is_some_and(|(count, _)| {
        let numbers = count.split_once(" of ");
        numbers.is_some_and(|(active, all)| active.parse::<u16>().is_ok() && all.parse::<u16>().is_ok())
    })
}

/// Runs `command`, with its output in files: a process that it leaves behind can't keep a pipe open and this from returning.
///
/// # Panics
/// When it can't be started, or has not ended after `limit` (it is killed).
#[track_caller]
pub fn to_end(command: &mut Command, limit: Duration) -> Output {
    let scratch = Scratch::new();
    let (stdout, stderr) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
    let create = |path| File::create(path).expect("create an output file");
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&stdout))
        .stderr(create(&stderr))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = wait::poll(limit, || child.try_wait().expect("wait for a child of ours"));
    let took = started.elapsed();
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).expect("read an output file")).into_owned();
    let (stdout, stderr) = (read(&stdout), read(&stderr));
    let Some(status) = status else {
        child.kill().expect("kill a child of ours");
        child.wait().expect("wait for a child of ours");
        panic!("{command:?} has not ended after {limit:?}; it wrote:\n{stdout}{stderr}");
    };
    if let Some(signal) = status.signal() {
        panic!("{command:?} was ended by signal {signal}; it wrote:\n{stdout}{stderr}");
    }
    Output {
        code: status.code(),
        stdout,
        stderr,
        took,
    }
}
