//! Workers that block again and again, and workers that are slow by nature.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use reuse_tests::events::Events;
use reuse_tests::fault::Stopped;
use reuse_tests::heavy::Heavy;
use reuse_tests::http::get_path;
use reuse_tests::open_loop::{OpenLoop, Run};
use reuse_tests::reconcile::reconcile;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Namespace, SERVER, commands, kernel};

const FOUR: [&str; 4] = ["--workers", "4", "--policy", "round-robin"];

/// How a worker is made to block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// By a request for `/block?ms=N`.
    Request,
    /// By stopping it, or its only child process.
    Stop,
}

/// Blocks one worker after the other for 60 to 200 ms, until 50 queues were rescued: again and again the worker goes on, and looks at
/// its listener, about when it is taken from it.
#[track_caller]
fn blocks_again_and_again(command: &[String], block: Block) {
    const RESCUES: u32 = 50;
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&FOUR, command);
    let before = app.status();
    let children: Vec<_> = (0..4).map(|slot| kernel::children(before.pid_of(slot))).collect();
    let clients = OpenLoop::start(SERVER, 300);
    clients.run_for(Duration::from_secs(1));
    let begun = Instant::now();
    let (mut rescues, mut moved, mut blocks) = (0, 0, 0_u64);
    while rescues < RESCUES {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{rescues} rescues in {blocks} blocks; {:#?}",
            app.status()
        );
        // 37 and 141 have no common divisor: every length comes up.
        let length = 60 + blocks * 37 % 141;
        match block {
            Block::Request => {
                get_path(SERVER, &format!("/block?ms={length}")).expect("an answer, late");
            }
            Block::Stop => {
                let slot = usize::try_from(blocks % 4).expect("below four");
                let main = before.pid_of(u16::try_from(slot).expect("below four"));
                let stopped = Stopped::new(children[slot].first().copied().unwrap_or(main));
                clients.run_for(Duration::from_millis(length));
                stopped.resume();
            }
        }
        blocks += 1;
        let now = app.status().verdicts().migrated;
        rescues += u32::from(now > moved);
        moved = now;
    }
    app.wait_status("all are published again", Duration::from_secs(3), |status| {
        status.all_active(4) && status.published().len() == 4 && status.faulty().is_empty()
    });
    let end = clients.now();
    clients.run_for(Duration::from_secs(1));
    let run = clients.stop();
    println!("{rescues} rescues in {blocks} blocks, {moved} connections moved");
    run.assert_nothing_failed();
    let after = app.status();
    assert_eq!(after.pids(), before.pids(), "the same processes");
    for (slot, children) in (0..4).zip(&children) {
        assert_eq!(&kernel::children(after.pid_of(slot)), children, "and the same children");
    }
    let last: BTreeSet<_> = run
        .between(end, Duration::MAX)
        .iter()
        .filter_map(|sample| sample.result.as_ref().ok()?.pid)
        .collect();
    assert_eq!(last.len(), 4, "all of them serve: {last:?}");
    let logs = app.ctl(&["logs", "-n", "1000"]).expect_code(0).stdout;
    assert!(
        !logs.contains("Invalid argument"),
        "they did not see their listener closed:\n{logs}"
    );
    let asked = if block == Block::Request { blocks } else { 0 };
    reconcile(&app, run.connections() + asked);
    app.stop();
}

#[test]
fn node_blocks_again_and_again() {
    blocks_again_and_again(&commands::node_faults(&[]), Block::Request);
}

#[test]
fn bun_blocks_again_and_again() {
    blocks_again_and_again(&commands::bun_faults(), Block::Request);
}

#[test]
fn asyncio_blocks_again_and_again() {
    blocks_again_and_again(&commands::python_asyncio(&[]), Block::Request);
}

#[test]
fn nginx_blocks_again_and_again() {
    let folder = Scratch::new();
    blocks_again_and_again(&commands::nginx_one(folder.path()), Block::Stop);
}

/// It would never serve again, had it seen its listener closed once.
#[test]
fn tokio_blocks_again_and_again() {
    blocks_again_and_again(&commands::tokio(), Block::Stop);
}

