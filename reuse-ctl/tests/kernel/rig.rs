//! An app's programs, groups with workers, and clients.
//!
//! Every worker has a cgroup in which its listener is made, as those of real workers are: that is how `track` knows whose a connection is.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::Command,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use reuse_common::{
    Policy, Share,
    client::ClientMask,
    ids::{Row, SlotId},
    load::InstanceLoad,
    seats::Seat,
    verdict::{Verdict, VerdictCounts},
};
use reuse_ctl::{
    base::InstanceId,
    bpf::{AppOptions, AppPrograms, GroupProgram, Notices},
    group::discover::cookie_of,
    process::{
        cgroup::{AppCgroup, InstanceCgroup},
        socket::tcp_socket_in,
    },
};
use socket2::{Domain, SockRef, Socket, Type};

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// As many clients as `sticky` remembers in these tests.
pub(crate) const CLIENT_CAPACITY: u32 = 1024;
const BACKLOG: i32 = 1024;

/// A child has copies of all descriptors until it executes its program. A listener that is closed meanwhile, by another test, stays open.
static STARTS: RwLock<()> = RwLock::new(());

/// One app on a network of its own.
pub(crate) struct Rig {
    pub(crate) app: AppPrograms,
    pub(crate) notices: Notices,
    /// The cgroup of each slot's instance.
    slots: BTreeMap<u16, InstanceCgroup>,
    instances: u32,
    backstops: Arc<File>,
    cgroup: Removed,
}

impl Rig {
    /// Must be called in the test's own thread, which changes its network, within a runtime.
    pub(crate) fn new(policy: Policy) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        ip("link set lo up");
        let name = format!(
            "kernel-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let cgroup = Removed(AppCgroup::create(&name).expect("root and cgroup v2"));
        let pins = format!("/sys/fs/bpf/reuse-ctl/{name}");
        let options = AppOptions {
            policy,
            client_mask: ClientMask::new(32, 64),
            client_ttl_s: 60,
            client_capacity: CLIENT_CAPACITY,
            ports: vec![],
            // The bind hook leaves all sockets of these tests alone: this process, which binds them, is in no worker's cgroup.
            cgroup_level: cgroup.0.instance_level(),
            verbose: false,
        };
        let folder = cgroup.0.open().expect("open");
        let (app, notices) =
            AppPrograms::load(pins.as_ref(), &folder, &options).unwrap_or_else(|error| panic!("{error}"));
        Self {
            backstops: app.backstops_cgroup(),
            app,
            notices,
            slots: BTreeMap::new(),
            instances: 0,
            cgroup,
        }
    }

    /// A new group with its backstop, and a worker for each slot from 0 on; nobody is published.
    pub(crate) fn group(&mut self, addr: &str, workers: u16) -> Group {
        self.group_that(addr, workers, false)
    }

    pub(crate) fn group_that(&mut self, addr: &str, workers: u16, refuse_when_empty: bool) -> Group {
        let addr: SocketAddr = addr.parse().expect("an address");
        let mut program = GroupProgram::load(&self.app, refuse_when_empty).unwrap_or_else(|error| panic!("{error}"));
        let backstop = self.listener(addr, &Arc::clone(&self.backstops), Row::BACKSTOP);
        program.attach(backstop.as_fd()).expect("attached");
        program
            .set_member(Row::BACKSTOP, 0, backstop.as_fd())
            .expect("a member");
        let mut group = Group {
            program,
            addr,
            backstop,
            workers: BTreeMap::new(),
        };
        for slot in 0..workers {
            self.add_worker(&mut group, slot);
        }
        group
    }

    /// A worker with a listener in the group; its row is one above its slot.
    pub(crate) fn add_worker(&mut self, group: &mut Group, slot: u16) {
        if !self.slots.contains_key(&slot) {
            self.register(slot, slot);
        }
        let folder = File::open(self.slots[&slot].path()).expect("open");
        let worker = self.listener(group.addr, &folder, row(slot));
        group
            .program
            .set_member(row(slot), 0, worker.as_fd())
            .expect("a member");
        group.workers.insert(slot, worker);
    }

    /// Begins the row of `slot` anew, as that of a new instance of `of`, which has a cgroup of its own.
    pub(crate) fn register(&mut self, slot: u16, of: u16) {
        self.instances += 1;
        let cgroup = self.cgroup.0.instance(SlotId(of), InstanceId(self.instances));
        let cgroup = cgroup.expect("made");
        self.app.register(row(slot), SlotId(of), &cgroup).expect("registered");
        if let Some(before) = self.slots.insert(slot, cgroup) {
            self.app.unregister(before.id()).expect("unregistered");
            before.remove().expect("nobody is in it");
        }
    }

    /// A listener that was made in this cgroup, and is steered.
    fn listener(&mut self, addr: SocketAddr, cgroup: &File, row: Row) -> TcpListener {
        let socket = tcp_socket_in(cgroup, 0, Domain::for_address(addr)).expect("socket");
        if addr.is_ipv6() {
            socket.set_only_v6(false).expect("set");
        }
        socket.set_reuse_port(true).expect("set");
        socket.set_nonblocking(true).expect("set");
        socket.bind(&addr.into()).expect("bound");
        let cookie = cookie_of(socket.as_fd()).expect("a cookie");
        self.app.steered(&socket, cookie, row).expect("steered");
        socket.listen(BACKLOG).expect("listens");
        socket.into()
    }

