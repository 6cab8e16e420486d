//! Moving what is queued on a worker that does not accept, through duplicates of its listeners, behind its back.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU32, Ordering},
};

use reuse_common::{
    Policy,
    client::ClientMask,
    ids::Row,
    notice::{Notice, NoticeKind},
};
use reuse_ctl::{
    base::{InstanceId, SlotId},
    bpf::{AppOptions, Notices},
    group::{
        Appeared, Choosable, Groups, GroupsOptions,
        diag::{Diag, Family},
        discover::{AcceptQueue, accept_queue, cookie_of},
    },
    process::{cgroup::AppCgroup, socket::tcp_socket_in},
};
use socket2::Domain;

use crate::rig::{PATIENCE, Removed, Rig, accept_all, connect, reset, until};

const ADDR: &str = "127.0.0.1:8080";
const BACKLOG: u32 = 77;
const HEAD: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nfirst";
const TAIL: &[u8] = b"later";

/// The controller's groups, with listeners of this very process as those of its workers.
struct App {
    groups: Groups,
    notices: Notices,
    diag: Diag,
    /// By slot; the row of each is what `groups` gave.
    workers: Vec<(Row, TcpListener)>,
    addr: SocketAddr,
    cgroup: Removed,
    /// For its network.
    _rig: Rig,
}

impl App {
    fn new(workers: u16) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let rig = Rig::new(Policy::LeastLoaded);
        let name = format!(
            "rescue-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let pins = format!("/sys/fs/bpf/reuse-ctl/{name}");
        let cgroup = Removed(AppCgroup::create(&name).expect("root and cgroup v2"));
        let options = GroupsOptions {
            alone: false,
            cgroup: cgroup.0.clone(),
            programs: AppOptions {
                policy: Policy::LeastLoaded,
                client_mask: ClientMask::new(32, 64),
                client_ttl_s: 60,
                client_capacity: 16,
                ports: vec![],
                cgroup_level: cgroup.0.instance_level(),
                verbose: false,
            },
            uid: 0,
            refuse_when_empty: false,
            listen: vec![],
        };
        let (groups, notices) = Groups::open(pins.as_ref(), cgroup.0.open().expect("open"), &options)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut app = Self {
            groups,
            notices,
            diag: Diag::new().expect("inet_diag"),
            workers: Vec::new(),
            addr: ADDR.parse().expect("an address"),
            cgroup,
            _rig: rig,
        };
        // This process binds in no worker's cgroup, so the bind hook does not make the port a service: the first member does.
        app.add_worker(workers);
        app.workers.clear();
        for slot in 0..workers {
            app.add_worker(slot);
        }
        app
    }

    fn add_worker(&mut self, slot: u16) {
        let cgroup = self
            .cgroup
            .0
            .instance(SlotId(slot), InstanceId(slot.into()))
            .expect("made");
        let row = self.groups.register(SlotId(slot), &cgroup).expect("a row");
        let folder = File::open(cgroup.path()).expect("open");
        let socket = tcp_socket_in(&folder, 0, Domain::for_address(self.addr)).expect("socket");
        socket.set_reuse_port(true).expect("set");
        socket.set_reuse_address(true).expect("set");
        socket.set_nonblocking(true).expect("set");
        socket.bind(&self.addr.into()).expect("bound");
        socket.listen(i32::try_from(BACKLOG).expect("small")).expect("listens");
        let listener = TcpListener::from(socket);
        let cookie = cookie_of(listener.as_fd()).expect("a cookie");
        let appeared = self.groups.appeared(row, &[std::process::id()], cookie);
        assert_eq!(appeared.expect("a member"), Appeared::Member(self.addr));
        self.workers.push((row, listener));
    }

    fn publish(&mut self, slots: &[u16]) {
        let choosable = slots.iter().map(|&slot| Choosable {
            slot: SlotId(slot),
            row: self.row(slot),
            share: None,
        });
        self.groups.publish(choosable.collect()).expect("published");
    }

    fn row(&self, slot: u16) -> Row {
        self.workers[usize::from(slot)].0
    }

    fn listener(&self, slot: u16) -> &TcpListener {
        &self.workers[usize::from(slot)].1
    }

