//! What is shown in a virtual machine: limits of workers, and the oldest kernel that the product is tried on.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use reuse_tests::http::get_path;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::{App, Launch, Namespace, SERVER, commands, leftovers, wait};

/// Everything is some ten times slower here.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bound of a load that lasts as long as a reload.
const LOADED: Duration = Duration::from_secs(180);

/// How long a worker is kept busy.
const BUSY: Duration = Duration::from_secs(3);

/// Runs the one of this name; false if there is none.
pub(crate) fn run(name: &str) -> bool {
    match name {
        "set" => limits_are_set(),
        "memory" => beyond_the_memory_limit(),
        "processor" => a_share_of_the_processor(),
        "missing" => missing_controllers(),
        "steering" => steering(),
        _ => return false,
    }
    true
}

fn limits_are_set() {
    let _namespace = Namespace::enter();
    let limits = ["--workers", "2", "--memory-limit", "200M", "--cpu-limit", "0.5"];
    let app = App::run(&limits, &commands::rust(&[]));
    let before = cgroups(&app);
    assert_eq!(before.len(), 2, "{before:?}");
    let assert_limited = |cgroup: &PathBuf| {
        let read = |file| read_in(cgroup, file);
        assert_eq!(read("memory.max"), (200 << 20).to_string());
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_ne!(read("cgroup.procs"), "", "the worker is in it");
    };
    before.iter().for_each(assert_limited);
    // Those that come later, too.
    app.ctl(&["reload"]).expect_code(0);
    app.ctl(&["scale", "3"]).expect_code(0);
    let after = cgroups(&app);
    assert_eq!(after.len(), 3, "{after:?}");
    assert!(after.iter().all(|cgroup| !before.contains(cgroup)), "{after:?}");
    after.iter().for_each(assert_limited);
    app.stop();

    let app = App::run(&["--workers", "1"], &commands::rust(&[]));
    let worker = &cgroups(&app)[0];
    for file in ["memory.max", "cpu.max"] {
        let value = fs::read_to_string(worker.join(file)).unwrap_or_default();
        assert!(
            value.is_empty() || value.starts_with("max"),
            "nobody asked for {file}: {value}"
        );
    }
    app.stop();
}

fn beyond_the_memory_limit() {
    let _namespace = Namespace::enter();
    let options = ["--workers", "3", "--policy", "round-robin", "--memory-limit", "64M"];
    let app = App::run(&options, &commands::rust(&[]));
    let before = app.status();
    let load = Load::start_with_pause(SERVER, 4, Mode::NewConnections, LOADED, Duration::from_millis(50));
    load.wait_for(60, PATIENCE);
    // It answers nothing any more. Which worker it is, is the policy's choice.
    drop(get_path(SERVER, "/eat"));
    let after = app.wait_status("the worker that ate is replaced", PATIENCE, |status| {
        status.all_active(3) && status.workers.iter().any(|worker| worker.restarts == 1)
    });
    load.wait_for(60, PATIENCE);
    let report = load.stop();
    let restarted: Vec<usize> = (0..3)
        .filter(|&slot| before.pids()[slot] != after.pids()[slot])
        .collect();
    assert_eq!(restarted.len(), 1, "{before:#?}\n{after:#?}");
    let events = read_in(&leftovers::cgroup(app.name()), "memory.events");
    assert!(
        events.lines().any(|line| line == "oom_group_kill 1"),
        "one cgroup went beyond its limit: {events}"
    );
    assert!(app.output().contains("beyond --memory-limit"), "{}", app.output());
    // The client that it was just talking to, at most.
    assert!(report.failures() <= 4, "{report:?}");
    println!(
        "guest: worker {} was ended for its memory and replaced; {} requests answered, {} failed",
        restarted[0],
        report.answered,
        report.failures()
    );
    app.stop();
}

fn a_share_of_the_processor() {
    let _namespace = Namespace::enter();
    let unlimited = busy_share(&["--workers", "1"]);
    let limited = busy_share(&["--workers", "1", "--cpu-limit", "0.2"]);
    println!("guest: a busy worker had {unlimited:.3} of a processor without, {limited:.3} with a limit of 0.2");
    assert!(unlimited > 0.5, "it is busy without the limit: {unlimited:.3}");
    assert!((0.1..0.3).contains(&limited), "{limited:.3}");
}

