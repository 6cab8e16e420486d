//! The server sees the stop signal once, whatever it was started through, and finishes what it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use reuse_tests::http::{get, get_path};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, binaries, kernel, wait};

/// Far more than a start through two wrappers takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// An app whose server is `tests/servers/wrapped/server.js`, and what that has noted.
struct Wrapped {
    app: App,
    notes: Notes,
}

struct Notes(PathBuf);

impl Notes {
    /// The processes that have noted this, and how often.
    fn of(&self, what: &str) -> BTreeMap<i32, u32> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let noted = text.lines().filter_map(|line| line.split_once(' '));
        let mut count = BTreeMap::new();
        for (pid, _) in noted.filter(|(_, noted)| *noted == what) {
            *count.entry(pid.parse().expect("a number")).or_default() += 1;
        }
        count
    }

    /// Every process that has ever said that it is up, as soon as there are so many.
    #[track_caller]
    fn wait_up(&self, count: usize) -> Vec<i32> {
        wait::until("all of them are up", LIMIT, || self.of("up").len() >= count);
        let up: Vec<i32> = self.of("up").into_keys().collect();
        assert_eq!(up.len(), count, "and no more: {up:?}");
        up
    }

    /// Those who have got a signal, and how many.
    fn signalled(&self) -> BTreeMap<i32, u32> {
        let mut count = BTreeMap::new();
        for signal in ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"] {
            for (pid, times) in self.of(signal) {
                *count.entry(pid).or_default() += times;
            }
        }
        count
    }
}

impl Wrapped {
    fn run(scratch: &Scratch, options: &[&str], command: &[&str]) -> Self {
        let notes = Notes(scratch.path().join("notes"));
        let app = Launch::new(&[&["--stop-timeout", "60s"][..], options].concat())
            .directory(&folder())
            .env("NOTES", notes.0.to_str().expect("a plain path"))
            .env("PORT", &PORT.to_string())
            .run(command);
        Self { app, notes }
    }

    /// Replaces the worker while a request is in flight, and then ends the app: the request is answered, and each server was told once.
    #[track_caller]
    fn check_told_once(self, servers: usize) {
        let first = self.notes.wait_up(servers);
        let request = thread::spawn(|| get_path(SERVER, "/slow"));
        wait::until("the request is in flight", LIMIT, || !self.notes.of("begin").is_empty());
        self.app.ctl(&["reload"]).expect_code(0);
        let answer = request.join().expect("the client").expect("the request is answered");
        let begun = self.notes.of("begin");
        assert!(begun.contains_key(&i32::try_from(answer.pid.expect("it says who it is")).expect("small")));
        let once: BTreeMap<i32, u32> = first.iter().map(|pid| (*pid, 1)).collect();
        assert_eq!(self.notes.signalled(), once, "each of the old servers was told once");
        assert_eq!(self.notes.of("end"), once, "and has ended by itself");
        get(SERVER, None).expect("the new one serves");

        let all = self.notes.wait_up(2 * servers);
        let Self { app, notes } = self;
        app.stop();
        let once: BTreeMap<i32, u32> = all.iter().map(|pid| (*pid, 1)).collect();
        assert_eq!(notes.signalled(), once, "when the app ends, too");
        assert_eq!(notes.of("end"), once);
    }
}

fn folder() -> PathBuf {
    let script = binaries::script("wrapped/server.js");
    Path::new(&script).parent().expect("in a folder").to_owned()
}

/// A program that npm has installed.
fn installed(name: &str) -> String {
    binaries::script(&format!("node_modules/.bin/{name}"))
}

/// In a network namespace, and before that what npm has is installed.
fn told_once(servers: usize, command: impl FnOnce() -> Vec<String>) {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let command = command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Wrapped::run(&scratch, &[], &command).check_told_once(servers);
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn shell(script: &str) -> Vec<String> {
    vec!["bash".into(), "-c".into(), script.into()]
}

#[test]
fn by_itself() {
    told_once(1, || words("node server.js"));
}

#[test]
fn npm_start() {
    told_once(1, || words("npm start"));
}

#[test]
fn yarn_1() {
    told_once(1, || vec![installed("yarn"), "start".into()]);
}

#[test]
fn npx_tsx() {
    told_once(1, || words("npx tsx typed.ts"));
}

#[test]
fn env_cmd() {
    told_once(1, || {
        let mut command = vec![installed("env-cmd")];
        command.extend(words("-f empty.env node server.js"));
        command
    });
}

#[test]
fn npm_run_env_cmd() {
    told_once(1, || words("npm run start:env"));
}

#[test]
fn a_shell_that_passes_nothing_on() {
    told_once(1, || shell("node server.js; true"));
}

#[test]
fn a_shell_that_starts_it_again() {
    told_once(1, || shell("while :; do node server.js; done"));
}

#[test]
fn a_shell_that_passes_it_on() {
    told_once(1, || {
        shell("node server.js & child=$!; trap 'kill -TERM $child' TERM; wait $child; wait $child")
    });
}

#[test]
fn a_shell_that_translates_it() {
    told_once(1, || {
        shell("node server.js & child=$!; trap 'kill -USR2 $child' TERM; wait $child; wait $child")
    });
}

#[test]
fn a_wrapper_that_starts_it_again() {
    let script = "const go = () => { child = require('child_process').spawn('node', ['server.js'], {stdio: 'inherit'});
        child.on('exit', () => stopping || go()) };
        let child, stopping = false;
        process.on('SIGTERM', () => { stopping = true; child.kill('SIGINT') });
        go()";
    told_once(1, || vec!["node".into(), "-e".into(), script.into()]);
}

#[test]
fn workers_are_told_by_their_master() {
    told_once(2, || words("node cluster.js"));
}

#[test]
fn only_the_main_process_where_that_is_wanted() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let command = ["sh", "-c", "trap 'exit 0' TERM; node server.js & wait"];
    let wrapped = Wrapped::run(&scratch, &["--kill-mode", "process"], &command);
    wrapped.app.ctl(&["reload"]).expect_code(0);
    assert!(wrapped.notes.signalled().is_empty(), "the server was not told");
    wrapped.app.stop();
}

#[test]
fn everybody_where_that_is_wanted() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let bystander =
        "sh -c \"trap 'echo \\$\\$ SIGTERM >> $NOTES; exit 0' TERM; echo \\$\\$ up >> $NOTES; sleep 600 & wait\" &";
    let command = format!("{bystander} trap '' TERM; node server.js; true");
    let wrapped = Wrapped::run(&scratch, &["--kill-mode", "control-group"], &["sh", "-c", &command]);
    wait::until("the other process is up as well", LIMIT, || {
        wrapped.notes.of("up").len() == 2
    });
    let first: Vec<i32> = wrapped.notes.of("up").into_keys().collect();
    wrapped.app.ctl(&["reload"]).expect_code(0);
    wait::until("both have been told", LIMIT, || {
        let told = wrapped.notes.signalled();
        first.iter().all(|pid| told.get(pid) == Some(&1))
    });
    assert!(first.iter().all(|pid| !kernel::is_alive(*pid)));
    wrapped.app.stop();
}
