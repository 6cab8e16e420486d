//! Tries the BPF programs with two listeners of a child process and the controller's own listener beside them.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
};

use socket2::{Domain, SockRef, Socket, Type};

use super::{
    Check,
    feature::{BIND_HOOK, Feature, IN_FLIGHT, INET_DIAG, MIGRATE, NO_MPTCP, NOTICES, PIDFD_GETFD, SELECT, TRACK},
    resident::Resident,
    scratch::{self, ScratchCgroup},
    trial::{PATIENCE, Programs, Seen, Trial},
};
use crate::{
    bpf::BpfError,
    group::{diag::Diag, discover},
    process::cgroup::InstanceCgroup,
};

pub(super) async fn examine() -> Vec<Check> {
    scratch::sweep();
    match Stage::build() {
        Ok((stage, programs)) => stage.examine(programs).await,
        Err(error) => {
            let why = format!("no connection on loopback: {error}");
            let mut checks: Vec<Check> = [PIDFD_GETFD, INET_DIAG, BIND_HOOK, NO_MPTCP]
                .map(|feature| feature.untried(&why))
                .into();
            checks.push(SELECT.tried_with(Err(why.clone()), "ip link set lo up"));
            checks.extend([TRACK, IN_FLIGHT, MIGRATE, NOTICES].map(|feature| feature.untried(&why)));
            checks
        }
    }
}

/// What the checks share. Dropped in the order of the fields: the cgroup must be empty when it is removed.
struct Stage {
    resident: Resident,
    backstop: Socket,
    addr: SocketAddrV4,
    cgroup: Option<ScratchCgroup>,
}

/// Why there are no programs.
struct Refusal {
    /// The feature that failed, if it is one of those checked here.
    culprit: Option<&'static str>,
    why: String,
}

impl Stage {
    /// The backstop comes first, since it holds the port and carries the program; then the child, whose sockets join it.
    fn build() -> io::Result<(Self, Result<Programs, Refusal>)> {
        let (backstop, addr) = open_backstop()?;
        let cgroup = ScratchCgroup::create().ok();
        let programs = match &cgroup {
            Some(cgroup) => Programs::load(cgroup, &backstop, addr.port()).map_err(Refusal::from),
            None => Err(Refusal {
                culprit: None,
                why: "there is no cgroup to attach to".into(),
            }),
        };
        let procs = cgroup.as_ref().map(|cgroup| -> io::Result<[File; 2]> {
            let open = |worker: &InstanceCgroup| File::options().write(true).open(worker.path().join("cgroup.procs"));
            Ok([open(cgroup.worker())?, open(cgroup.other())?])
        });
        let procs = procs.transpose()?;
        let resident = Resident::start(procs.as_ref(), addr)?;
        let stage = Self {
            resident,
            backstop,
            addr,
            cgroup,
        };
        Ok((stage, programs))
    }

    async fn examine(&self, programs: Result<Programs, Refusal>) -> Vec<Check> {
        let listeners = self.resident.duplicate_listeners();
        let mut checks = vec![
            PIDFD_GETFD.tried(match &listeners {
                Ok(_) => Ok("a listener of another process was duplicated".into()),
                Err(error) => Err(error.to_string()),
            }),
            INET_DIAG.tried(self.listeners_are_seen()),
        ];
        let (programs, refusal) = match programs {
            Ok(programs) => (Some(programs), None),
            Err(refusal) => (None, Some(refusal)),
        };
        match (programs, listeners) {
            (Some(programs), Ok(listeners)) => {
                checks.push(BIND_HOOK.tried(self.plain_sockets_share(&listeners)));
                checks.push(NO_MPTCP.tried(self.mptcp_is_refused()));
                checks.extend(Trial::new(programs, self.addr, listeners).run().await);
            }
            _ => checks.extend(PROGRAMS.iter().map(|feature| match &refusal {
                Some(refusal) => refusal.explain(feature),
                None => feature.untried("no listener to steer"),
            })),
        }
        checks
    }

