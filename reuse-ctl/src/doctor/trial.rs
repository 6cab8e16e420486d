//! Makes a few connections to two steered listeners, to see whether the programs choose, count, move and report them.

use std::{
    collections::HashSet,
    io::Write as _,
    net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use reuse_common::{
    Policy,
    client::ClientMask,
    ids::{Row, SlotId},
    notice::NoticeKind,
    seats::Seat,
    verdict::{Verdict, VerdictCounts},
};
use socket2::{SockRef, Socket};

use super::{
    Check,
    feature::{Feature, IN_FLIGHT, MIGRATE, NOTICES, SELECT, TRACK},
    scratch::ScratchCgroup,
};
use crate::{
    bpf::{AppOptions, AppPrograms, BpfError, GroupProgram, Notices},
    group::discover,
};

/// Timeout of anything on loopback.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The two listeners' rows in the load table.
const FIRST: Row = Row(1);
const SECOND: Row = Row(2);

/// What a check saw, or why it failed.
pub(super) type Seen = Result<String, String>;

/// The programs of an app with one group.
pub(super) struct Programs {
    app: AppPrograms,
    group: GroupProgram,
    notices: Notices,
}

impl Programs {
    pub(super) fn load(cgroup: &ScratchCgroup, backstop: &Socket, port: u16) -> Result<Self, BpfError> {
        let folder = cgroup.app().open().map_err(|source| BpfError::Pins {
            path: cgroup.app().path().to_owned(),
            source,
        })?;
        let options = AppOptions {
            policy: Policy::RoundRobin,
            client_mask: ClientMask::new(32, 64),
            client_ttl_s: 60,
            client_capacity: 1024,
            ports: vec![port],
            cgroup_level: cgroup.worker().level(),
            verbose: false,
        };
        let (mut app, notices) = AppPrograms::load(&cgroup.pins(), &folder, &options)?;
        app.register(FIRST, SlotId(0), cgroup.worker())?;
        app.register(SECOND, SlotId(1), cgroup.other())?;
        let mut group = GroupProgram::load(&app, false)?;
        group.attach(backstop.as_fd())?;
        group.set_member(Row::BACKSTOP, 0, backstop.as_fd())?;
        Ok(Self { app, group, notices })
    }
}

/// Two members of a steered group.
pub(super) struct Trial {
    programs: Programs,
    addr: SocketAddr,
    listeners: [TcpListener; 2],
}

impl Trial {
    pub(super) fn new(programs: Programs, addr: SocketAddrV4, listeners: [OwnedFd; 2]) -> Self {
        Self {
            programs,
            addr: addr.into(),
            listeners: listeners.map(TcpListener::from),
        }
    }

    pub(super) async fn run(mut self) -> [Check; 5] {
        if let Err(error) = self.join() {
            let why = format!("a listener can't be a member: {error}");
            return [
                SELECT.tried(Err(why.clone())),
                TRACK.untried(&why),
                IN_FLIGHT.untried(&why),
                MIGRATE.untried(&why),
                NOTICES.untried(&why),
            ];
        }
        let (select, track, in_flight) = self.choose_and_count().await;
        let migrate = self.migrate().await;
        let notices = self.notices_arrive().await;
        [
            SELECT.tried(select),
            track,
            in_flight,
            MIGRATE.tried(migrate),
            NOTICES.tried(notices),
        ]
    }

    fn join(&mut self) -> Result<(), String> {
        for (listener, row) in self.listeners.iter().zip([FIRST, SECOND]) {
            let cookie = discover::cookie_of(listener.as_fd()).map_err(|error| error.to_string())?;
            let programs = &mut self.programs;
            programs
                .group
                .set_member(row, 0, listener.as_fd())
                .and_then(|()| programs.app.steered(listener, cookie, row))
                .map_err(|error| error.to_string())?;
            // A failing check must not wait for ever.
            listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Makes two connections in turn, one to each listener. They must be counted while they are open, and no more when they are closed.
    async fn choose_and_count(&mut self) -> (Seen, Check, Check) {
        let connections = match self.choose().await {
            Ok(connections) => connections,
            Err(why) => {
                let untried = |feature: &Feature| feature.untried("no connection was steered");
                return (Err(why), untried(&TRACK), untried(&IN_FLIGHT));
            }
        };
        let in_flight = IN_FLIGHT.tried(self.see_in_flight(&connections).await);
        (
            Ok("the program chose, and each listener got its connection".into()),
            TRACK.tried(self.count(connections).await),
            in_flight,
        )
    }

    /// One of two connections sends data that nobody reads.
    async fn see_in_flight(&mut self, connections: &[TcpStream]) -> Seen {
        let Some(mut busy) = connections.first() else {
            return Err("there is no connection".into());
        };
        busy.write_all(b"?").map_err(|error| format!("send: {error}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let listed = self.programs.app.connections().map_err(|error| error.to_string())?;
            let in_flight = listed.iter().filter(|one| one.flow.is_in_flight()).count();
            match (listed.len(), in_flight) {
                (2, 1) => return Ok("a request is seen from outside, and a connection without one".into()),
                (all, busy) if Instant::now() >= deadline => {
                    return Err(format!("of 2 connections with 1 request, {all} and {busy} are seen"));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn choose(&mut self) -> Result<Vec<TcpStream>, String> {
        self.publish(&[FIRST, SECOND])?;
        let before = self.verdicts()?;
        let connections = [self.connect()?, self.connect()?];
        until("each listener has one connection in its queue", || {
            self.queue(0) == 1 && self.queue(1) == 1
        })
        .await?;
        let chosen = self.verdicts()?.get(Verdict::Chosen) - before.get(Verdict::Chosen);
        if chosen != 2 {
            return Err(format!("2 connections, but the program chose {chosen} times"));
        }
        Ok(connections.into())
    }

    async fn count(&self, connections: Vec<TcpStream>) -> Seen {
        let app = &self.programs.app;
        let both = |wanted: u32| {
            [FIRST, SECOND]
                .iter()
                .all(|&row| app.load_of(row).established() == wanted)
        };
        until("the connections are counted", || both(1)).await?;
        drop(connections);
        for listener in &self.listeners {
            drop(listener.accept().map_err(|error| format!("accept: {error}"))?);
        }
        until("the connections are counted no more", || both(0)).await?;
        Ok("connections are counted, and no more when they close".into())
    }

    /// A connection in the queue of a closing listener must be accepted on the other one.
    async fn migrate(&mut self) -> Seen {
        self.publish(&[FIRST])?;
        let client = self.connect()?;
        until("a connection waits on the first listener", || self.queue(0) == 1).await?;
        let before = self.verdicts()?;
        self.publish(&[SECOND])?;
        // For the kernel this is the same as closing it, and it needs no action of its process.
        SockRef::from(&self.listeners[0])
            .shutdown(std::net::Shutdown::Read)
            .map_err(|error| format!("shutdown: {error}"))?;
        until("it waits on the second listener", || self.queue(1) == 1).await?;
        let (_, peer) = self.listeners[1].accept().map_err(|error| format!("accept: {error}"))?;
        let ours = client.local_addr().map_err(|error| error.to_string())?;
        let moved = self.verdicts()?.get(Verdict::Migrated) - before.get(Verdict::Migrated);
        if peer != ours || moved != 1 {
            return Err(format!("the program moved {moved} connections, not 1"));
        }
        Ok("a queued connection outlived its listener".into())
    }

    /// Checks the notices about the two listeners: both were bound, both listen, and the first has closed.
    async fn notices_arrive(&mut self) -> Seen {
        let mut missing = HashSet::new();
        for listener in &self.listeners {
            let cookie = discover::cookie_of(listener.as_fd()).map_err(|error| error.to_string())?;
            missing.extend([(cookie, NoticeKind::Bind as u32), (cookie, NoticeKind::Listen as u32)]);
        }
        let deadline = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.programs.notices.next()).await {
                Ok(Ok(notices)) => {
                    for notice in notices {
                        missing.remove(&(notice.cookie, notice.kind));
                    }
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("{} of 4 notices did not come", missing.len())),
            }
        }
        Ok("a bind and a listen were told at once".into())
    }

    fn connect(&self) -> Result<TcpStream, String> {
        TcpStream::connect_timeout(&self.addr, PATIENCE)
            .map_err(|error| format!("connecting to {}: {error}", self.addr))
    }

    fn publish(&mut self, rows: &[Row]) -> Result<(), String> {
        let seats: Vec<Seat> = rows.iter().map(|&row| Seat::new(SlotId(row.0 - 1), row, 1)).collect();
        self.programs.group.publish(&seats).map_err(|error| error.to_string())
    }

    fn queue(&self, listener: usize) -> u32 {
        discover::listener_queue(self.listeners[listener].as_fd()).unwrap_or(0)
    }

    fn verdicts(&self) -> Result<VerdictCounts, String> {
        self.programs.group.verdicts().map_err(|error| error.to_string())
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() >= deadline {
            return Err(format!("waited {} s in vain until {what}", PATIENCE.as_secs()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
