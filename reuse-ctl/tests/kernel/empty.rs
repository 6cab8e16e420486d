//! Connections while nobody is published.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
};

use reuse_common::{Policy, ids::Row, verdict::Verdict};
use socket2::SockRef;

use crate::rig::{PATIENCE, Rig, accept_all, until};

#[tokio::test]
async fn they_are_refused_on_request() {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let mut group = rig.group_that("127.0.0.1:8080", 1, true);
    let refused = TcpStream::connect_timeout(&group.target(), PATIENCE).expect_err("nobody is published");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(
        (group.verdict(Verdict::Refused), group.verdict(Verdict::Parked)),
        (1, 0)
    );

    group.publish([0]);
    let (slot, stream) = rig.chosen(|| group.connect());
    assert_eq!((slot, group.verdict(Verdict::Chosen)), (0, 1));
    drop((stream, group.accept_all()));
    rig.comes_to_rest();
}

#[tokio::test]
async fn they_are_parked_and_move_to_the_first_worker_that_is_published() {
    let mut rig = Rig::new(Policy::Sticky);
    let mut group = rig.group("127.0.0.1:8080", 2);
    let mut clients: Vec<TcpStream> = (0..5).map(|_| group.connect()).collect();
    clients[4].write_all(b"sent while parked").expect("sent");
    assert_eq!(
        (group.verdict(Verdict::Parked), group.verdict(Verdict::Fallback)),
        (5, 0)
    );
    until("the backstop has them", || {
        rig.app.load_of(Row::BACKSTOP).established() == 5
    });
    assert_eq!(rig.each(|load| load.established_total()), [0, 0]);
    assert_eq!(rig.app.client_count(), 0, "the backstop is no worker to stick to");

    group.publish([1]);
    SockRef::from(&group.backstop)
        .shutdown(Shutdown::Read)
        .expect("listening");
    SockRef::from(&group.backstop).listen(16).expect("again");
    group
        .program
        .set_member(Row::BACKSTOP, 0, group.backstop.as_fd())
        .expect("a member again");
    assert_eq!(group.verdict(Verdict::Migrated), 5);
    let (backstop, worker) = (rig.app.load_of(Row::BACKSTOP), rig.load_of(1));
    assert_eq!((backstop.established(), backstop.migrated_out_total()), (0, 5));
    assert_eq!(
        (
            worker.established(),
            worker.migrated_in_total(),
            worker.established_total()
        ),
        (5, 5, 0)
    );
    assert_eq!(rig.app.client_count(), 1, "now the client has a worker");

    let mut accepted = accept_all(&group.workers[&1]);
    assert_eq!(accepted.len(), 5);
    clients[4].shutdown(Shutdown::Write).expect("open");
    let mut said = String::new();
    let last = accepted
        .iter_mut()
        .find(|stream| stream.peer_addr().ok() == clients[4].local_addr().ok())
        .expect("accepted");
    last.set_nonblocking(false).expect("set");
    last.read_to_string(&mut said).expect("readable");
    assert_eq!(said, "sent while parked");
    drop((clients, accepted));
    rig.comes_to_rest();

    // The backstop parks again.
    group.publish([]);
    let parked = group.connect();
    assert_eq!(group.verdict(Verdict::Parked), 6);
    drop((parked, group.accept_all()));
    rig.comes_to_rest();
}
