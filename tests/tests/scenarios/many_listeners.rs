//! Servers that open a listener for each of their threads or processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::http::get;
use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::reconcile;
use reuse_tests::status::{LeftOut, Status};
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, commands, wait};

const PATIENCE: Duration = Duration::from_secs(20);

fn signal(status: &Status, worker: u16, signal: Signal) {
    let pid = status.worker(worker).pid.expect("it runs");
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("signalled");
}

fn left_out(status: &Status, worker: u16) -> Vec<LeftOut> {
    let instances = status.worker(worker).instances.iter();
    instances.flat_map(|instance| instance.left_out.clone()).collect()
}

/// The workers and threads that answer so many requests.
fn who_answers(requests: usize) -> BTreeMap<u16, BTreeSet<String>> {
    let mut threads: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..requests {
        let answer = get(SERVER, None).expect("an answer");
        let slot = answer.slot.expect("the server names its slot");
        threads.entry(slot).or_default().insert(answer.body);
    }
    threads
}

#[test]
fn forty_in_each_worker_are_served_evenly_and_replaced_without_a_loss() {
    let _namespace = Namespace::enter();
    let options = ["--workers", "4", "--policy", "round-robin", "--settle", "0s"];
    let app = App::run(&options, &commands::many_listeners(40));
    let threads = who_answers(800);
    assert_eq!(threads.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (worker, threads) in &threads {
        // 200 connections over 40 listeners: one that gets none would be a listener that is not chosen.
        assert!(
            threads.len() >= 38,
            "worker {worker}: only {} threads answered",
            threads.len()
        );
    }
    let status = reconcile(&app, 800);
    for worker in &status.workers {
        assert_eq!(worker.selected_total, 200, "worker {}", worker.id);
    }

    // A withdrawn worker gets nothing, by none of its listeners.
    app.ctl(&["drain", "2"]).expect_code(0);
    assert_eq!(who_answers(100).keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
    app.ctl(&["undrain", "2"]).expect_code(0);

    // Each opens as many again, and then closes the first ones. (Not under load: the kernel resets a handshake that completes in the very
    // microseconds in which its listener is closed, and here are 160 of them.)
    for worker in 0..4 {
        signal(&status, worker, Signal::SIGHUP);
    }
    let number = |body: &String| {
        body.split(' ')
            .next_back()
            .and_then(|thread| thread.trim().parse::<u32>().ok())
    };
    wait::until("only new listeners answer", PATIENCE, || {
        let threads = who_answers(100);
        threads
            .values()
            .flatten()
            .all(|body| number(body).expect("a thread") >= 40)
    });
    let threads = who_answers(800);
    for (worker, threads) in &threads {
        assert!(
            threads.len() >= 38,
            "worker {worker}: only {} new threads answered",
            threads.len()
        );
    }

    let load = Load::start(SERVER, 4, Mode::NewConnections, PATIENCE);
    load.wait_for(200, PATIENCE);
    app.ctl(&["reload"]).expect_code(0);
    load.wait_for(load.finished() + 400, PATIENCE);
    load.stop().assert_nothing_failed();
    let after = app.status();
    assert!(
        after.workers.iter().all(|worker| worker.restarts == 1),
        "by the reload only"
    );
    assert_eq!(after.workers.iter().map(|worker| worker.cut_total).sum::<u64>(), 0);
    assert_eq!(after.fallbacks, 0);
    app.stop();
}

#[test]
fn what_is_beyond_the_limit_is_reported_and_nobody_is_killed() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::many_listeners(140));
    let status = app.wait_status("the rest is reported", PATIENCE, |status| {
        (0..2).all(|worker| {
            left_out(status, worker)
                .iter()
                .map(|left_out| left_out.listeners)
                .sum::<u32>()
                == 12
        })
    });
    for worker in 0..2 {
        let left_out = left_out(&status, worker);
        assert_eq!((left_out.len(), &*left_out[0].addr), (1, "127.0.0.1:8080"));
        assert!(
            left_out[0]
                .reason
                .ends_with("at most 128 listeners of a worker are steered"),
            "{left_out:?}"
        );
    }
    assert_eq!(who_answers(200).len(), 2);
    let table = app.ctl(&["status"]).expect_code(0).stdout;
    assert!(
        table.contains("worker 0: 12 listeners on 127.0.0.1:8080 get no connection: "),
        "{table}"
    );
    assert!(
        app.output()
            .contains("worker 0 has a listener on 127.0.0.1:8080 that gets no connection: "),
        "{}",
        app.output()
    );

    // There is room for them when others close.
    let load = Load::start(SERVER, 4, Mode::NewConnections, PATIENCE);
    signal(&status, 0, Signal::SIGUSR1);
    app.wait_status("those that are left get connections", PATIENCE, |status| {
        left_out(status, 0).is_empty()
    });
    load.wait_for(load.finished() + 400, PATIENCE);
    load.stop().assert_nothing_failed();
    let after = app.status();
    assert!(after.workers.iter().all(|worker| worker.restarts == 0), "{after:?}");
    app.stop();
}

#[test]
fn a_listener_on_another_apps_address_is_reported_and_nobody_is_killed() {
    let _namespace = Namespace::enter();
    let first = Launch::new(&["--workers", "2"]).run(&commands::rust(&[]));
    // Its own address is another; then it opens one on the first app's, too.
    let own = PORT + 1;
    let script = format!(
        "import socket,time,os\n\
         a=socket.create_server(('127.0.0.1',{own}))\n\
         b=socket.socket()\n\
         b.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)\n\
         b.bind(('127.0.0.1',{PORT}))\n\
         b.listen()\n\
         while True:\n\
         \x20c,_=a.accept()\n\
         \x20c.recv(999)\n\
         \x20c.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 2\\r\\n\\r\\nok')\n\
         \x20c.close()\n"
    );
    let command = [reuse_tests::binaries::python(), "-c".to_owned(), script];
    let second = Launch::new(&["--workers", "1"]).run(&command);
    let reported = second.wait_status("it is reported", PATIENCE, |status| !left_out(status, 0).is_empty());
    assert!(
        left_out(&reported, 0)[0]
            .reason
            .contains(&format!("it is served by the app {},", first.name()))
    );
    for _ in 0..100 {
        assert!(get(SERVER, None).expect("an answer").slot.is_some(), "of the first app");
    }
    assert_eq!(second.status().worker(0).restarts, 0);
    // The first app leaves: the address is the second one's now.
    first.stop();
    wait::until("the listener gets connections", PATIENCE, || {
        left_out(&second.status(), 0).is_empty()
    });
    second.stop();
}
