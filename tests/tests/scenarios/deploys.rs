//! A version that listens and dies soon afterwards, as a server does whose database is not there: whoever deploys it is told, and nobody
//! else notices.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use reuse_tests::events::Events;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::Connection;
use reuse_tests::launcher::Launcher;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::reconcile;
use reuse_tests::run::{Output, assert_says};
use reuse_tests::site::Site;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, binaries, commands};

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// So many milliseconds after it listens, the version that does not work dies: within the default settle time.
const DEATHS_MS: [u32; 4] = [5, 20, 50, 300];

/// What the version that does not work wrote.
const CULPRIT_SAID: &str = "ECONNREFUSED 127.0.0.1:27017";

/// The server with these variables, as a line for a shell.
fn server(variables: &str) -> String {
    format!(
        "/usr/bin/env PORT={PORT} {variables} {} {}",
        binaries::node24(),
        binaries::script("dies-after-listen.js")
    )
}

fn shell(script: &str) -> [&str; 3] {
    ["/bin/sh", "-c", script]
}

fn dies_after(ms: u32) -> String {
    server(&format!("DIE_MS={ms}"))
}

/// The same in a file.
fn write(file: &Site, options: &str, variables: &str) {
    let command = binaries::script("dies-after-listen.js");
    file.file(&format!(
        "name = 'NAME(app)'\ncommand = ['NODE', '{command}']\n{options}\nenv = {{ PORT = '{PORT}'{variables} }}"
    ));
}

/// An app of four workers under load.
struct Deployed {
    app: App,
    load: Load,
    pids: Vec<Option<u32>>,
}

impl Deployed {
    fn of(app: App) -> Self {
        let load = Load::start_with_pause(SERVER, 16, Mode::NewConnections, LIMIT, PAUSE);
        load.wait_for(200, SOON);
        let pids = app.status().pids();
        Self { app, load, pids }
    }

    /// A deploy has failed: it says why, and those from before serve on.
    #[track_caller]
    fn assert_refused(&self, output: &Output, case: &str) {
        let said = format!("{}{}", output.stdout, output.stderr);
        assert_eq!(output.code, Some(1), "{case}: {said}");
        assert!(
            said.contains("exited with code 1") && said.contains("ready") && said.contains(CULPRIT_SAID),
            "{case}: {said}"
        );
        self.assert_untouched(case);
    }

    #[track_caller]
    fn assert_untouched(&self, case: &str) {
        assert_eq!(self.app.status().pids()[..4], self.pids[..4], "{case}");
        self.load.wait_for(100, SOON);
    }

    #[track_caller]
    fn end(self) {
        let report = self.load.stop();
        report.assert_nothing_failed();
        reconcile(&self.app, report.connections);
        self.app.stop();
    }
}

const FOUR: [&str; 2] = ["--workers", "4"];

#[test]
fn it_is_not_reloaded() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&server(""));
    let deployed = Deployed::of(App::run(&FOUR, &[launcher.command()]));
    for ms in DEATHS_MS {
        launcher.deploy(&dies_after(ms));
        let output = deployed.app.ctl(&["reload"]);
        deployed.assert_refused(&output, &format!("{ms} ms"));
        assert!(output.stderr.contains("reloaded 0 of 4"), "{}", output.stderr);
    }
    deployed.end();
}

/// A busy machine may be late by a good part of a second: the settle time is longer by more than that.
#[test]
fn it_is_not_reloaded_if_it_dies_late() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&server(""));
    let app = App::run(&[&FOUR[..], &["--settle", "2s"]].concat(), &[launcher.command()]);
    let deployed = Deployed::of(app);
    launcher.deploy(&dies_after(900));
    let output = deployed.app.ctl(&["reload"]);
    deployed.assert_refused(&output, "900 ms");
    assert!(output.stderr.contains("reloaded 0 of 4"), "{}", output.stderr);
    deployed.end();
}

#[test]
fn it_is_not_applied() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let file = Site::new();
    let write = |variables: &str| write(&file, "workers = 4", variables);
    write("");
    file.apply(&[]).expect_code(0);
    let deployed = Deployed::of(App::detached(&file.name("app")));
    for ms in DEATHS_MS {
        write(&format!(", DIE_MS = '{ms}'"));
        let output = file.apply(&[]);
        deployed.assert_refused(&output, &format!("{ms} ms"));
    }
    deployed.end();
}

