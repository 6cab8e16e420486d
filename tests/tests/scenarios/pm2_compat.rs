//! What `--pm2-compat` promises, beside the real PM2 with the same app: how a worker is told to end, how long it may take, and what it
//! finds in its environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reuse_tests::binaries::{node24, script};
use reuse_tests::events::{Event, Events};
use reuse_tests::http::{get, get_path};
use reuse_tests::load::{Load, Mode};
use reuse_tests::pm2::Pm2;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, kernel, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// What PM2 gives a worker from its signal to its death, if nobody says otherwise.
const PATIENCE_MS: u64 = 1600;

/// How much earlier it may seem to the worker, which notes a signal when it gets to it.
const EARLY_MS: u64 = 400;

/// How much later than that it may be dead on a busy machine.
const LATE_MS: u64 = 2000;

/// A note of the worker: a signal that it got, or its exit.
#[derive(Debug, Clone)]
struct Note {
    pid: i32,
    what: String,
    at_ms: u64,
}

/// `tests/servers/pm2-stop.js`, and what it wrote down.
struct Noted {
    scratch: Scratch,
}

impl Noted {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
        }
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("notes")
    }

    fn notes(&self) -> Vec<Note> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let note = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            Note {
                pid: words[0].parse().expect("a process id"),
                what: words[1].to_owned(),
                at_ms: words[2].parse().expect("milliseconds"),
            }
        };
        text.lines().map(note).collect()
    }

    /// `reuse-ctl run --pm2-compat` with it.
    fn launch(&self, options: &[&str], variables: &[(&str, &str)]) -> App {
        let launch = Launch::new(&[&["--pm2-compat", "--ready", "ipc"], options].concat());
        let launch = launch.env("PORT", &PORT.to_string()).env("NOTES", text(&self.file()));
        let launch = variables
            .iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value));
        launch.run(&[node24(), script("pm2-stop.js")])
    }

    /// The same under PM2.
    fn start_pm2(&self, name: &str, more: &Value, variables: &Value) -> Pm2 {
        let mut app = json!({
            "script": script("pm2-stop.js"),
            "interpreter": node24(),
            "wait_ready": true,
            "env": { "PORT": PORT.to_string(), "NOTES": self.file() },
        });
        merge(&mut app, more);
        merge(&mut app["env"], variables);
        let theirs = Pm2::new();
        theirs.add(name, &app);
        wait::until("PM2's app answers", LIMIT, || get(SERVER, None).is_ok());
        theirs
    }

    /// Waits until the worker has got a signal and is dead; the milliseconds between the two.
    #[track_caller]
    fn dead_after_ms(&self, pid: i32) -> u64 {
        wait::until("the worker is dead", LIMIT, || !kernel::is_alive(pid));
        let dead_ms = u64::try_from(now().as_millis()).expect("not for 500 million years");
        let notes = self.notes();
        let got: Vec<_> = notes.iter().map(|note| (note.pid, note.what.as_str())).collect();
        assert_eq!(
            got,
            [(pid, "SIGINT")],
            "one signal that it can hear, and no end of its own"
        );
        dead_ms - notes[0].at_ms
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().expect("an object") {
        into[name] = value.clone();
    }
}

#[test]
fn a_worker_that_ignores_sigint_is_killed_after_1600_ms_as_under_pm2() {
    let _namespace = Namespace::enter();
    let ours = Noted::new();
    let app = ours.launch(&[], &[("IGNORES", "yes")]);
    let events = Events::of(&app);
    let pid = app.status().pid_of(0);
    let restart = app.ctl_start(&["restart", "0"]);
    let our_ms = ours.dead_after_ms(pid);
    restart.join().expect_code(0);
    let at_ms = |event: &str, word: &str| {
        let who = format!("(pid {pid})");
        let is_it = |one: &Event| one.message.contains(&who) && one.message.contains(word);
        let found = wait::until_some(word, LIMIT, || events.named(event).into_iter().find(is_it));
        found.at_ms
    };
    let told_ms = at_ms("exited", "SIGKILL") - at_ms("stopping", "told to stop");
    app.stop();

    let theirs = Noted::new();
    let pm2 = theirs.start_pm2("web", &json!({}), &json!({"IGNORES": "yes"}));
    let pid = get(SERVER, None).expect("an answer").pid.expect("it names its process");
    let their_ms = thread::scope(|scope| {
        let stop = scope.spawn(|| pm2.call(&["stop", "web"]));
        let their_ms = theirs.dead_after_ms(pid.cast_signed());
        stop.join().expect("it returns").expect_code(0);
        their_ms
    });

    let figures = format!("from SIGINT to death: {our_ms} ms here ({told_ms} by the events), {their_ms} ms under PM2");
    println!("{figures}");
    // The events are written one after the other with the clock that the patience is counted by, and rounded.
    assert!(
        (PATIENCE_MS - 1..=PATIENCE_MS + LATE_MS).contains(&told_ms),
        "{figures}"
    );
    let bounds = PATIENCE_MS - EARLY_MS..=PATIENCE_MS + LATE_MS;
    assert!(bounds.contains(&our_ms) && bounds.contains(&their_ms), "{figures}");
}