    fn listeners_are_seen(&self) -> Seen {
        let mut diag = Diag::new().map_err(|error| error.to_string())?;
        let found = diag.listeners_on(self.addr.port()).map_err(|error| error.to_string())?;
        let cookie = discover::cookie_of(self.backstop.as_fd()).map_err(|error| error.to_string())?;
        if !found.iter().any(|listener| listener.cookie == cookie) {
            return Err("a listener of this process is not in the kernel's list".into());
        }
        if let Some(cgroup) = &self.cgroup {
            let is_seen = |worker: &InstanceCgroup| found.iter().any(|listener| listener.cgroup == Some(worker.id()));
            if !is_seen(cgroup.worker()) || !is_seen(cgroup.other()) {
                return Err("the kernel does not tell in which cgroup a listener was made".into());
            }
        }
        Ok("listeners are seen, with queue and cgroup".into())
    }

    fn plain_sockets_share(&self, listeners: &[OwnedFd; 2]) -> Seen {
        self.resident
            .plain_binds()
            .map_err(|error| format!("a plain socket can't share a port: {error}"))?;
        for listener in listeners {
            if !SockRef::from(listener)
                .reuse_port()
                .map_err(|error| error.to_string())?
            {
                return Err("SO_REUSEPORT is not set on a plain socket".into());
            }
        }
        Ok("plain sockets share a port".into())
    }

    fn mptcp_is_refused(&self) -> Seen {
        match self.resident.mptcp() {
            Ok(()) => Err("a worker can make an MPTCP socket".into()),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                Ok("refused, so that servers fall back to TCP".into())
            }
            Err(error) => Ok(format!("this kernel has none ({error})")),
        }
    }
}

/// A listening socket on a port of the kernel's choice that accepts connections.
fn open_backstop() -> io::Result<(Socket, SocketAddrV4)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(1)?;
    let addr = socket.local_addr()?.as_socket_ipv4().expect("bound to an IPv4 address");
    // A failure here has nothing to do with the programs.
    drop(TcpStream::connect_timeout(&addr.into(), PATIENCE)?);
    drop(socket.accept()?);
    Ok((socket, addr))
}

/// The features that need the programs, in the order of display.
const PROGRAMS: [Feature; 7] = [BIND_HOOK, NO_MPTCP, SELECT, TRACK, IN_FLIGHT, MIGRATE, NOTICES];

impl Refusal {
    fn explain(&self, feature: &Feature) -> Check {
        match self.culprit {
            Some(culprit) if culprit == feature.name() => feature.tried(Err(self.why.clone())),
            Some(_) => feature.untried("the programs could not be loaded"),
            None => feature.untried(&self.why),
        }
    }
}

impl From<BpfError> for Refusal {
    fn from(error: BpfError) -> Self {
        let culprit = match &error {
            BpfError::Program { program, .. } => match *program {
                "track" => TRACK,
                "bind4" | "bind6" => BIND_HOOK,
                "no_mptcp" => NO_MPTCP,
                _ => SELECT,
            },
            _ => SELECT,
        };
        Self {
            culprit: Some(culprit.name()),
            why: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bpf::GroupProgram, doctor::CheckOutcome};

    #[tokio::test]
    async fn a_program_that_does_not_steer_is_found_out() {
        let (stage, programs) = Stage::build().expect("loopback");
        assert!(programs.is_ok(), "root");
        // Now the kernel chooses by its own hash, among the backstop and both listeners, and moves nothing.
        GroupProgram::detach(stage.backstop.as_fd()).expect("attached before");
        let checks = stage.examine(programs).await;
        let outcome_of = |name| {
            checks
                .iter()
                .find(|check| check.name == name)
                .map(|check| check.outcome)
        };
        for name in ["select", "track", "migrate"] {
            assert_eq!(outcome_of(name), Some(CheckOutcome::Missing), "{checks:#?}");
        }
        for name in ["bind hook", "no MPTCP", "notices"] {
            assert_eq!(outcome_of(name), Some(CheckOutcome::Works), "{checks:#?}");
        }
    }

    #[test]
    fn the_program_that_was_refused_is_blamed() {
        let error = aya::programs::ProgramError::NotLoaded;
        let refusal = Refusal::from(BpfError::Program {
            action: "load",
            program: "bind6",
            source: Box::new(error),
        });
        assert!(refusal.explain(&BIND_HOOK).detail.contains("bind6"));
        let other = refusal.explain(&TRACK);
        assert_eq!(
            (other.detail.as_str(), other.remedy.as_str()),
            ("not tried: the programs could not be loaded", "")
        );
    }
}
