//! The features that are checked: the name of each, what is lost without it, and how to get it.

use super::{Check, CheckOutcome};

/// A feature that can be tried.
#[derive(Debug)]
pub(super) struct Feature {
    name: &'static str,
    need: Need,
    lost: &'static str,
    remedy: &'static str,
}

/// Whether `run` works without the feature.
#[derive(Debug)]
enum Need {
    Required,
    Helpful,
}

impl Feature {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The result of a check that was tried: what was seen, whether it worked or not.
    pub(super) fn tried(&self, seen: Result<String, String>) -> Check {
        self.tried_with(seen, self.remedy)
    }

    /// As [`tried`](Self::tried), with a more specific remedy.
    pub(super) fn tried_with(&self, seen: Result<String, String>, remedy: &str) -> Check {
        let (outcome, detail) = match (seen, &self.need) {
            (Ok(detail), _) => (CheckOutcome::Works, detail),
            (Err(detail), Need::Required) => (CheckOutcome::Missing, detail),
            (Err(detail), Need::Helpful) => (CheckOutcome::Warning, detail),
        };
        self.check(outcome, detail, remedy)
    }

    /// The result if something else that the feature needs does not work.
    pub(super) fn untried(&self, why: &str) -> Check {
        self.check(CheckOutcome::Missing, format!("not tried: {why}"), "")
    }

    fn check(&self, outcome: CheckOutcome, detail: String, remedy: &str) -> Check {
        Check {
            name: self.name,
            outcome,
            detail,
            lost: self.lost,
            remedy: remedy.to_owned(),
        }
    }
}

pub(super) const ROOT: Feature = Feature {
    name: "root",
    need: Need::Required,
    lost: "no program can be loaded, no worker started as another user",
    remedy: "run it with sudo",
};

pub(super) const KERNEL: Feature = Feature {
    name: "kernel",
    need: Need::Required,
    lost: "connections in the queue of a worker that ends are reset instead of moved, and cgroups can't be killed at once",
    remedy: "Linux 6.1 or newer (5.14 is the least, but was not tried): Debian 12, Ubuntu 24.04, RHEL 10, Amazon Linux 2023 or later have it",
};

pub(super) const CGROUP: Feature = Feature {
    name: "cgroup v2",
    need: Need::Required,
    lost: "listeners can't be assigned to workers, and a worker can't be ended with all of its children",
    remedy: "mount the whole hierarchy; in a container: --privileged --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw",
};

pub(super) const BPF: Feature = Feature {
    name: "bpf",
    need: Need::Required,
    lost: "no program can be loaded: nothing is steered",
    remedy: "a kernel with CONFIG_BPF_SYSCALL that lockdown does not restrict",
};

pub(super) const LIMITS: Feature = Feature {
    name: "limits",
    need: Need::Helpful,
    lost: "--memory-limit and --cpu-limit are refused; --max-memory works all the same",
    remedy: "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all, so that cgroup v2 has all controllers",
};

pub(super) const BPFFS: Feature = Feature {
    name: "bpffs",
    need: Need::Required,
    lost: "the programs of several ports can't share their tables",
    remedy: "mount -t bpf bpf /sys/fs/bpf (in a container: --privileged, or -v /sys/fs/bpf:/sys/fs/bpf:rw)",
};

pub(super) const BTF: Feature = Feature {
    name: "BTF",
    need: Need::Helpful,
    lost: "requests in flight can't be seen: the stop signal of a worker waits until all of its connections are closed, or for --drain-timeout",
    remedy: "a kernel built with CONFIG_DEBUG_INFO_BTF",
};

pub(super) const PIDFD_GETFD: Feature = Feature {
    name: "pidfd_getfd",
    need: Need::Required,
    lost: "a listener that a worker has bound can't be made a member of its group",
    remedy: "CAP_SYS_PTRACE, and a seccomp profile that allows pidfd_getfd (in a container: --cap-add SYS_PTRACE)",
};

pub(super) const INET_DIAG: Feature = Feature {
    name: "inet_diag",
    need: Need::Required,
    lost: "queues can't be seen, so that drain would not know when it is done, and listeners without a notice are not found",
    remedy: "modprobe tcp_diag",
};

pub(super) const BIND_HOOK: Feature = Feature {
    name: "bind hook",
    need: Need::Required,
    lost: "servers that do not set SO_REUSEPORT themselves can't share the port",
    remedy: "a kernel with CONFIG_CGROUP_BPF, and programs allowed on cgroups (in a container: --privileged)",
};

pub(super) const NO_MPTCP: Feature = Feature {
    name: "no MPTCP",
    need: Need::Helpful,
    lost: "servers that listen with MPTCP (Go from 1.24 on) can't be members",
    remedy: "a kernel with CONFIG_CGROUP_BPF; or start Go servers with GODEBUG=multipathtcp=0",
};

pub(super) const SELECT: Feature = Feature {
    name: "select",
    need: Need::Required,
    lost: "the kernel's own hash spreads connections: no policy, no drain",
    remedy: "root outside of a user namespace, and a kernel with CONFIG_BPF_SYSCALL that lockdown does not restrict",
};

pub(super) const IN_FLIGHT: Feature = Feature {
    name: "in flight",
    need: Need::Helpful,
    lost: "requests in flight can't be seen: the stop signal of a worker waits until all of its connections are closed, or for --drain-timeout",
    remedy: "a kernel built with CONFIG_DEBUG_INFO_BTF, and CAP_PERFMON",
};

pub(super) const TRACK: Feature = Feature {
    name: "track",
    need: Need::Required,
    lost: "connections are not counted: no least-loaded, no sticky, and drain would not know when it is done",
    remedy: "a kernel with CONFIG_CGROUP_BPF, and programs allowed on cgroups (in a container: --privileged)",
};

pub(super) const MIGRATE: Feature = Feature {
    name: "migrate",
    need: Need::Required,
    lost: "connections in the queue of a worker that ends are reset",
    remedy: "Linux 5.14 or newer",
};

pub(super) const NOTICES: Feature = Feature {
    name: "notices",
    need: Need::Required,
    lost: "a listener that opens or closes is noticed late",
    remedy: "Linux 5.8 or newer",
};

pub(super) const EPHEMERAL: Feature = Feature {
    name: "service port",
    need: Need::Helpful,
    lost: "while nobody listens an outgoing connection may take the port, and starting fails for up to a minute",
    remedy: "serve on a port outside of net.ipv4.ip_local_port_range",
};

pub(super) const MIGRATE_REQ: Feature = Feature {
    name: "tcp_migrate_req",
    need: Need::Helpful,
    lost: "nothing: the program moves connections by itself",
    remedy: "Linux 5.14 or newer",
};

pub(super) const SOMAXCONN: Feature = Feature {
    name: "somaxconn",
    need: Need::Helpful,
    lost: "in a burst, connections beyond this number are dropped and retried a second later; no more can wait while no worker is published",
    remedy: "sysctl -w net.core.somaxconn=4096",
};