/// The canary itself lives: it has what the others do not find.
#[test]
fn it_is_not_promoted() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let deployed = Deployed::of(App::run(&FOUR, &["/bin/sh", "-c", &format!("exec {}", server(""))]));
    for ms in DEATHS_MS {
        let script = format!(
            "[ $REUSE_WORKER_ID = 4 ] && exec {}; exec {}",
            server(""),
            dies_after(ms)
        );
        deployed.app.canary("5%", &shell(&script)).expect_code(0);
        let output = deployed.app.ctl(&["promote"]);
        deployed.assert_refused(&output, &format!("{ms} ms"));
        assert!(output.stderr.contains("the canary stays"), "{}", output.stderr);
        deployed.app.ctl(&["abort"]).expect_code(0);
    }
    // The canaries' connections are counted with their slot, which is gone.
    deployed.load.stop().assert_nothing_failed();
    deployed.app.stop();
}

/// Where nobody else serves it is published at once, so this is without clients: some would meet it.
#[test]
fn it_is_no_canary_and_nobody_is_scaled_up_with_it() {
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&server(""));
    let app = App::run(&["--workers", "2"], &[launcher.command()]);
    let pids = app.status().pids();
    for ms in [50, 900] {
        launcher.deploy(&dies_after(ms));
        let canary = format!("exec {}", dies_after(ms));
        for output in [app.canary("5%", &shell(&canary)), app.ctl(&["scale", "+2"])] {
            let said = output.expect_code(1).text();
            assert_says(
                &said,
                &[
                    "exited with code 1",
                    "after it was ready",
                    "there are 2 workers, as before",
                    CULPRIT_SAID,
                ],
            );
            app.wait_status("the rest is gone", SOON, |status| status.workers.len() == 2);
            assert_eq!(app.status().pids(), pids, "{ms} ms");
        }
    }
    launcher.deploy(&server(""));
    app.ctl(&["scale", "+1"]).expect_code(0);
    app.stop();
}

/// It was tried out, and dies when its version goes to the others.
#[test]
fn a_promotion_stops_if_the_canary_dies_meanwhile() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "4", "--surge", "1"],
        &shell(&format!("exec {}", server(""))),
    );
    let script = format!(
        "[ $REUSE_WORKER_ID = 4 ] && exec {}; exec {}",
        dies_after(4_000),
        server("")
    );
    app.canary("5%", &shell(&script)).expect_code(0);
    // The canary lives for three seconds more; four workers, one after the other, settle for a second each.
    let output = app.ctl(&["promote"]).expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "the canary, worker 4, exited with code 1",
            "all run the old version",
            CULPRIT_SAID,
        ],
    );
    let status = app.status();
    assert!(
        status.states()[..4].iter().all(|state| *state == "active"),
        "{status:#?}"
    );
    app.ctl(&["abort"]).expect_code(0);
    app.stop();
}

#[test]
fn workers_are_not_recycled_into_it() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&server(""));
    let app = App::run(&[&FOUR[..], &["--max-age", "4s"]].concat(), &[launcher.command()]);
    launcher.deploy(&dies_after(300));
    let events = Events::of(&app);
    let deployed = Deployed::of(app);
    let warning = &events.wait_for("warning", 1, LIMIT)[0];
    assert!(
        warning.message.contains("--max-age") && warning.message.contains("after it was ready"),
        "{warning:?}"
    );
    deployed.assert_untouched("the one that was to be replaced");
    deployed.end();
}

/// Whether each worker runs the version that does not work, and is active.
fn runs_bad(app: &App) -> Vec<Option<bool>> {
    let workers = app.status().workers;
    let of = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        Some(environment.windows(7).any(|part| part == b"DIE_MS="))
    };
    let active = workers
        .iter()
        .map(|worker| worker.pid.filter(|_| worker.state == "active"));
    active.map(|pid| of(pid?)).collect()
}

/// Worker 0 dies when some have been replaced and some not: with a settle time of half a second, which it has lived through.
const LATE: [&str; 6] = ["--workers", "8", "--surge", "1", "--settle", "500ms"];

#[test]
fn a_reload_stops_when_the_first_dies_while_later_ones_are_replaced() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&server(""));
    let app = App::run(&LATE, &[launcher.command()]);
    let before = app.status().pids();
    launcher.deploy(&server("DIE_MS=5000 BOOT_MS=700"));
    let output = app.ctl(&["reload"]).expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "worker 0 exited with code 1",
            "after it was ready",
            CULPRIT_SAID,
            " of 8: 1",
        ],
    );
    let after = app.status();
    assert!(
        after.pids()[6..] == before[6..],
        "the last ones were not reached: {after:#?}"
    );
    app.stop();
}

