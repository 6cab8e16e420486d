//! Checks of the machine: permissions, kernel, file systems.

use std::{fs, path::Path};

use caps::{CapSet, Capability};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{
    Check, CheckOutcome,
    feature::{BPF, BPFFS, BTF, CGROUP, KERNEL, LIMITS, ROOT},
    scratch::ScratchCgroup,
};
use crate::{
    bpf::{self, mount_bpffs},
    process::{
        cgroup::{CgroupError, Hierarchy},
        cgroup_limits::{self, Controller},
    },
};

/// The first kernel with `migrate` and with cgroup.kill.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// The needed capabilities. The last two are not needed with CAP_SYS_ADMIN, which includes them.
const CAPABILITIES: [Capability; 10] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_PERFMON,
    Capability::CAP_BPF,
];

pub(super) fn root() -> Check {
    let user = nix::unistd::geteuid();
    if !user.is_root() {
        return ROOT.tried(Err(format!("the user is {user}, not root")));
    }
    if !fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_initial_namespace(&map)) {
        return ROOT.tried_with(
            Err("root only inside a user namespace".into()),
            "run it outside of the rootless container",
        );
    }
    match lacking() {
        Err(why) => ROOT.tried(Err(format!("capabilities can't be read: {why}"))),
        Ok(lacking) if lacking.is_empty() => ROOT.tried(Ok("with every capability that is needed".into())),
        Ok(lacking) => ROOT.tried_with(
            Err(format!("root without {}", lacking.join(", "))),
            "give it these capabilities (in a container: --privileged, or --cap-add each)",
        ),
    }
}

fn lacking() -> Result<Vec<String>, caps::errors::CapsError> {
    let have = caps::read(None, CapSet::Effective)?;
    let has = |capability| {
        have.contains(&capability)
            || (matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
                && have.contains(&Capability::CAP_SYS_ADMIN))
    };
    let lacking = CAPABILITIES.into_iter().filter(|&capability| !has(capability));
    Ok(lacking.map(|capability| capability.to_string()).collect())
}

/// Whether `/proc/self/uid_map` shows that uids are those of the machine.
fn is_initial_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

pub(super) fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    KERNEL.tried(judge_release(release.trim()))
}

fn judge_release(release: &str) -> Result<String, String> {
    let (major, minor) = OLDEST_KERNEL;
    match version_of(release) {
        Some(version) if version >= OLDEST_KERNEL => Ok(format!("Linux {release}")),
        Some(_) => Err(format!("Linux {release} is older than {major}.{minor}")),
        None => Err(format!("a kernel of unknown version {release:?}")),
    }
}

/// The first two numbers of a kernel release, as in `5.15.0-91-generic` or `6.1-rc2`.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    let (major, rest) = release.split_once('.')?;
    Some((number(major)?, number(rest)?))
}

pub(super) fn cgroup() -> Check {
    match try_cgroup() {
        Ok(seen) => CGROUP.tried(seen),
        Err(error) => CGROUP.tried_with(Err(error.to_string()), error.hint()),
    }
}

fn try_cgroup() -> Result<Result<String, String>, CgroupError> {
    let hierarchy = Hierarchy::find()?;
    let mount = hierarchy.mount().display();
    if !hierarchy.shows_root()? {
        return Ok(Err(format!("{mount} shows only a part of the hierarchy")));
    }
    let scratch = ScratchCgroup::create()?;
    if !scratch.worker().path().join("cgroup.kill").exists() {
        return Ok(Err(format!("{mount} has no cgroup.kill (Linux before 5.14)")));
    }
    Ok(Ok(format!("at {mount}, writable, with cgroup.kill")))
}

/// Which controllers can limit workers. Nothing is enabled to find out.
pub(super) fn limits() -> Check {
    let there = Hierarchy::find()
        .map_err(|error| error.to_string())
        .and_then(|hierarchy| cgroup_limits::controllers(&hierarchy).map_err(|error| error.to_string()));
    LIMITS.tried(there.and_then(|there| judge_controllers(&there)))
}

