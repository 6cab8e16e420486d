//! The kernel's run-time statistics, and the program that they are compared with.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

/// `BPF_PROG_LOAD`, the type and the attach type of `select`: `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_long = 5;
const TYPE_SK_REUSEPORT: u32 = 21;
const ATTACH_SELECT_OR_MIGRATE: u32 = 40;
/// `include/uapi/asm-generic/socket.h`.
const SO_ATTACH_REUSEPORT_EBPF: libc::c_int = 52;

/// `r0 = 1; exit`: SK_PASS, and the kernel's hash decides outside of the program's time.
const EMPTY: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// What a program has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) count: u64,
    pub(crate) total_ns: u64,
}

/// The statistics of one program, read through a descriptor that this process holds.
#[derive(Debug)]
pub(crate) struct Runs {
    fd: i32,
}

impl Runs {
    /// Of the program behind this descriptor, which must stay open.
    pub(crate) fn of(fd: i32) -> Self {
        Self { fd }
    }

    pub(crate) fn read(&self) -> anyhow::Result<Used> {
        let text = fdinfo(self.fd)?;
        let field = |name| number(&text, name).with_context(|| format!("no {name} in descriptor {}'s info", self.fd));
        Ok(Used {
            count: field("run_cnt:")?,
            total_ns: field("run_time_ns:")?,
        })
    }
}

/// The descriptors of this process that are programs of `select`'s type.
pub(crate) fn selection_programs() -> anyhow::Result<BTreeSet<i32>> {
    let mut programs = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").context("read /proc/self/fdinfo")? {
        let name = entry.context("read /proc/self/fdinfo")?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The folder's own descriptor is gone again by now.
        let Ok(text) = fdinfo(fd) else { continue };
        if number(&text, "prog_type:") == Some(TYPE_SK_REUSEPORT.into()) {
            programs.insert(fd);
        }
    }
    Ok(programs)
}

fn fdinfo(fd: i32) -> anyhow::Result<String> {
    let path = format!("/proc/self/fdinfo/{fd}");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

fn number(fdinfo: &str, name: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Loads the program that does nothing.
pub(crate) fn load_empty() -> anyhow::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        prog_type: TYPE_SK_REUSEPORT,
        insn_cnt: 2,
        insns: EMPTY.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        expected_attach_type: ATTACH_SELECT_OR_MIGRATE,
        ..LoadAttributes::default()
    };
    attributes.prog_name[..5].copy_from_slice(b"empty");
    // SAFETY: the attributes are as long as said, and what they point to lives as long as the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("BPF_PROG_LOAD of two instructions");
    }
    let fd = i32::try_from(fd).context("a descriptor")?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a program in charge of the group that this listener belongs to.
pub(crate) fn attach(listener: BorrowedFd<'_>, program: &OwnedFd) -> anyhow::Result<()> {
    let program = program.as_raw_fd();
    // SAFETY: the option's value is an int, and as long as said.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_ATTACH_REUSEPORT_EBPF,
            (&raw const program).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("SO_ATTACH_REUSEPORT_EBPF");
    }
    Ok(())
}
