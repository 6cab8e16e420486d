//! Workers that are well are replaced for other reasons, and nobody notices.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use reuse_tests::events::{Event, Events};
use reuse_tests::heavy::Heavy;
use reuse_tests::launcher::Launcher;
use reuse_tests::open_loop::OpenLoop;
use reuse_tests::reconcile::reconcile;
use reuse_tests::scratch::Scratch;
use reuse_tests::status::Status;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, commands, wait};

const LIMIT: Duration = Duration::from_secs(60);

fn leaky(bytes_per_request: u32) -> Vec<String> {
    commands::node_environment(&[&PORT.to_string(), &format!("leak={bytes_per_request}")])
}

/// Runs `command` with these options under load until every slot was replaced `times`; nothing fails, and never are two replaced at once.
#[track_caller]
fn recycle_under_load(options: &[&str], command: &[String], times: u64, limit: Duration) -> Vec<Event> {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(
        &[&["--workers", "2", "--policy", "round-robin"], options].concat(),
        command,
    );
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 200);
    let most = Cell::new(0);
    app.wait_status("each was replaced", limit, |status| {
        most.set(most.get().max(starting(status)));
        status.workers.iter().all(|worker| worker.restarts >= times)
    });
    let run = clients.stop();
    run.assert_nothing_failed();
    assert!(most.get() <= 1, "{} were started at once", most.get());
    app.wait_status("nothing is under way", LIMIT, |status| {
        status.workers.iter().all(|worker| worker.instances.len() == 1)
    });
    assert!(events.named("failed").is_empty() && events.named("backing_off").is_empty());
    reconcile(&app, run.connections());
    let recycled = events.named("recycled");
    app.stop();
    recycled
}

/// The old ones may take their time to end.
fn starting(status: &Status) -> usize {
    let instances = status.workers.iter().flat_map(|worker| &worker.instances);
    instances.filter(|instance| instance.state == "starting").count()
}

#[test]
fn a_leaking_worker_is_replaced_before_it_is_too_large() {
    let recycled = recycle_under_load(&["--max-memory", "140M"], &leaky(60_000), 2, Duration::from_secs(120));
    assert!(recycled.len() >= 4, "{recycled:?}");
    for event in &recycled {
        assert!(event.worker.is_some());
        assert!(
            event.message.contains("more than --max-memory 140M: it is replaced"),
            "{}",
            event.message
        );
    }
}

/// Its successor would be no smaller: it is not started over and over.
#[test]
fn a_worker_that_is_too_large_from_the_start_is_no_reason_for_a_loop() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&["--max-memory", "5M"], &leaky(0));
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 50);
    let warned = events.wait_for("warning", 2, LIMIT);
    assert!(
        warned[0].message.contains("it is replaced when it has served for 10s"),
        "{warned:?}"
    );
    assert!(
        warned[1].message.contains("it is replaced when it has served for 20s"),
        "{warned:?}"
    );
    clients.run_for(Duration::from_secs(10));
    assert_eq!(app.status().worker(0).restarts, 1, "{:?}", events.named("recycled"));
    clients.stop().assert_nothing_failed();
    app.stop();
}

#[test]
fn workers_are_replaced_when_they_are_old() {
    let recycled = recycle_under_load(
        &["--max-age", "6s"],
        &commands::bun_reuse_port(&["linger=50"]),
        2,
        LIMIT,
    );
    assert!(
        recycled
            .iter()
            .all(|event| event.message.contains("more than its --max-age of")),
        "{recycled:?}"
    );
}

#[test]
fn workers_are_replaced_when_they_have_served_enough() {
    let options = [
        "--max-connections",
        "400",
        "--health",
        "tcp",
        "--health-interval",
        "100ms",
    ];
    let recycled = recycle_under_load(&options, &leaky(0), 2, LIMIT);
    for event in recycled {
        let words: Vec<&str> = event.message.split(' ').collect();
        let number = |after: &str| {
            let at = words
                .iter()
                .position(|word| *word == after)
                .expect("the words of the message");
            words[at + 1].trim_end_matches(':').parse::<u64>().expect("a number")
        };
        let (count, limit) = (number("accepted"), number("of"));
        assert!((360..=440).contains(&limit) && count > limit, "{}", event.message);
    }
}

#[test]
fn all_are_replaced_by_the_clock_one_after_the_other() {
    let recycled = recycle_under_load(&["--cron", "*/10 * * * * *"], &commands::node_graceful(), 3, LIMIT);
    assert!((3..=4).contains(&recycled.len()), "{recycled:?}");
    for pair in recycled.windows(2) {
        let apart = pair[1].at_ms - pair[0].at_ms;
        assert!((9_000..=11_500).contains(&apart), "{apart} ms: {recycled:?}");
        assert_eq!(pair[0].worker, None);
    }
}

/// A folder with a server in it, and an app that watches it.
struct Watched {
    folder: Scratch,
    launcher: Launcher,
    good: String,
    app: App,
    events: Events,
}