fn judge_controllers(there: &[String]) -> Result<String, String> {
    let lacking: Vec<&str> = Controller::ALL
        .into_iter()
        .map(Controller::name)
        .filter(|name| !there.iter().any(|known| known == name))
        .collect();
    if lacking.is_empty() {
        Ok("cgroup v2 has the controllers memory and cpu".into())
    } else {
        Err(format!("missing cgroup v2 controllers: {}", lacking.join(", ")))
    }
}

/// Whether the bpf system call is allowed for processes with the needed capabilities.
pub(super) fn bpf() -> Check {
    let root = root();
    if root.outcome != CheckOutcome::Works {
        return BPF.untried(&root.detail);
    }
    let error = match bpf::create_any_map() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => error,
        // The system call exists. Loading the programs will show what it can't do.
        _ => return BPF.tried(Ok("the system call is allowed".into())),
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if is_filtered(&status) {
        return BPF.tried_with(
            Err(format!("the system call is forbidden by a seccomp filter: {error}")),
            "in a container: --cap-add SYS_ADMIN, which engines' own filters want for it, or --security-opt seccomp=FILE with one that allows it (docs/containers.md)",
        );
    }
    BPF.tried(Err(format!("the system call is refused: {error}")))
}

/// Whether `/proc/self/status` shows a seccomp filter.
fn is_filtered(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .is_some_and(|mode| mode.trim() == "2")
}

pub(super) fn bpffs() -> Check {
    let was_mounted = statfs("/sys/fs/bpf").is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    BPFFS.tried(match mount_bpffs() {
        Ok(()) if was_mounted => Ok("at /sys/fs/bpf".into()),
        // It stays mounted, as systemd would have done at boot: unmounting it would remove the pins of an app that has just started.
        Ok(()) => Ok("mounted now at /sys/fs/bpf".into()),
        Err(error) => Err(error.to_string()),
    })
}

pub(super) fn btf() -> Check {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    BTF.tried(if path.exists() {
        Ok(format!("at {}", path.display()))
    } else {
        Err(format!("there is no {}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, version) in [
            ("6.18.44-fc-v657", (6, 18)),
            ("5.14.0-427.13.1.el9_4.x86_64", (5, 14)),
            ("6.1-rc2", (6, 1)),
            ("5.9.16", (5, 9)),
            ("10.0+", (10, 0)),
        ] {
            assert_eq!(version_of(release), Some(version), "{release}");
            assert_eq!(judge_release(release).is_ok(), version >= OLDEST_KERNEL, "{release}");
        }
        for nonsense in ["", "linux", "6", "six.one", "."] {
            assert!(
                version_of(nonsense).is_none() && judge_release(nonsense).is_err(),
                "{nonsense:?}"
            );
        }
        assert_eq!(
            judge_release("5.10.0-28-amd64"),
            Err("Linux 5.10.0-28-amd64 is older than 5.14".into())
        );
    }

    #[test]
    fn a_filter_is_told_from_a_kernel_without_bpf() {
        assert!(is_filtered("NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!is_filtered(""));
    }

    #[test]
    fn controllers_that_are_missing_are_named() {
        let judge = |there: &str| judge_controllers(&there.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(judge("cpuset cpu io memory pids").is_ok());
        assert_eq!(
            judge("hugetlb cpu"),
            Err("missing cgroup v2 controllers: memory".into())
        );
        assert_eq!(judge(""), Err("missing cgroup v2 controllers: memory, cpu".into()));
    }

    #[test]
    fn root_in_a_user_namespace_is_told_apart() {
        assert!(is_initial_namespace("         0          0 4294967295\n"));
        assert!(!is_initial_namespace("         0       1000          1\n"));
        assert!(!is_initial_namespace("0 0 4294967295\n1 1 1\n"));
        assert!(!is_initial_namespace(""));
    }
}