    fn cookie(&self, slot: u16) -> u64 {
        cookie_of(self.listener(slot).as_fd()).expect("a cookie")
    }

    fn rescue(&mut self, slot: u16) -> u64 {
        let row = self.row(slot);
        self.groups
            .rescue(row, &[std::process::id()])
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Connections that wait on the worker, each with the first half of a request.
    fn queue_on(&mut self, slot: u16, connections: u32) -> Vec<TcpStream> {
        self.publish(&[slot]);
        let clients: Vec<TcpStream> = (0..connections)
            .map(|_| {
                let mut client = connect(self.addr);
                client.set_read_timeout(Some(PATIENCE)).expect("set");
                client.write_all(HEAD).expect("sent");
                client
            })
            .collect();
        until("all wait on it", || self.queue(slot) == connections);
        clients
    }

    fn queue(&mut self, slot: u16) -> u32 {
        let row = self.row(slot);
        self.groups.queues(&mut self.diag).expect("a dump")[&row]
    }

    /// How many connections the worker has accepted, by its totals and its queue.
    fn accepted(&mut self, slot: u16) -> u64 {
        let load = self.groups.load_of(self.row(slot));
        load.established_total() + load.migrated_in_total() - load.migrated_out_total() - u64::from(self.queue(slot))
    }

    fn established(&self, slot: u16) -> u32 {
        self.groups.load_of(self.row(slot)).established()
    }

    fn migrated_out(&self, slot: u16) -> u64 {
        self.groups.load_of(self.row(slot)).migrated_out_total()
    }

    async fn notices_of(&mut self, cookie: u64, count: usize) -> Vec<NoticeKind> {
        let mut kinds = Vec::new();
        while kinds.len() < count {
            let next = tokio::time::timeout(PATIENCE, self.notices.next()).await;
            let its = |notice: &&Notice| notice.cookie == cookie;
            let told = next.expect("in time").expect("readable");
            kinds.extend(
                told.iter()
                    .filter(its)
                    .filter_map(|notice| NoticeKind::from_number(notice.kind)),
            );
        }
        kinds
    }
}

/// What poll() says of a socket now.
fn events_of(socket: &TcpListener) -> libc::c_short {
    let mut asked = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, and no time to wait.
    let code = unsafe { libc::poll(&raw mut asked, 1, 0) };
    assert!(code >= 0);
    asked.revents
}

#[tokio::test]
async fn queued_requests_are_finished_by_others_and_the_worker_goes_on_unaware() {
    let mut app = App::new(2);
    let mut clients = app.queue_on(0, 12);
    let before = accept_queue(app.listener(0).as_fd()).expect("listens");
    assert_eq!(
        before,
        AcceptQueue {
            length: 12,
            backlog: BACKLOG
        }
    );
    app.publish(&[1]);
    assert_eq!(app.rescue(0), 12);
    assert_eq!((app.queue(0), app.queue(1)), (0, 12));
    assert_eq!(app.migrated_out(0), 12);

    // The worker sees a listener that listens, as before, and nothing to accept.
    let after = accept_queue(app.listener(0).as_fd()).expect("listens");
    assert_eq!(
        after,
        AcceptQueue {
            length: 0,
            backlog: BACKLOG
        }
    );
    assert_eq!(events_of(app.listener(0)), 0);
    assert_eq!(accept_all(app.listener(0)).len(), 0);

    // Each request is there, whole, for the other.
    let mut accepted = accept_all(app.listener(1));
    assert_eq!(accepted.len(), 12);
    for client in &mut clients {
        client.write_all(TAIL).expect("still connected");
    }
    for stream in &mut accepted {
        stream.set_nonblocking(false).expect("set");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut request = vec![0; HEAD.len() + TAIL.len()];
        stream.read_exact(&mut request).expect("all of it");
        assert_eq!(request, [HEAD, TAIL].concat());
        stream.write_all(b"done").expect("still connected");
    }
    for client in &mut clients {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"done");
    }

    // It takes part again as soon as it is published.
    app.publish(&[0]);
    let again: Vec<TcpStream> = (0..3).map(|_| connect(app.addr)).collect();
    until("they wait on it", || app.queue(0) == 3);
    assert_eq!(events_of(app.listener(0)), libc::POLLIN);
    assert_eq!(accept_all(app.listener(0)).len(), again.len());
}

