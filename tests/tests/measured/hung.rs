//! A worker that hangs keeps nobody waiting, and one that is only slow, or only as slow as all, is left alone.

use std::io::Write as _;
use std::time::Duration;

use reuse_tests::events::Events;
use reuse_tests::fault::Stopped;
use reuse_tests::http::{Connection, connect};
use reuse_tests::open_loop::{OpenLoop, Run};
use reuse_tests::reconcile::reconcile;
use reuse_tests::status::Status;
use reuse_tests::{App, Namespace, PORT, SERVER, commands, kernel, wait};

/// Requests per second.
const RATE: u32 = 200;

/// How long a request may come to a hung worker until it is noticed, and how long any other may take.
const NOTICED: Duration = Duration::from_millis(100);

/// How long the controller may take to see anything, on a busy machine, where the contract names no time.
const SEEN: Duration = Duration::from_secs(3);

/// A connection of the controller's own waits in the queue of a hung worker, to be seen when it accepts again.
const WAKE_PROBE: u32 = 1;

fn is_withdrawn(status: &Status, slot: u16) -> bool {
    let worker = status.worker(slot);
    let hung = worker
        .fault
        .as_ref()
        .is_some_and(|fault| fault.kind == "hung" && fault.withdrawn);
    hung && !worker.published && worker.state == "active"
}

fn all_is_well(status: &Status, count: usize) -> bool {
    status.all_active(count) && status.published().len() == count && status.faulty().is_empty()
}

/// When a worker was stopped and went on, on the clients' clock.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Duration,
    until: Duration,
}

/// Stops a worker for so long; it is withdrawn meanwhile, and comes back by itself.
#[track_caller]
fn stop_for(time: Duration, app: &App, slot: u16, clients: &OpenLoop) -> Span {
    let pid = app.status().pid_of(slot);
    let stopped = Stopped::new(pid);
    let from = clients.now();
    app.wait_status("the stopped worker is withdrawn", SEEN, |status| {
        is_withdrawn(status, slot)
    });
    clients.run_for((from + time).saturating_sub(clients.now()));
    let status = app.status();
    assert!(is_withdrawn(&status, slot), "it stays withdrawn: {status:#?}");
    assert_eq!(status.faulty(), [slot], "and nobody else is blamed: {status:#?}");
    assert!(
        status.worker(slot).queue <= WAKE_PROBE,
        "what was queued on it was moved: {status:#?}"
    );
    let until = clients.now();
    stopped.resume();
    let status = app.wait_status("it is published again", SEEN, |status| {
        all_is_well(status, status.workers.len())
    });
    assert_eq!(status.pid_of(slot), pid, "the same process");
    Span { from, until }
}

/// From a moment after the stop on, requests don't even wait on the worker that is stopped.
#[track_caller]
fn assert_nobody_waited(run: &Run, span: Span) {
    let later = run.between(span.from + NOTICED, span.until);
    assert!(later.len() > 50, "only {} requests", later.len());
    let slow: Vec<_> = later.iter().filter(|sample| sample.took > NOTICED).collect();
    assert!(
        slow.is_empty(),
        "{} of {} waited longer than {NOTICED:?} in {span:?}: {slow:#?}",
        slow.len(),
        later.len()
    );
}

/// Its part of the requests of a whole second.
#[track_caller]
fn assert_takes_its_share(run: &Run, slot: u16, from: Duration) {
    let slots = run.by_slot(from, from + Duration::from_secs(1));
    let share = slots.get(&slot).copied().unwrap_or(0);
    assert!(share > 0, "worker {slot} of {slots:?}");
    assert!(share * 8 >= slots.values().sum(), "worker {slot} of {slots:?}");
}