/// Their clients wait for long answers, so none of them has been told to stop.
#[test]
fn a_reload_goes_back_to_old_processes_that_still_have_work() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let launcher = Launcher::new(&commands::python_slow(&["slow=9000"]).join(" "));
    let options = [
        "--workers",
        "2",
        "--policy",
        "round-robin",
        "--surge",
        "1",
        "--settle",
        "500ms",
    ];
    let app = App::run(&options, &[launcher.command()]);
    let before = app.status().pids();
    let mut clients: Vec<_> = (0..2)
        .map(|_| Connection::open(SERVER, None).expect("connect"))
        .collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("send");
    }
    app.wait_status("each has a client", SOON, |status| {
        status.workers.iter().all(|worker| worker.accepted_total == 1)
    });
    launcher.deploy(&server("HOST=127.0.0.1 DIE_MS=2000 BOOT_MS=1500"));
    let output = app.ctl(&["reload"]).expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "exited with code 1",
            "after it was ready",
            "worker 0 is served by the old process again",
            CULPRIT_SAID,
        ],
    );
    let after = app.status();
    assert_eq!(
        (after.pids(), after.states()),
        (before.clone(), vec!["active", "active"])
    );
    let answered: BTreeSet<_> = clients
        .iter_mut()
        .map(|client| client.read_answer().expect("an answer").pid)
        .collect();
    assert_eq!(answered, before.into_iter().collect());
    app.stop();
}

#[test]
fn an_apply_goes_back_when_the_first_dies_while_later_ones_are_replaced() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let file = Site::new();
    let write = |variables: &str| write(&file, "workers = 8\nsurge = 1\nsettle = '500ms'", variables);
    write("");
    file.apply(&[]).expect_code(0);
    let app = App::detached(&file.name("app"));
    let before = app.status().pids();
    write(", DIE_MS = '5000', BOOT_MS = '700'");
    let output = file.apply(&[]).expect_code(1);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_says(
        &said,
        &[
            "exited with code 1",
            "after it was ready",
            "had it and were brought back",
            CULPRIT_SAID,
        ],
    );
    let after = app.status();
    assert!(after.all_active(8), "{after:#?}");
    assert_eq!(runs_bad(&app), [Some(false); 8]);
    assert_eq!(after.pids()[7], before[7], "it was not reached");
    app.stop();
}

#[test]
fn a_promotion_goes_back_when_the_first_dies_while_later_ones_are_replaced() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&LATE, &shell(&format!("exec {}", server(""))));
    let script = format!(
        "[ $REUSE_WORKER_ID = 8 ] && exec {}; exec {}",
        server("CANARY=1"),
        server("DIE_MS=5000 BOOT_MS=700")
    );
    app.canary("5%", &shell(&script)).expect_code(0);
    let output = app.ctl(&["promote"]).expect_code(1);
    assert_says(
        &output.stderr,
        &[
            "exited with code 1",
            "after it was ready",
            "were brought back",
            "the canary stays",
            CULPRIT_SAID,
        ],
    );
    assert_eq!(runs_bad(&app), [Some(false); 9]);
    app.ctl(&["abort"]).expect_code(0);
    assert_eq!(runs_bad(&app), [Some(false); 8]);
    app.stop();
}

#[test]
fn many_workers_that_boot_slowly_are_replaced_a_quarter_at_a_time() {
    const WORKERS: u32 = 96;
    const BOOT: Duration = Duration::from_secs(2);
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let command = commands::rust(&["--boot-delay-ms", &BOOT.as_millis().to_string()]);
    let app = App::run(&["--workers", &WORKERS.to_string()], &command);
    let before = app.status().pids();
    let load = Load::start_with_pause(SERVER, 16, Mode::NewConnections, LIMIT, PAUSE);
    load.wait_for(200, SOON);
    let output = app.ctl(&["reload"]).expect_code(0);
    println!("96 workers that boot for 2 s: reloaded in {:?}", output.took);
    assert!(output.took < WORKERS * BOOT / 4, "{:?}", output.took);
    load.stop().assert_nothing_failed();
    let after = app.status().pids();
    assert!(after.iter().all(|pid| !before.contains(pid)));
    app.stop();
}

/// `--surge 100%` needs room for all of them twice.
#[test]
fn all_can_be_replaced_at_the_same_time_or_none_after_the_other() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    for (surge, settle, at_once) in [("100%", "1s", 4), ("1", "0s", 1)] {
        let launch = Launch::new(&["--workers", "4", "--surge", surge, "--settle", settle]);
        let app = launch.run(&commands::rust(&["--boot-delay-ms", "400"]));
        let reload = app.ctl_start(&["reload"]);
        app.wait_status("so many start", SOON, |status| {
            let instances = status.workers.iter().flat_map(|worker| &worker.instances);
            let starting = instances.filter(|instance| instance.state == "starting").count();
            assert!(starting <= at_once, "{starting} of {surge}");
            starting == at_once
        });
        reload.join().expect_code(0);
        app.stop();
    }
}