/// A loop of half a second, once a second, in one of four: each time the others take over within 100 ms, and it is back within 50.
#[test]
fn a_loop_once_a_second_keeps_nobody_waiting() {
    const NOTICED_MS: u64 = 100;
    const BACK_MS: u64 = 50;
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let log = folder.path().join("loops");
    let app = App::run(
        &FOUR,
        &commands::node_faults(&["loop=500", &format!("log={}", log.display())]),
    );
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 200);
    clients.run_for(Duration::from_secs(15));
    let run = clients.stop();
    run.assert_nothing_failed();
    let recovered: Vec<_> = events
        .named("recovered")
        .iter()
        .filter(|event| event.worker == Some(0))
        .map(|event| event.at_ms)
        .collect();
    // The first ones may come before the worker has shown what it can do.
    let loops: Vec<_> = loops(&fs::read_to_string(&log).expect("the worker's log"))
        .into_iter()
        .filter(|(from, until)| *from > run.started_ms + 2_000 && *until + 1_000 < run.started_ms + 15_000)
        .collect();
    assert!(loops.len() >= 8, "{loops:?}");
    let mut back = Vec::new();
    for (from, until) in &loops {
        assert_nobody_waited(&run, from + NOTICED_MS, *until);
        let at = recovered.iter().find(|at| (*until..until + 500).contains(*at));
        back.push(at.map(|at| at - until));
    }
    println!("back after so many ms: {back:?}");
    assert!(
        back.iter().all(|ms| ms.is_some_and(|ms| ms <= BACK_MS)),
        "published again after so many ms: {back:?}; loops: {loops:?}; recovered at: {recovered:?}"
    );
    assert!(
        events.named("hung").iter().all(|event| event.worker == Some(0)),
        "nobody else is blamed: {:?}",
        events.named("hung")
    );
    reconcile(&app, run.connections());
    app.stop();
}

/// `FROM UNTIL`, one loop a line.
fn loops(log: &str) -> Vec<(u64, u64)> {
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).expect("a number");
    log.lines()
        .map(|line| {
            let mut words = line.split(' ');
            (number(words.next()), number(words.next()))
        })
        .collect()
}

#[track_caller]
fn assert_nobody_waited(run: &Run, from_ms: u64, until_ms: u64) {
    let slow: Vec<_> = run
        .between_ms(from_ms, until_ms)
        .into_iter()
        .filter(|sample| sample.took > Duration::from_millis(100))
        .collect();
    assert!(slow.is_empty(), "from {from_ms} until {until_ms}: {slow:#?}");
}

/// Every request takes 300 ms, one at a time, and twice as many come as can be served, from the first moment on.
#[track_caller]
fn is_left_alone(command: &[String], time: Duration) {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let app = App::run(&FOUR, command);
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 27);
    while clients.now() < time {
        clients.run_for(Duration::from_millis(50));
        let status = app.status();
        assert!(
            status.faulty().is_empty() && status.published().len() == 4,
            "after {:?}: {status:#?}",
            clients.now()
        );
    }
    let queued: u32 = app.status().workers.iter().map(|worker| worker.connections).sum();
    assert!(queued >= 30, "it is overloaded: {queued} connections are under way");
    // Also while it works off what has piled up.
    let run = clients.stop();
    println!("the slowest took {:?}", run.percentile(100.0));
    run.assert_nothing_failed();
    let status = app.status();
    assert!(status.faulty().is_empty() && status.all_active(4), "{status:#?}");
    assert!(events.named("hung").is_empty(), "{:?}", events.named("hung"));
    reconcile(&app, run.connections());
    app.stop();
}

#[test]
fn a_slow_python_server_is_left_alone() {
    is_left_alone(&commands::python_slow(&["slow=300"]), Duration::from_secs(10));
}

/// Node accepts all that waits, then works on it: its stalls grow with the overload.
#[test]
fn a_slow_node_server_is_left_alone() {
    is_left_alone(&commands::node_faults(&["slow=300"]), Duration::from_secs(10));
}