#[test]
fn one_of_four_is_stopped_for_ten_seconds() {
    let _namespace = Namespace::enter();
    // Round-robin goes on choosing whoever is published, however long its queue.
    let app = App::run(
        &["--workers", "4", "--policy", "round-robin"],
        &commands::node_faults(&[]),
    );
    let spans = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(3)];
    let undisturbed = OpenLoop::start(SERVER, RATE);
    undisturbed.run_for(spans.iter().sum());
    let undisturbed = undisturbed.stop();
    undisturbed.assert_nothing_failed();

    let clients = OpenLoop::start(SERVER, RATE);
    clients.run_for(spans[0]);
    let span = stop_for(spans[1], &app, 1, &clients);
    clients.run_for(spans[2]);
    let run = clients.stop();
    run.assert_nothing_failed();
    assert_nobody_waited(&run, span);
    assert_takes_its_share(&run, 1, span.until + Duration::from_secs(1));
    let (without, with) = (undisturbed.percentile(99.0), run.percentile(99.0));
    println!("p99 {without:?} without a stop, {with:?} with one");
    assert!(with <= without * 3, "p99 {with:?}, without a stop {without:?}");
    reconcile(&app, undisturbed.connections() + run.connections());
    app.stop();
}

#[test]
fn under_every_policy() {
    for policy in ["hash", "least-loaded", "sticky"] {
        let _namespace = Namespace::enter();
        let app = App::run(&["--workers", "4", "--policy", policy], &commands::rust(&[]));
        let clients = OpenLoop::start(SERVER, RATE);
        clients.run_for(Duration::from_secs(1));
        let span = stop_for(Duration::from_secs(3), &app, 2, &clients);
        clients.run_for(Duration::from_secs(1));
        let run = clients.stop();
        run.assert_nothing_failed();
        assert_nobody_waited(&run, span);
        reconcile(&app, run.connections());
        app.stop();
    }
}

#[test]
fn what_is_queued_with_half_a_body_is_answered_by_others() {
    const CLIENTS: u16 = 40;
    const BODY: [u8; 1000] = [b'x'; 1000];
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "4", "--policy", "round-robin", "--rescue-after", "2s"],
        &commands::node_faults(&[]),
    );
    // It has been seen at work: what it does is compared with what it can do.
    let clients = OpenLoop::start(SERVER, RATE);
    clients.run_for(Duration::from_secs(1));
    clients.stop().assert_nothing_failed();
    let pid = app.status().pid_of(1);
    let stopped = Stopped::new(pid);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut stream = connect(SERVER, None).expect("connect");
            let head = format!(
                "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
                BODY.len()
            );
            stream.write_all(head.as_bytes()).expect("send the head");
            stream.write_all(&BODY[..500]).expect("send half of the body");
            Connection::of(stream)
        })
        .collect();
    app.wait_status("the stopped worker is withdrawn", SEEN, |status| {
        is_withdrawn(status, 1)
    });
    let queued = kernel::queued(pid, PORT);
    assert!(queued >= 8, "{queued} of {CLIENTS} are queued on it, and not moved yet");
    wait::until("they are rescued", Duration::from_secs(2) + SEEN, || {
        kernel::queued(pid, PORT) <= WAKE_PROBE
    });
    for (number, mut client) in clients.into_iter().enumerate() {
        client.send(&BODY[500..]).expect("send the other half");
        let answer = client
            .read_answer()
            .unwrap_or_else(|failure| panic!("client {number}: {failure}"));
        assert_ne!(answer.slot, Some(1), "client {number}");
        assert!(answer.body.trim_end().ends_with(" 1000"), "{}", answer.body);
    }
    stopped.resume();
    let status = app.wait_status("it is published again", SEEN, |status| all_is_well(status, 4));
    assert_eq!(status.pid_of(1), pid, "the same process");
    let moved = status.worker(1).migrated_out_total;
    assert!(
        moved >= u64::from(queued - WAKE_PROBE),
        "{moved} of {queued} were moved"
    );
    let clients = OpenLoop::start(SERVER, RATE);
    clients.run_for(Duration::from_secs(2));
    let run = clients.stop();
    run.assert_nothing_failed();
    assert_takes_its_share(&run, 1, Duration::from_secs(1));
    app.stop();
}