/// The processor time, by the kernel's account, of a worker that is busy, over the time that has passed.
fn busy_share(options: &[&str]) -> f64 {
    let app = App::run(options, &commands::rust(&[]));
    let worker = cgroups(&app).remove(0);
    // Without the memory and cpu controllers, too, each cgroup has this one.
    let used_us = || {
        let stat = read_in(&worker, "cpu.stat");
        let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        used.and_then(|text| text.parse::<u64>().ok()).expect("a number")
    };
    let client = thread::spawn(|| get_path(SERVER, "/burn"));
    let idle = used_us();
    wait::until("the worker is busy", PATIENCE, || used_us() > idle + 20_000);
    let (before, begun) = (used_us(), Instant::now());
    wait::until("it was busy for long enough", PATIENCE, || begun.elapsed() >= BUSY);
    let (after, took) = (used_us(), begun.elapsed());
    app.stop();
    drop(client.join().expect("a client does not panic"));
    #[expect(clippy::cast_precision_loss, reason = "seconds in microseconds")]
    let used_us = (after - before) as f64;
    used_us / 1e6 / took.as_secs_f64()
}

/// The kernel's command line has taken controllers away: `cgroup_disable=memory`, and cpu belongs to cgroup v1.
fn missing_controllers() {
    let _namespace = Namespace::enter();
    for (option, value, controller) in [("--memory-limit", "64M", "memory"), ("--cpu-limit", "0.5", "cpu")] {
        let launch = Launch::new(&[option, value]);
        launch
            .to_end(&commands::rust(&[]), PATIENCE)
            .expect_code(1)
            .expect_complaint(&[
                option,
                &format!("cgroup v2 controller {controller}"),
                "without the limit",
            ]);
        leftovers::assert_nothing_left(launch.app_name());
    }
    let seen = doctor();
    assert!(seen.contains("missing cgroup v2 controllers: memory, cpu"), "{seen}");
    // And nobody who asks for no limit misses them.
    App::run(&["--workers", "2"], &commands::rust(&[])).stop();
}

fn steering() {
    let _namespace = Namespace::enter();
    let seen = doctor();
    print!("{seen}");
    // By load and in turn; by client; and with a seat that has a share of its own: so every way through the programs is taken.
    for options in [
        ["--policy", "least-loaded"],
        ["--policy", "sticky"],
        ["--policy", "round-robin"],
    ] {
        let app = App::run(&[&["--workers", "2"], &options[..]].concat(), &commands::rust(&[]));
        if options[1] == "round-robin" {
            app.ctl(&["weight", "1", "10%"]).expect_code(0);
        }
        let load = Load::start_with_pause(SERVER, 3, Mode::NewConnections, LOADED, Duration::from_millis(50));
        load.wait_for(50, PATIENCE);
        app.ctl(&["reload"]).expect_code(0);
        load.wait_for(50, PATIENCE);
        let report = load.stop();
        report.assert_nothing_failed();
        assert_eq!(report.by_pid.len(), 4, "old and new workers answered: {report:?}");
        reconcile(&app, report.connections);
        assert_all_ended(&app);
        println!(
            "guest: {}: {} requests around a reload, none failed",
            options[1], report.answered
        );
        app.stop();
    }
}

/// What `doctor` says; it must find nothing that is needed missing.
fn doctor() -> String {
    let mut doctor = reuse_tests::app::controller_command();
    let output = reuse_tests::run::to_end(doctor.arg("doctor"), PATIENCE);
    output.expect_code(0).stdout
}

/// The cgroups of an app's instances.
fn cgroups(app: &App) -> Vec<PathBuf> {
    let entries = fs::read_dir(leftovers::cgroup(app.name())).expect("the app's cgroup");
    let paths = entries.map(|entry| entry.expect("readable").path());
    // `<slot>.<instance>`; `lots` is the controller's own.
    let is_instance = |path: &PathBuf| path.is_dir() && path.extension().is_some();
    let mut found: Vec<PathBuf> = paths.filter(is_instance).collect();
    found.sort();
    found
}

fn read_in(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}