impl Watched {
    fn new(options: &[&str]) -> Self {
        let folder = Scratch::new();
        for below in ["src", "node_modules/x", ".git", "dist"] {
            fs::create_dir_all(folder.path().join(below)).expect("a folder");
        }
        let good = commands::rust(&[]).join(" ");
        let launcher = Launcher::new(&good);
        let launch = Launch::new(&[&["--workers", "2", "--watch", ".", "--ready-timeout", "5s"], options].concat());
        let app = launch.directory(folder.path()).run(&[launcher.command()]);
        let events = Events::of(&app);
        Self {
            folder,
            launcher,
            good,
            app,
            events,
        }
    }

    fn write(&self, name: &str) {
        fs::write(self.folder.path().join(name), "x").expect("a file");
    }

    /// Waits until all workers were replaced so often, and by no more than that many reloads.
    #[track_caller]
    fn reloaded(&self, times: u64) -> Vec<Event> {
        self.app.wait_status(&format!("{times} reloads"), LIMIT, |status| {
            status.all_active(2) && status.workers.iter().all(|worker| worker.restarts == times)
        });
        self.events.named("recycled")
    }
}

#[test]
fn a_change_of_files_reloads_once_and_says_which() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let watched = Watched::new(&["--watch-ignore", "dist", "--watch-ignore", "*.log"]);
    let clients = OpenLoop::start(SERVER, 100);
    // None of these counts.
    for name in [
        "node_modules/x/index.js",
        ".git/HEAD",
        "dist/a.js",
        "src/debug.log",
        "src/.a.swp",
    ] {
        watched.write(name);
    }
    clients.run_for(Duration::from_secs(1));
    assert!(
        watched.events.named("recycled").is_empty(),
        "{:?}",
        watched.events.named("recycled")
    );
    watched.write("src/server.js");
    let events = watched.reloaded(1);
    assert!(events[0].message.contains("src/server.js has changed"), "{events:?}");
    // A thousand at once, in folders that were not there.
    for folder in 0..10 {
        fs::create_dir_all(watched.folder.path().join(format!("src/new{folder}"))).expect("a folder");
        for file in 0..100 {
            watched.write(&format!("src/new{folder}/{file}.js"));
        }
    }
    let events = watched.reloaded(2);
    assert!(events[1].message.contains("others have changed"), "{events:?}");
    clients.run_for(Duration::from_secs(1));
    assert_eq!(watched.events.named("recycled").len(), 2, "{events:?}");
    watched.write("src/new3/7.js");
    let events = watched.reloaded(3);
    assert!(events[2].message.contains("src/new3/7.js has changed"), "{events:?}");
    clients.stop().assert_nothing_failed();
    watched.app.stop();
}

/// As when a build puts a new folder into the place of the old one.
#[test]
fn a_folder_that_vanishes_and_comes_back_is_watched_on() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    let app = Launch::new(&["--workers", "2", "--watch", text(&source)]).run(&commands::rust(&[]));
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 100);
    for round in 1..=2 {
        fs::remove_dir_all(&source).expect("a folder of ours");
        clients.run_for(Duration::from_secs(1));
        assert_eq!(
            events.named("recycled").len(),
            2 * round - 2,
            "nothing is started from nothing"
        );
        fs::create_dir(&source).expect("a folder");
        events.wait_for("recycled", 2 * round - 1, LIMIT);
        fs::write(source.join("a.js"), "x").expect("a file");
        let seen = events.wait_for("recycled", 2 * round, LIMIT);
        assert!(
            seen.last().expect("some").message.contains("a.js has changed"),
            "{seen:?}"
        );
    }
    app.wait_status("all were replaced", LIMIT, |status| {
        status.all_active(2) && status.workers.iter().all(|worker| worker.restarts == 4)
    });
    clients.stop().assert_nothing_failed();
    app.stop();
}

#[test]
fn a_change_that_breaks_it_costs_nothing_and_the_next_one_mends_it() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let watched = Watched::new(&[]);
    let before = watched.app.status().pids();
    let clients = OpenLoop::start(SERVER, 100);
    watched
        .launcher
        .deploy(&commands::rust(&["--exit-code", "3"]).join(" "));
    watched.write("src/broken.js");
    let warnings = watched.events.wait_for("warning", 1, LIMIT);
    assert!(
        warnings[0].message.contains("not tried again before the next occasion"),
        "{warnings:?}"
    );
    assert!(warnings[0].message.contains("exited with code 3"), "{warnings:?}");
    clients.run_for(Duration::from_secs(1));
    assert_eq!(watched.app.status().pids(), before, "the old version goes on");
    watched.launcher.deploy(&watched.good);
    watched.write("src/broken.js");
    wait::until("all were replaced", LIMIT, || {
        let status = watched.app.status();
        status.all_active(2) && status.pids().iter().zip(&before).all(|(now, before)| now != before)
    });
    clients.stop().assert_nothing_failed();
    watched.app.stop();
}

/// What a person asked for goes first, and the rest comes when that is done.
#[test]
fn a_change_during_a_reload_of_a_persons_waits_for_it() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let watched = Watched::new(&["--watch-delay", "10ms"]);
    let clients = OpenLoop::start(SERVER, 100);
    let reload = watched.app.ctl_start(&["reload"]);
    watched.events.wait_for("spawned", 1, LIMIT);
    watched.write("src/server.js");
    reload.join().expect_code(0);
    watched.reloaded(2);
    clients.stop().assert_nothing_failed();
    watched.app.stop();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
