//! What the kernel tells of established connections, and what it counts as cut.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reuse_common::{Policy, cuts::Cuts, in_flight::Connection};

use crate::rig::{Group, Rig, accept_all, reset, row, until};

/// One worker's connections, in the order in which they were made is not known.
fn listed(rig: &mut Rig) -> Vec<Connection> {
    rig.app.connections().unwrap_or_else(|error| panic!("{error}"))
}

fn in_flight(rig: &mut Rig) -> usize {
    listed(rig).iter().filter(|one| one.flow.is_in_flight()).count()
}

/// A connection of the only worker: the client's end and the server's.
fn established(group: &Group) -> (TcpStream, TcpStream) {
    let client = group.connect();
    let mut server = None;
    until("it is accepted", || {
        server = server.take().or_else(|| accept_all(&group.workers[&0]).pop());
        server.is_some()
    });
    let server = server.expect("accepted");
    server.set_nonblocking(false).expect("set");
    (client, server)
}

fn ask(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"a question").expect("sent");
    let mut question = [0; 10];
    server.read_exact(&mut question).expect("read");
}

fn answer(client: &mut TcpStream, server: &mut TcpStream) {
    server.write_all(b"an answer").expect("sent");
    let mut answer = [0; 9];
    client.read_exact(&mut answer).expect("read");
}

fn one_worker(addr: &str) -> (Rig, Group) {
    let mut rig = Rig::new(Policy::LeastLoaded);
    let mut group = rig.group(addr, 1);
    group.publish([0]);
    (rig, group)
}

#[tokio::test]
async fn a_request_is_in_flight_from_its_first_byte_to_its_answer() {
    for addr in ["127.0.0.1:8080", "[::]:8080"] {
        let (mut rig, group) = one_worker(addr);
        let (mut client, mut server) = established(&group);
        assert_eq!(in_flight(&mut rig), 0, "a fresh connection");
        client.write_all(b"a question").expect("sent");
        assert_eq!(in_flight(&mut rig), 1, "unread");
        server.read_exact(&mut [0; 10]).expect("read");
        assert_eq!(in_flight(&mut rig), 1, "worked on");
        answer(&mut client, &mut server);
        assert_eq!(in_flight(&mut rig), 0, "answered");
        assert_eq!(listed(&mut rig).len(), 1);
    }
}

/// Faster than the tick of the kernel's clock, so that only the sequence numbers tell.
#[tokio::test]
async fn a_request_right_behind_an_answer_is_seen() {
    let (mut rig, group) = one_worker("127.0.0.1:8080");
    for fast in 0..200 {
        let (mut client, mut server) = established(&group);
        for _ in 0..fast % 5 {
            ask(&mut client, &mut server);
            answer(&mut client, &mut server);
        }
        let idle = listed(&mut rig);
        assert!(
            idle.iter().all(|one| !one.flow.is_in_flight()),
            "after {} answers: {idle:?}",
            fast % 5
        );
        ask(&mut client, &mut server);
        assert_eq!(in_flight(&mut rig), 1, "after {} answers", fast % 5);
        let deadline = Instant::now() + Duration::from_millis(2);
        while Instant::now() < deadline {
            assert_eq!(in_flight(&mut rig), 1);
        }
        drop((client, server));
        // Another test may start a program in this moment: until that runs, it has all descriptors of this process.
        until("the connection has ended", || listed(&mut rig).is_empty());
    }
}

#[tokio::test]
async fn what_the_client_does_not_take_is_in_flight() {
    let (mut rig, group) = one_worker("127.0.0.1:8080");
    let (mut client, mut server) = established(&group);
    ask(&mut client, &mut server);
    server.set_nonblocking(true).expect("set");
    let part = vec![0; 1 << 20];
    let mut written = 0;
    while let Ok(more) = server.write(&part) {
        written += more;
    }
    let connection = listed(&mut rig)[0];
    assert!(
        connection.flow.is_in_flight() && connection.flow.is_full == 1,
        "{connection:?}"
    );
    let mut taken = vec![0; written];
    client.read_exact(&mut taken).expect("read");
    until("all is sent", || in_flight(&mut rig) == 0);
}