/// Nobody knows which of them is sick: moving all of the load to nobody helps nobody.
#[test]
fn when_all_are_hung_all_stay_published() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "4", "--policy", "round-robin"],
        &commands::node_faults(&[]),
    );
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 100);
    clients.run_for(Duration::from_secs(1));
    let before = app.status();
    let stopped: Vec<_> = (0..4).map(|slot| Stopped::new(before.pid_of(slot))).collect();
    let stays_published = |status: &Status| {
        status.published().len() == 4
            && status.workers.iter().all(|worker| {
                worker
                    .fault
                    .as_ref()
                    .is_some_and(|fault| fault.kind == "hung" && !fault.withdrawn)
            })
    };
    app.wait_status(
        "all are hung, and all are published",
        Duration::from_secs(5),
        stays_published,
    );
    clients.run_for(Duration::from_secs(1));
    assert!(stays_published(&app.status()), "and stay so: {:#?}", app.status());
    let shown = app.ctl(&["status"]).expect_code(0).stdout;
    assert!(shown.contains("hung"), "status says so:\n{shown}");
    let blamed: Vec<_> = events.named("hung").iter().filter_map(|event| event.worker).collect();
    assert!((0..4).all(|slot| blamed.contains(&slot)), "events say so: {blamed:?}");
    assert!(
        app.output().lines().any(|line| line.contains("published")),
        "and the log says what is done about it:\n{}",
        app.output()
    );
    drop(stopped);
    let after = app.wait_status("all is well again", SEEN, |status| all_is_well(status, 4));
    assert_eq!(after.pids(), before.pids(), "the same processes");
    clients.run_for(Duration::from_secs(1));
    let run = clients.stop();
    run.assert_nothing_failed();
    reconcile(&app, run.connections());
    app.stop();
}

#[test]
fn a_worker_that_stays_hung_is_replaced_if_that_is_wanted() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &[
            "--workers",
            "4",
            "--policy",
            "round-robin",
            "--replace-hung-after",
            "1s",
            "--stop-timeout",
            "1s",
            "--drain-timeout",
            "1s",
        ],
        &commands::node_faults(&[]),
    );
    let clients = OpenLoop::start(SERVER, 100);
    clients.run_for(Duration::from_secs(1));
    let pid = app.status().pid_of(1);
    let stopped = stop_between_requests(pid);
    let status = app.wait_status("it is replaced", Duration::from_secs(20), |status| {
        all_is_well(status, 4) && status.pid_of(1) != pid
    });
    assert_eq!(status.worker(1).restarts, 1);
    wait::until("nothing is left of it", Duration::from_secs(5), || {
        !kernel::is_alive(pid)
    });
    drop(stopped);
    let back = clients.now();
    clients.run_for(Duration::from_secs(2));
    let run = clients.stop();
    run.assert_nothing_failed();
    assert_takes_its_share(&run, 1, back);
    app.stop();
}

/// Stops a process while it answers nobody: what it has accepted can't be taken from it, and dies with it.
#[track_caller]
fn stop_between_requests(pid: i32) -> Stopped {
    wait::until_some("it is stopped between two requests", Duration::from_secs(20), || {
        let stopped = Stopped::new(pid);
        (kernel::accepted(pid, PORT) == 0).then_some(stopped)
    })
}

#[test]
fn nobody_is_called_hung_if_that_is_not_wanted() {
    let _namespace = Namespace::enter();
    let app = App::run(
        &["--workers", "4", "--policy", "round-robin", "--hung-after", "0s"],
        &commands::node_faults(&[]),
    );
    let events = Events::of(&app);
    let clients = OpenLoop::start(SERVER, 100);
    clients.run_for(Duration::from_secs(1));
    let stopped = Stopped::new(app.status().pid_of(1));
    clients.run_for(Duration::from_secs(2));
    let status = app.status();
    assert!(all_is_well(&status, 4), "{status:#?}");
    assert!(status.worker(1).queue >= 20, "its queue grows: {status:#?}");
    stopped.resume();
    clients.run_for(Duration::from_secs(1));
    let run = clients.stop();
    run.assert_nothing_failed();
    assert!(events.named("hung").is_empty(), "{:?}", events.named("hung"));
    reconcile(&app, run.connections());
    app.stop();
}
