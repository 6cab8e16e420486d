//! The groups that are measured: real listeners, the real programs, no servers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reuse_common::{Policy, client::ClientMask, limits::LOT, seats::Seat, verdict::Verdict};
use reuse_ctl::{
    bpf::{AppOptions, AppPrograms, GroupProgram},
    process::cgroup::AppCgroup,
    supervisor::interface::{InstanceId, SlotId},
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::runtime::{self, Runs};

/// So many connections are open at once: enough for loads to differ, and fewer than any accept queue holds.
const BATCH: usize = 32;

/// How long a connection may take to reach its accept queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is measured.
pub(crate) struct Bed {
    pub(crate) app: AppPrograms,
    /// One per size, under our program.
    pub(crate) steered: Vec<Group>,
    /// One per size, under the program that does nothing.
    pub(crate) empty: Vec<Group>,
    cgroup: AppCgroup,
}

impl Bed {
    /// Groups of these sizes. All groups of our program share one app, as the ports of one server would.
    pub(crate) fn new(sizes: &[u16]) -> anyhow::Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let cgroup = AppCgroup::create(&name)?;
        let options = AppOptions {
            policy: Policy::Hash,
            client_mask: ClientMask::new(32, 64),
            client_ttl_s: 3600,
            client_capacity: 65_536,
            ports: Vec::new(),
            cgroup_level: cgroup.instance_level(),
            verbose: false,
        };
        let pins = Path::new("/sys/fs/bpf/reuse-ctl").join(&name);
        let (mut app, _notices) = AppPrograms::load(&pins, &cgroup.open()?, &options)?;
        let most = sizes.iter().copied().max().context("no size")?;
        for index in 1..=most {
            // No cgroup is looked up: listeners are stamped by hand.
            app.register(index, index - 1, u64::MAX - u64::from(index))?;
        }
        // `track` sees the sockets of its cgroup, and a connection is in its listener's.
        let inside = Inside::enter(&cgroup)?;
        let mut bed = Self {
            app,
            steered: Vec::new(),
            empty: Vec::new(),
            cgroup,
        };
        for &size in sizes {
            let group = Group::steered(&mut bed.app, size)?;
            bed.steered.push(group);
            bed.empty.push(Group::empty(size)?);
        }
        inside.leave()?;
        Ok(bed)
    }

    /// Leaves nothing behind.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Self {
            app,
            steered,
            empty,
            cgroup,
        } = self;
        drop((steered, empty, app));
        cgroup.remove().context("remove the bench's cgroup")
    }
}

/// One group of listeners, all of them ours.
pub(crate) struct Group {
    pub(crate) runs: Runs,
    address: SocketAddr,
    listeners: Vec<TcpListener>,
    program: Program,
}

#[expect(clippy::large_enum_variant, reason = "there are six of them")]
enum Program {
    Steered(GroupProgram),
    Empty { _fd: OwnedFd },
}

impl Group {
    fn steered(app: &mut AppPrograms, size: u16) -> anyhow::Result<Self> {
        let before = runtime::selection_programs()?;
        let mut program = GroupProgram::load(app, false)?;
        let loaded: Vec<i32> = runtime::selection_programs()?.difference(&before).copied().collect();
        let [fd] = loaded[..] else {
            anyhow::bail!("loading one program opened descriptors {loaded:?}");
        };
        let (address, listeners) = listeners(size)?;
        for (index, listener) in (LOT..).zip(&listeners) {
            app.stamp(listener, SockRef::from(listener).cookie()?, index)?;
            program.set_member(index, 0, listener.as_fd())?;
        }
        program.attach(listeners[0].as_fd())?;
        let seats: Vec<Seat> = (1..=size).map(|index| Seat::new(index - 1, index, 1)).collect();
        program.publish(&seats)?;
        Ok(Self {
            runs: Runs::of(fd),
            address,
            listeners,
            program: Program::Steered(program),
        })
    }

    fn empty(size: u16) -> anyhow::Result<Self> {
        let program = runtime::load_empty()?;
        let (address, listeners) = listeners(size)?;
        runtime::attach(listeners[0].as_fd(), &program)?;
        Ok(Self {
            runs: Runs::of(program.as_raw_fd()),
            address,
            listeners,
            program: Program::Empty { _fd: program },
        })
    }

    /// One connection from each of these clients, accepted and closed. Ended by reset: nothing waits in TIME_WAIT.
    pub(crate) fn connect(&self, clients: Vec<Ipv4Addr>) -> anyhow::Result<()> {
        for batch in clients.chunks(BATCH) {
            let open = batch
                .iter()
                .map(|&client| open(client, self.address))
                .collect::<anyhow::Result<Vec<Socket>>>()?;
            let accepted = self.accept(open.len())?;
            drop((open, accepted));
        }
        Ok(())
    }

    /// How often our program has chosen a worker; `None` for the empty one.
    pub(crate) fn chosen(&self) -> anyhow::Result<Option<u64>> {
        match &self.program {
            Program::Steered(program) => Ok(Some(program.verdicts()?.get(Verdict::Chosen))),
            Program::Empty { .. } => Ok(None),
        }
    }

    fn accept(&self, count: usize) -> anyhow::Result<Vec<Socket>> {
        let mut accepted = Vec::with_capacity(count);
        let deadline = Instant::now() + PATIENCE;
        // Over loopback a connection is in its queue when connect returns, unless the kernel had put the work off.
        while accepted.len() < count {
            ensure!(
                Instant::now() < deadline,
                "{} of {count} connections arrived",
                accepted.len()
            );
            for listener in &self.listeners {
                while let Ok((stream, _)) = listener.accept() {
                    accepted.push(stream.into());
                }
            }
        }
        Ok(accepted)
    }
}

/// The lot and `size` workers.
fn listeners(size: u16) -> anyhow::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listeners = Vec::new();
    for _ in 0..=size {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("socket")?;
        socket.set_reuse_port(true).context("SO_REUSEPORT")?;
        socket.bind(&address.into()).context("bind")?;
        socket.listen(1024).context("listen")?;
        socket.set_nonblocking(true).context("O_NONBLOCK")?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr().context("getsockname")?;
        listeners.push(listener);
    }
    Ok((address, listeners))
}

fn open(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("socket")?;
    socket.set_linger(Some(Duration::ZERO)).context("SO_LINGER")?;
    socket.bind(&SocketAddr::from((from, 0)).into()).context("bind")?;
    socket
        .connect(&to.into())
        .with_context(|| format!("connect from {from} to {to}"))?;
    Ok(socket)
}

/// This process is in an instance's cgroup.
struct Inside {
    before: PathBuf,
}

impl Inside {
    fn enter(cgroup: &AppCgroup) -> anyhow::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let path = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("this process is in no cgroup of version 2")?;
        let instance = cgroup.instance(SlotId(0), InstanceId(0))?;
        join(instance.path())?;
        Ok(Self {
            before: cgroup.hierarchy().mount().join(path),
        })
    }

    fn leave(self) -> anyhow::Result<()> {
        join(&self.before)
    }
}

fn join(cgroup: &Path) -> anyhow::Result<()> {
    let path = cgroup.join("cgroup.procs");
    fs::write(&path, "0").with_context(|| format!("write {}", path.display()))
}

/// A fresh network namespace has its loopback device down.
pub(crate) fn loopback_up() -> anyhow::Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("run ip")?;
    ensure!(status.success(), "ip link set lo up: {status}");
    Ok(())
}
