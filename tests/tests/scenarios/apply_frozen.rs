//! Files that do not answer hold up whoever asked for them, and nobody else.

use std::thread;
use std::time::{Duration, Instant};

use reuse_tests::app::Verb;
use reuse_tests::events::Events;
use reuse_tests::frozen::{Frozen, Mounts};
use reuse_tests::http::get;
use reuse_tests::site::Site;
use reuse_tests::{App, Namespace, SERVER, commands, control, wait};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// Longer than anybody waits for files.
const LIMIT: Duration = Duration::from_secs(60);

/// What does not wait for files is answered at once; a busy machine has its time, too, and files that are waited for have 30 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// An app of two workers whose env file is in a folder that can be frozen.
struct Frosty {
    site: Site,
    app: App,
    mounts: Mounts,
}

impl Frosty {
    fn new() -> Self {
        let mounts = Mounts::enter();
        let site = Site::new();
        std::fs::create_dir(site.path().join("env")).expect("a folder");
        site.write("env/app.env", "COLOUR=red\n");
        let frosty = Self {
            app: App::detached(&site.name("web")),
            site,
            mounts,
        };
        frosty.file("env_file = 'env/app.env'");
        frosty.site.apply(&[]).expect_code(0);
        frosty
    }

    fn file(&self, more: &str) {
        let command = commands::rust(&[]);
        self.site.file(&format!(
            "name = 'NAME(web)'\ncommand = {command:?}\nworkers = 2\n{more}\n"
        ));
    }

    fn freeze(&self) -> Frozen {
        self.mounts.freeze(&self.site.path().join("env"))
    }

    /// Asks in a thread of its own.
    fn ask(&self, method: &'static str, path: &'static str, body: String) -> thread::JoinHandle<(u16, Value)> {
        let socket = self.app.socket();
        thread::spawn(move || {
            let (code, answer) = control::request(&socket, method, path, &body).expect("an answer");
            (code, serde_json::from_str(&answer).expect("JSON"))
        })
    }

    /// `PUT /v1/spec`, with a working folder that is frozen.
    fn apply(&self) -> thread::JoinHandle<(u16, Value)> {
        let folder = self.site.path().join("env").display().to_string();
        let mut arguments = vec![format!("--name={}", self.app.name()), "--workers=2".into()];
        arguments.extend([format!("--cwd={folder}"), "--".into()]);
        arguments.extend(commands::rust(&[]));
        let spec = json!({"arguments": arguments, "variables": []});
        self.ask("PUT", "/v1/spec", json!({ "spec": spec }).to_string())
    }

    /// The controller does what needs no files, at once.
    #[track_caller]
    fn steers(&self) {
        let began = Instant::now();
        assert!(self.app.status().all_active(2));
        for (verb, seen) in [("drain", "drained"), ("undrain", "active")] {
            let (code, answer) = control::request(&self.app.socket(), "POST", &format!("/v1/workers/0/{verb}"), "{}")
                .unwrap_or_else(|| panic!("{verb} has no answer"));
            assert_eq!(code, 200, "{answer}");
            assert_eq!(self.app.status().worker(0).state, seen);
        }
        get(SERVER, None).expect("a worker answers");
        let took = began.elapsed();
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[track_caller]
fn assert_refused((code, answer): &(u16, Value), expected: u16, words: &str) {
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(*code == expected && error.contains(words), "{code}: {answer}");
}

#[test]
fn files_that_do_not_answer_hold_up_nobody_else_and_not_the_end() {
    let _namespace = Namespace::enter();
    let frosty = Frosty::new();
    let before = frosty.app.status().pids();
    let frozen = frosty.freeze();
    let reload = frosty.ask("POST", "/v1/reload", "{}".into());
    let mut applies = vec![frosty.apply(), frosty.apply()];
    wait::until("one of the two is refused", SOON, || {
        applies.iter().any(thread::JoinHandle::is_finished)
    });
    let refused = applies.swap_remove(usize::from(!applies[0].is_finished()));
    assert_refused(&refused.join().expect("no panic"), 500, "an apply is under way");
    let apply = applies.remove(0);
    frosty.steers();
    // New workers are started from what was read.
    frosty.app.ctl(&["scale", "3"]).expect_code(0);
    frosty.app.ctl(&["scale", "2"]).expect_code(0);
    assert_eq!(frosty.app.status().pids(), before);
    assert!(!reload.is_finished() && !apply.is_finished());
    let events = Events::of(&frosty.app);
    let began = Instant::now();
    frosty.app.stop();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for waiting in [reload, apply] {
        assert_refused(&waiting.join().expect("no panic"), 500, "the app was stopped meanwhile");
    }
    assert!(events.named("spawned").is_empty());
    drop(frozen);
}

#[test]
fn who_waits_for_files_too_long_is_refused_and_what_comes_later_is_dropped() {
    let _namespace = Namespace::enter();
    let frosty = Frosty::new();
    let before = frosty.app.status().pids();
    let frozen = frosty.freeze();
    let mut waiting = vec![
        frosty.app.ctl_start(&["reload"]),
        frosty.app.ctl_start(&["restart", "1"]),
    ];
    frosty.steers();
    wait::until("the first one is refused", LIMIT, || {
        waiting.iter().any(Verb::is_finished)
    });
    let first = waiting.swap_remove(usize::from(!waiting[0].is_finished())).join();
    assert!(first.stderr.contains("have not answered within 30s"), "{first:?}");
    assert!(first.took >= Duration::from_secs(29), "{first:?}");
    first.expect_code(4);
    frosty.steers();
    // Now it is the other's turn, which waits no longer when they answer: with a failure.
    drop(frozen);
    let other = waiting.remove(0).join();
    assert!(matches!(other.code, Some(0 | 2)), "{other:?}");
    if other.code == Some(2) {
        assert_eq!(frosty.app.status().pids(), before, "what came too late is not done");
    }
    frosty.app.ctl(&["reload"]).expect_code(0);
    assert!(
        frosty
            .app
            .status()
            .pids()
            .iter()
            .zip(&before)
            .all(|(new, old)| new != old)
    );
    frosty.file("");
    frosty.site.apply(&[]).expect_code(0);
    frosty.app.stop();
}