/// The kernel tells of both steps; whoever hears it can see that the listener is there.
#[tokio::test]
async fn the_notices_of_a_rescue_can_be_told_from_a_real_end() {
    let mut app = App::new(2);
    let cookie = app.cookie(0);
    assert_eq!(app.groups.was_reopened(cookie), None);
    let clients = app.queue_on(0, 1);
    app.publish(&[1]);
    assert_eq!(app.rescue(0), 1);
    assert_eq!(
        app.notices_of(cookie, 3).await,
        [NoticeKind::Listen, NoticeKind::Close, NoticeKind::Listen]
    );
    assert_eq!(app.groups.was_reopened(cookie), Some(app.addr));
    let listed = |app: &mut App| -> BTreeSet<u64> {
        let queues = app.diag.queues(Family::V4, app.addr.port()).expect("a dump");
        queues.iter().map(|queue| queue.cookie).collect()
    };
    assert!(listed(&mut app).contains(&cookie));

    // The notice that it listens makes it a member once more, in the same place.
    let appeared = app.groups.appeared(app.row(0), &[std::process::id()], cookie);
    assert_eq!(appeared.expect("still a member"), Appeared::Member(app.addr));
    app.publish(&[0]);
    let again = connect(app.addr);
    until("it waits on it", || app.queue(0) == 1);

    let (_, listener) = app.workers.remove(0);
    drop(listener);
    assert_eq!(app.notices_of(cookie, 1).await, [NoticeKind::Close]);
    assert!(!listed(&mut app).contains(&cookie));
    drop((clients, again));
}

/// It stays in the queue until it is accepted, and moves with the others: a worker that accepts nothing must not seem to accept it.
#[tokio::test]
async fn a_connection_that_its_client_reset_moves_and_the_totals_stay_right() {
    let mut app = App::new(3);
    let mut clients = app.queue_on(0, 4);
    let gone = clients.pop().expect("four");
    reset(&gone);
    drop(gone);
    until("its end is counted", || app.established(0) == 3);
    assert_eq!((app.queue(0), app.accepted(0)), (4, 0));

    for (from, to) in [(0, 1), (1, 2)] {
        app.publish(&[to]);
        assert_eq!(app.rescue(from), 4);
        assert_eq!((app.queue(from), app.queue(to)), (0, 4));
        assert_eq!((app.accepted(from), app.accepted(to)), (0, 0));
        assert_eq!((app.established(from), app.established(to)), (0, 3));
    }
    assert_eq!(accept_all(app.listener(2)).len(), 4);
    assert_eq!(app.accepted(2), 4);
    drop(clients);
    until("nothing is left in the sums", || app.established(2) == 0);
    assert_eq!((app.established(0), app.established(1)), (0, 0));
}

#[tokio::test]
async fn an_empty_queue_is_left_alone() {
    let mut app = App::new(2);
    app.publish(&[1]);
    assert_eq!(app.rescue(0), 0);
    assert_eq!(app.groups.was_reopened(app.cookie(0)), None);
}

/// They would wait in the backstop instead, and longer.
#[tokio::test]
async fn nothing_is_moved_where_nobody_else_is_published() {
    let mut app = App::new(2);
    let clients = app.queue_on(0, 3);
    assert_eq!((app.rescue(0), app.queue(0)), (0, 3));
    app.publish(&[]);
    assert_eq!((app.rescue(0), app.queue(0)), (0, 3));
    drop(clients);
}

/// What comes while it is not published goes to others, what comes afterwards does not move again.
#[tokio::test]
async fn it_can_be_rescued_again_and_again() {
    let mut app = App::new(3);
    for round in 1..=5 {
        let clients = app.queue_on(0, 4);
        app.publish(&[1, 2]);
        assert_eq!(app.rescue(0), 4);
        assert_eq!(app.migrated_out(0), 4 * round);
        let accepted: usize = [1, 2].iter().map(|&slot| accept_all(app.listener(slot)).len()).sum();
        assert_eq!(accepted, 4, "round {round}");
        drop(clients);
    }
}
