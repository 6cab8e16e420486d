//! Connections that the controller makes to one worker behind a shared port.

use std::{os::fd::AsFd as _, thread};

use reuse_common::{Policy, verdict::Verdict};
use reuse_ctl::group::{DirectedConnection, discover::cookie_of};

use crate::rig::{PATIENCE, Rig, accept_all, row, until};

#[tokio::test]
async fn it_reaches_its_worker_even_one_that_is_not_published_and_nobody_elses_does() {
    let mut rig = Rig::new(Policy::Sticky);
    let mut group = rig.group("127.0.0.1:8080", 3);
    group.publish([0, 1]);
    let connection = DirectedConnection::new(group.addr).expect("a local end");
    let key = connection.key();
    rig.app.direct(key, Some(row(2))).expect("directed");

    // A stranger, from the same address but another port, is steered as ever.
    let (slot, stranger) = rig.chosen(|| group.connect());
    assert!(slot < 2, "worker 2 is not published");
    assert_eq!(rig.app.client_count(), 1);

    let worker = group.workers[&2].try_clone().expect("open");
    let cookie = cookie_of(worker.as_fd()).expect("a cookie");
    let server = thread::spawn(move || {
        let mut accepted = Vec::new();
        until("a connection comes", || {
            accepted.extend(accept_all(&worker));
            !accepted.is_empty()
        });
        accepted
    });
    connection.accepted(cookie, PATIENCE).await.expect("accepted");
    let accepted = server.join().expect("no panic");
    assert_eq!(accepted.len(), 1);
    let load = rig.load_of(2);
    assert_eq!(
        (load.selected_total(), load.directed_total(), load.established_total()),
        (1, 1, 1)
    );
    assert_eq!(
        (group.verdict(Verdict::Directed), group.verdict(Verdict::Chosen)),
        (1, 1)
    );
    assert_eq!(rig.app.client_count(), 1, "a directed connection makes no client stick");

    // When it is over, the port means nothing any more.
    rig.app.direct(key, None).expect("forgotten");
    let (again, strangers) = rig.chosen(|| (0..1).map(|_| group.connect()).collect::<Vec<_>>());
    assert_eq!(again, slot, "sticky");
    assert_eq!(group.verdict(Verdict::Directed), 1);
    drop((stranger, strangers, accepted, group.accept_all()));
    rig.comes_to_rest();
}

/// To a worker that has closed its listener: nobody else may answer for it.
#[tokio::test]
async fn it_is_refused_when_its_worker_is_gone() {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let mut group = rig.group("127.0.0.1:8080", 2);
    group.publish([0]);
    group.close(1);
    let connection = DirectedConnection::new(group.addr).expect("a local end");
    rig.app.direct(connection.key(), Some(row(1))).expect("directed");
    let error = connection.accepted(1, PATIENCE).await.expect_err("its worker is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(
        [Verdict::Directed, Verdict::Chosen, Verdict::Refused, Verdict::Fallback].map(|verdict| group.verdict(verdict)),
        [0, 0, 1, 0]
    );
}
