//! One group: real sockets under the program, under one that does nothing, or under none.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reuse_common::{
    ids::{Row, SlotId},
    seats::Seat,
    verdict::Verdict,
};
use reuse_ctl::{
    bpf::{AppPrograms, GroupProgram},
    process::socket::tcp_socket_in,
};
use socket2::{Domain, Socket, Type};

use crate::{
    blind, clients,
    runtime::{self, Runs, Used},
};

/// So many connections are open at once: enough for loads to differ, and fewer than any accept queue holds.
const BATCH: usize = 32;

/// How long a connection may take to reach its accept queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// What makes the program run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// TCP: the work of a whole connection lies between two runs.
    Connections,
    /// UDP: as little as possible lies between two runs. Not a product's case yet, but it tells work from waiting for memory.
    Datagrams,
}

impl Traffic {
    pub(crate) const ALL: [Self; 2] = [Self::Connections, Self::Datagrams];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Datagrams => "datagrams",
        }
    }
}

/// Who chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chooser {
    /// Our program.
    Ours,
    /// A program that selects one of four members by a few bits of the hash: what any steering must pay.
    Blind,
    /// A program that does nothing; the kernel's hash chooses, outside of its time.
    Empty,
    /// No program.
    Kernel,
}

impl Chooser {
    /// The programs.
    pub(crate) const PROGRAMS: [Self; 3] = [Self::Ours, Self::Blind, Self::Empty];
}

/// One group of sockets, all of them ours.
pub(crate) struct Group {
    pub(crate) size: u16,
    pub(crate) traffic: Traffic,
    pub(crate) chooser: Chooser,
    address: SocketAddr,
    members: Vec<Socket>,
    runs: Option<Runs>,
    steered: Option<GroupProgram>,
    /// The bench's own program.
    _program: Option<OwnedFd>,
}

impl Group {
    /// Under our program, with every worker published.
    pub(crate) fn steered(
        app: &mut AppPrograms,
        cgroups: &[File],
        size: u16,
        traffic: Traffic,
    ) -> anyhow::Result<Self> {
        let before = runtime::selection_programs()?;
        let mut program = GroupProgram::load(app, false)?;
        let loaded: Vec<i32> = runtime::selection_programs()?.difference(&before).copied().collect();
        let [fd] = loaded[..] else {
            anyhow::bail!("loading one program opened descriptors {loaded:?}");
        };
        let (address, members) = members(app, Some(cgroups), size, traffic)?;
        for (row, member) in (0..).map(Row).zip(&members) {
            program.set_member(row, 0, member.as_fd())?;
        }
        program.attach(members[0].as_fd())?;
        let seats: Vec<Seat> = (1..=size).map(|row| Seat::new(SlotId(row - 1), Row(row), 1)).collect();
        program.publish(&seats)?;
        Ok(Self {
            size,
            traffic,
            chooser: Chooser::Ours,
            address,
            members,
            runs: Some(Runs::of(fd)),
            steered: Some(program),
            _program: None,
        })
    }

    /// Under a program of the bench, or none; in these cgroups, where `track` sees it, or in none of the app's.
    pub(crate) fn compared(
        app: &mut AppPrograms,
        cgroups: Option<&[File]>,
        chooser: Chooser,
        size: u16,
        traffic: Traffic,
    ) -> anyhow::Result<Self> {
        let (address, members) = members(app, cgroups, size, traffic)?;
        let program = match chooser {
            Chooser::Ours | Chooser::Kernel => None,
            Chooser::Empty => Some(runtime::load(&blind::EMPTY)?),
            Chooser::Blind => {
                // The program keeps the array.
                let array = runtime::array_of([1, 2, 3, 4].map(|nth| members[nth].as_fd()))?;
                Some(runtime::load(&blind::select_blindly(array.as_raw_fd()))?)
            }
        };
        if let Some(program) = &program {
            runtime::attach(members[0].as_fd(), program)?;
        }
        Ok(Self {
            size,
            traffic,
            chooser,
            address,
            members,
            runs: program.as_ref().map(|program| Runs::of(program.as_raw_fd())),
            steered: None,
            _program: program,
        })
    }

    /// What the group's program has used so far.
    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        self.runs.as_ref().context("the group has a program")?.read()
    }

    /// One connection, or datagram, from each of these clients.
    pub(crate) fn send(&self, clients: &[Ipv4Addr]) -> anyhow::Result<()> {
        match self.traffic {
            Traffic::Connections => self.connect(clients),
            Traffic::Datagrams => clients::datagrams(clients, self.address),
        }
    }

    /// Every connection is accepted and closed. Ended by reset: nothing waits in TIME_WAIT.
    fn connect(&self, clients: &[Ipv4Addr]) -> anyhow::Result<()> {
        for batch in clients.chunks(BATCH) {
            let open = batch
                .iter()
                .map(|&client| clients::connection(client, self.address))
                .collect::<anyhow::Result<Vec<Socket>>>()?;
            let accepted = self.accept(open.len())?;
            drop((open, accepted));
        }
        Ok(())
    }

    /// How often our program has chosen a worker; `None` for any other.
    pub(crate) fn chosen(&self) -> anyhow::Result<Option<u64>> {
        match &self.steered {
            Some(program) => Ok(Some(program.verdicts()?.get(Verdict::Chosen))),
            None => Ok(None),
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
            for listener in &self.members {
                while let Ok((stream, _)) = listener.accept() {
                    accepted.push(stream);
                }
            }
        }
        Ok(accepted)
    }
}

/// The backstop's and those of `size` workers, by row.
fn members(
    app: &mut AppPrograms,
    cgroups: Option<&[File]>,
    size: u16,
    traffic: Traffic,
) -> anyhow::Result<(SocketAddr, Vec<Socket>)> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut members = Vec::new();
    for row in (0..=size).map(Row) {
        let socket = match (traffic, cgroups) {
            (Traffic::Connections, Some(cgroups)) => tcp_socket_in(&cgroups[row.index()], 0, Domain::IPV4),
            (Traffic::Connections, None) => Socket::new(Domain::IPV4, Type::STREAM, None),
            (Traffic::Datagrams, _) => Socket::new(Domain::IPV4, Type::DGRAM, None),
        };
        let socket = socket.context("socket")?;
        socket.set_reuse_port(true).context("SO_REUSEPORT")?;
        socket.bind(&address.into()).context("bind")?;
        match traffic {
            Traffic::Connections => {
                if cgroups.is_some() {
                    app.steered(&socket, socket.cookie()?, row)?;
                }
                socket.listen(1024).context("listen")?;
            }
            // Nobody reads them: a full buffer drops, after the selection.
            Traffic::Datagrams => socket.set_recv_buffer_size(1).context("SO_RCVBUF")?,
        }
        socket.set_nonblocking(true).context("O_NONBLOCK")?;
        address = socket
            .local_addr()
            .context("getsockname")?
            .as_socket()
            .context("an address")?;
        members.push(socket);
    }
    Ok((address, members))
}
