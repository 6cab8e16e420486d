//! The kernel's run-time statistics of a controller's BPF programs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::Context as _;

/// `include/uapi/linux/bpf.h`.
const ENABLE_STATS: libc::c_long = 32;
const STATS_RUN_TIME: u32 = 0;
const TYPE_SOCK_OPS: u64 = 13;
const TYPE_SK_REUSEPORT: u64 = 21;

/// Runs and their time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) runs: u64,
    pub(crate) ns: u64,
}

impl Used {
    /// What came since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            runs: self.runs - earlier.runs,
            ns: self.ns - earlier.ns,
        }
    }
}

/// The two programs that run for every connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Programs {
    pub(crate) select: Used,
    pub(crate) track: Used,
}

impl Programs {
    /// What the programs that this process holds have used so far.
    ///
    /// # Errors
    /// When its descriptors can't be read.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let folder = format!("/proc/{pid}/fdinfo");
        // Several descriptors may lead to one program.
        let mut by_id = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
            // A descriptor may be gone by now.
            let Ok(text) = entry.and_then(|entry| fs::read_to_string(entry.path())) else {
                continue;
            };
            let number = |name| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            };
            if let (Some(id), Some(kind), Some(runs), Some(ns)) = (
                number("prog_id:"),
                number("prog_type:"),
                number("run_cnt:"),
                number("run_time_ns:"),
            ) {
                by_id.insert(id, (kind, Used { runs, ns }));
            }
        }
        let sum = |wanted| {
            by_id
                .values()
                .filter(|(kind, _)| *kind == wanted)
                .fold(Used::default(), |sum, (_, used)| Used {
                    runs: sum.runs + used.runs,
                    ns: sum.ns + used.ns,
                })
        };
        Ok(Self {
            select: sum(TYPE_SK_REUSEPORT),
            track: sum(TYPE_SOCK_OPS),
        })
    }

    /// What came since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            select: self.select.since(earlier.select),
            track: self.track.since(earlier.track),
        }
    }
}

/// The kernel keeps run-time statistics as long as this is open.
#[derive(Debug)]
pub(crate) struct Statistics {
    _open: OwnedFd,
}

impl Statistics {
    /// Switches them on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn enable() -> anyhow::Result<Self> {
        let attributes = STATS_RUN_TIME;
        // SAFETY: the attributes are one integer for this command, as long as said.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, ENABLE_STATS, &raw const attributes, size_of::<u32>()) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("BPF_ENABLE_STATS");
        }
        let fd = i32::try_from(fd).context("a descriptor")?;
        // SAFETY: the kernel has just given it to us.
        let open = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { _open: open })
    }
}