#[test]
fn a_worker_that_ends_well_on_sigint_ends_by_itself_and_loses_nothing() {
    let _namespace = Namespace::enter();
    let noted = Noted::new();
    let app = noted.launch(&["--workers", "2"], &[]);
    let before: Vec<_> = [0, 1].map(|worker| app.status().pid_of(worker)).into();
    let load = Load::start_with_pause(SERVER, 8, Mode::NewConnections, LIMIT, Duration::from_millis(2));
    load.wait_for(100, LIMIT);
    app.ctl(&["reload"]).expect_code(0);
    load.wait_for(100, LIMIT);
    load.stop().assert_nothing_failed();
    let after: Vec<_> = [0, 1].map(|worker| app.status().pid_of(worker)).into();
    app.stop();
    let notes = noted.notes();
    for pid in before.iter().chain(&after) {
        let own: Vec<_> = notes.iter().filter(|note| note.pid == *pid).collect();
        let what: Vec<_> = own.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(what, ["SIGINT", "exit"], "{notes:?}");
        let took_ms = own[1].at_ms - own[0].at_ms;
        assert!(took_ms < PATIENCE_MS, "{took_ms} ms");
    }
}

/// The names that the manual promises, and what is counted or given by options of the same name.
const PROMISED: [&str; 7] = [
    "NODE_APP_INSTANCE",
    "pm_id",
    "name",
    "exec_mode",
    "NUMBER",
    "PORT",
    "MINE",
];

/// What PM2 tells its own library about itself; nothing of it is promised here.
const PM2S_OWN: [&str; 4] = ["PM2_HOME", "pm_exec_path", "pm_cwd", "unique_id"];

#[test]
fn the_names_of_the_environment_are_there_in_both_with_the_same_values() {
    let _namespace = Namespace::enter();
    let noted = Noted::new();
    let variables = [("MINE", "x")];
    let app = noted.launch(&["--workers", "2", "--increment-var", "NUMBER=5"], &variables);
    let name = app.name().to_owned();
    let ours: BTreeMap<String, Value> = ["0", "1"]
        .map(|worker| {
            let body = app.ctl(&["get", worker, "/env"]).expect_code(0).stdout;
            (worker.to_owned(), serde_json::from_str(&body).expect("JSON"))
        })
        .into();
    app.stop();

    let cluster = json!({"instances": 2, "exec_mode": "cluster", "increment_var": "NUMBER"});
    let _pm2 = noted.start_pm2(&name, &cluster, &json!({"MINE": "x", "NUMBER": "5"}));
    let mut theirs: BTreeMap<String, Value> = BTreeMap::new();
    wait::until("both of PM2's workers have answered", LIMIT, || {
        let answer = get_path(SERVER, "/env").expect("an answer");
        let environment: Value = serde_json::from_str(&answer.body).expect("JSON");
        let number = environment["NODE_APP_INSTANCE"].as_str().expect("a number").to_owned();
        theirs.insert(number, environment);
        theirs.len() == 2
    });
    for (worker, ours) in &ours {
        for name in PROMISED {
            assert!(ours[name].is_string(), "worker {worker} has no {name}");
            assert_eq!(ours[name], theirs[worker][name], "{name} of worker {worker}");
        }
        for name in PM2S_OWN {
            assert!(ours[name].is_null() && theirs[worker][name].is_string(), "{name}");
        }
    }
}

#[test]
fn without_the_option_nothing_pretends_to_be_pm2() {
    let _namespace = Namespace::enter();
    let noted = Noted::new();
    let app = Launch::new(&[])
        .env("PORT", &PORT.to_string())
        .env("NOTES", text(&noted.file()))
        .env("pm_id", "7")
        .run(&[node24(), script("pm2-stop.js")]);
    let body = app.ctl(&["get", "0", "/env"]).expect_code(0).stdout;
    let environment: Value = serde_json::from_str(&body).expect("JSON");
    for name in ["pm_id", "name", "exec_mode"] {
        assert!(environment[name].is_null(), "{name}: {}", environment[name]);
    }
    app.stop();
    let what: Vec<_> = noted.notes().into_iter().map(|note| note.what).collect();
    assert_eq!(what, ["SIGTERM", "exit"]);
}