#[tokio::test]
async fn whose_a_connection_is_stands_with_it() {
    let mut rig = Rig::new(Policy::RoundRobin);
    let mut group = rig.group("127.0.0.1:8080", 2);
    group.publish([0, 1]);
    let clients: Vec<_> = (0..6).map(|_| group.connect()).collect();
    until("all are counted", || rig.each(|load| load.established()) == [3, 3]);
    let mut cgroups: Vec<u64> = listed(&mut rig).iter().map(|one| one.cgroup).collect();
    cgroups.sort_unstable();
    cgroups.dedup();
    assert_eq!((cgroups.len(), listed(&mut rig).len()), (2, 6));

    // One that moves stays in its cgroup; where it went is known by its cookie.
    group.close(0);
    until("they have moved", || rig.load_of(1).established() == 6);
    let moved = listed(&mut rig)
        .into_iter()
        .filter(|one| rig.app.moved_to(one.cookie) == Some(row(1)));
    assert_eq!(moved.count(), 3);
    drop(clients);
}

#[tokio::test]
async fn only_what_a_process_ends_with_a_request_in_flight_is_cut() {
    let (rig, group) = one_worker("127.0.0.1:8080");
    let end = |prepare: &dyn Fn(&mut TcpStream, &mut TcpStream), client_first: bool| {
        let (mut client, mut server) = established(&group);
        prepare(&mut client, &mut server);
        if client_first {
            drop(client);
            until("the end is seen", || {
                rig.load_of(0).established() == 0 || server.peek(&mut [0]).is_ok_and(|n| n == 0)
            });
            drop(server);
        } else {
            drop(server);
            drop(client);
        }
        until("it has ended", || rig.load_of(0).established() == 0);
    };
    let cuts = || {
        let Cuts { in_flight, open, .. } = rig.app.cuts_of(row(0));
        (in_flight, open)
    };
    end(&|client, server| ask(client, server), false);
    assert_eq!(cuts(), (0, 0), "nobody asked");

    rig.app.count_cuts(row(0), Cuts::IN_FLIGHT);
    end(&|client, server| ask(client, server), false);
    assert_eq!(cuts(), (1, 0), "worked on");
    end(&|client, _| client.write_all(b"unread").expect("sent"), false);
    assert_eq!(cuts(), (2, 0), "unread");
    let answered = |client: &mut TcpStream, server: &mut TcpStream| {
        ask(client, server);
        answer(client, server);
    };
    end(&answered, false);
    end(&|_, _| {}, false);
    end(&|client, server| ask(client, server), true);
    end(
        &|client, server| {
            ask(client, server);
            reset(client);
        },
        true,
    );
    end(
        &|client, server| {
            ask(client, server);
            client.shutdown(Shutdown::Both).expect("shut");
        },
        true,
    );
    assert_eq!(cuts(), (2, 0), "answered, unused, or given up by the client");

    rig.app.count_cuts(row(0), Cuts::EVERYTHING);
    end(&answered, false);
    end(&|client, server| ask(client, server), false);
    assert_eq!(cuts(), (3, 1));
}

/// Whether a poll says that something can be read.
fn is_readable(server: &TcpStream) -> bool {
    let mut polled = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).expect("poll") > 0
}

#[tokio::test]
async fn a_further_request_is_held_back_and_the_one_before_goes_on() {
    let (mut rig, group) = one_worker("127.0.0.1:8080");
    let (mut idle, idle_server) = established(&group);
    let (mut busy, mut busy_server) = established(&group);
    busy.write_all(b"half a ").expect("sent");
    until("it has come", || is_readable(&busy_server));

    rig.app.hold(row(0), Cuts::HOLD);
    let held = listed(&mut rig).iter().filter(|one| one.is_held == 1).count();
    assert_eq!(held, 1, "only the one on which nothing is in flight");
    idle.write_all(b"a question").expect("sent");
    busy.write_all(b"question").expect("sent");
    let mut question = [0; 15];
    busy_server.read_exact(&mut question).expect("all of it");
    until("both have come", || in_flight(&mut rig) == 2);
    assert!(!is_readable(&idle_server), "the process is not told");

    answer(&mut busy, &mut busy_server);
    until("both are held", || listed(&mut rig).iter().all(|one| one.is_held == 1));
    rig.app.hold(row(0), Cuts::RELEASE);
    assert!(listed(&mut rig).iter().all(|one| one.is_held == 0));
    assert!(is_readable(&idle_server), "the process is told");
    rig.app.hold(row(0), Cuts::LEAVE);
}

/// A client that goes away is told of all the same.
#[tokio::test]
async fn the_end_of_a_connection_that_is_held_is_seen() {
    let (mut rig, group) = one_worker("127.0.0.1:8080");
    let (client, server) = established(&group);
    rig.app.hold(row(0), Cuts::HOLD);
    assert_eq!(listed(&mut rig)[0].is_held, 1);
    drop(client);
    until("the end is seen", || is_readable(&server));
}
