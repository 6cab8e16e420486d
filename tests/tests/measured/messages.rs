//! What it costs when a worker talks all the time.

use std::fs;
use std::time::{Duration, Instant};

use reuse_tests::bus::Bus;
use reuse_tests::{App, Namespace, commands, wait};
use serde_json::{Value, json};

/// For what takes milliseconds.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn who_talks_all_the_time_costs_half_a_processor_and_little_memory() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "4"], &commands::all_messages(&[]));
    let (before_ticks, before_kb) = (cpu_ticks(app.pid()), resident_kb(app.pid()));
    send(&app, "3", &json!({"do": "flood"}));
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    let bus = Bus::of(&app);
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        app.status();
        send(
            &app,
            "0",
            &json!({"do": "say", "message": {"type": "process:msg", "id": 2, "data": rounds}}),
        );
        rounds += 1;
        // A listener that is too slow for the flood misses packets, and is told so: this one may be among them.
        wait::until("the answer is on the bus", SOON, || {
            bus.named("heard").len() >= rounds || !bus.named("missed").is_empty()
        });
        slowest = slowest.max(asked.elapsed());
    }
    let seconds = started.elapsed().as_secs_f64();
    let used = (cpu_ticks(app.pid()) - before_ticks) as f64 / 100.0 / seconds;
    let grown_kb = resident_kb(app.pid()).saturating_sub(before_kb);
    println!("flood: {used:.2} of a core, {grown_kb} KiB more, the slowest of {rounds} rounds {slowest:?}");
    assert!(!bus.named("noise").is_empty(), "it floods");
    assert!(used < 1.0, "{used} of a core");
    assert!(grown_kb < 150 * 1024, "{grown_kb} KiB");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    drop(bus);
    // Without a listener only the reading is left.
    let (before, started) = (cpu_ticks(app.pid()), Instant::now());
    wait::poll(Duration::from_secs(3), || None::<()>);
    let used = (cpu_ticks(app.pid()) - before) as f64 / 100.0 / started.elapsed().as_secs_f64();
    println!("without a listener: {used:.2} of a core");
    assert!(used < 0.75, "{used}");
    app.stop();
}

fn send(app: &App, to: &str, message: &Value) {
    app.ctl(&["send", to, &message.to_string()]).expect_code(0);
}

/// Of a hundredth of a second each.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("a name in brackets")
        .split(' ')
        .collect();
    [fields[11], fields[12]]
        .iter()
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

fn resident_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