    pub(crate) fn load_of(&self, slot: u16) -> InstanceLoad {
        self.app.load_of(row(slot))
    }

    /// One number of every slot's row, by slot.
    pub(crate) fn each<T>(&self, number: impl Fn(InstanceLoad) -> T) -> Vec<T> {
        self.slots.keys().map(|&slot| number(self.load_of(slot))).collect()
    }

    /// Makes one connection and says which slot was chosen for it, by the counters.
    pub(crate) fn chosen<T>(&self, connect: impl FnOnce() -> T) -> (u16, T) {
        let before = self.each(|load| load.selected_total());
        let connection = connect();
        let after = self.each(|load| load.selected_total());
        let risen: Vec<(usize, u64)> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .enumerate()
            .filter(|(_, by)| *by > 0)
            .collect();
        let &[(place, 1)] = risen.as_slice() else {
            panic!("one connection, but the counters rose by {risen:?}");
        };
        (u16::try_from(place).expect("few slots"), connection)
    }

    /// Everything has been closed: nothing may be left in the sums.
    pub(crate) fn comes_to_rest(&self) {
        until("all counters of connections are 0", || {
            self.app.load_of(Row::BACKSTOP).established() == 0
                && self.each(|load| load.established()).iter().all(|&n| n == 0)
        });
    }
}

/// The row of a slot's only instance.
pub(crate) const fn row(slot: u16) -> Row {
    Row(slot + 1)
}

/// Listeners on one address, steered.
pub(crate) struct Group {
    pub(crate) program: GroupProgram,
    pub(crate) addr: SocketAddr,
    pub(crate) backstop: TcpListener,
    pub(crate) workers: BTreeMap<u16, TcpListener>,
}

impl Group {
    pub(crate) fn publish(&mut self, slots: impl IntoIterator<Item = u16>) {
        self.publish_shares(slots.into_iter().map(|slot| (slot, None)));
    }

    /// Closes the listener of this worker; it is closed when this returns.
    pub(crate) fn close(&mut self, slot: u16) {
        let _nobody_starts = STARTS.read().unwrap_or_else(PoisonError::into_inner);
        self.workers.remove(&slot).expect("a worker");
    }

    /// Slots with a fixed share, and without.
    pub(crate) fn publish_shares(&mut self, slots: impl IntoIterator<Item = (u16, Option<Share>)>) {
        let seats: Vec<Seat> = slots
            .into_iter()
            .map(|(slot, share)| Seat::new(SlotId(slot), row(slot), 1).with_share(share))
            .collect();
        self.program.publish(&seats).expect("published");
    }

    pub(crate) fn verdicts(&self) -> VerdictCounts {
        self.program.verdicts().expect("readable")
    }

    pub(crate) fn verdict(&self, verdict: Verdict) -> u64 {
        self.verdicts().get(verdict)
    }

    /// Where clients connect to.
    pub(crate) fn target(&self) -> SocketAddr {
        match self.addr.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new("::1".parse().expect("address"), self.addr.port()),
            _ => self.addr,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.target())
    }

    /// From this client address; on a `::` listener by the address family of the client.
    pub(crate) fn connect_from(&self, client: IpAddr) -> TcpStream {
        let ip = match (client, self.target().ip()) {
            (IpAddr::V4(_), IpAddr::V6(_)) => "127.0.0.1".parse().expect("address"),
            (_, target) => target,
        };
        connect_bound(SocketAddr::new(client, 0), SocketAddr::new(ip, self.addr.port()))
    }

    /// Accepts what waits on every worker and the backstop.
    pub(crate) fn accept_all(&self) -> Vec<TcpStream> {
        self.workers
            .values()
            .chain([&self.backstop])
            .flat_map(accept_all)
            .collect()
    }
}

/// Accepts what waits on a listener.
pub(crate) fn accept_all(listener: &TcpListener) -> Vec<TcpStream> {
    std::iter::from_fn(|| match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("accept: {error}"),
    })
    .collect()
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
}

/// From this address and port; the port may have been used a moment ago.
pub(crate) fn connect_bound(from: SocketAddr, addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("socket");
    socket.set_reuse_address(true).expect("set");
    if from.is_ipv6() {
        // The address need not be an interface's: it is enough that it is routed to this machine.
        socket.set_freebind_v6(true).expect("set");
    }
    socket
        .bind(&from.into())
        .unwrap_or_else(|error| panic!("{from}: {error}"));
    socket
        .connect_timeout(&addr.into(), PATIENCE)
        .unwrap_or_else(|error| panic!("from {from} to {addr}: {error}"));
    socket.into()
}

/// Closes with a reset: both ends are gone at once, and the port is free.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("set");
}

/// Waits for what happens elsewhere: on another processor, or in the part of the kernel that handles packets.
#[expect(
    clippy::disallowed_methods,
    reason = "looks again at a condition with a deadline; the runtime has no other task"
)]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Runs `ip` in the network of this thread.
pub(crate) fn ip(args: &str) {
    // It is started when this returns, and has none of our descriptors any more.
    let child = {
        let _nobody_closes = STARTS.write().unwrap_or_else(PoisonError::into_inner);
        Command::new("ip").args(args.split(' ')).spawn()
    };
    let status = child.expect("ip starts").wait().expect("ip ends");
    assert!(status.success(), "ip {args}");
}

/// Removes the cgroup with all that was made below it.
pub(crate) struct Removed(pub(crate) AppCgroup);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove()
            && !std::thread::panicking()
        {
            panic!("{error}");
        }
    }
}
