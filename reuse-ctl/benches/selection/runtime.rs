//! The kernel's run-time statistics, and the system calls that put other programs in `select`'s place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use aya::programs::loaded_programs;
use serde::Serialize;

/// Commands of bpf(2), and a type of map: `include/uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_TYPE_REUSEPORT_SOCKARRAY: u32 = 20;
/// `BPF_PROG_LOAD`, the type and the attach type of `select`: `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_long = 5;
const TYPE_SK_REUSEPORT: u32 = 21;
const ATTACH_SELECT_OR_MIGRATE: u32 = 40;
/// `include/uapi/asm-generic/socket.h`.
const SO_ATTACH_REUSEPORT_EBPF: libc::c_int = 52;

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
    let own = own_programs()?.into_iter();
    Ok(own
        .filter(|program| program.kind == u64::from(TYPE_SK_REUSEPORT))
        .map(|program| program.fd)
        .collect())
}

/// A program that this process has open.
struct OwnProgram {
    fd: i32,
    id: u64,
    kind: u64,
}

fn own_programs() -> anyhow::Result<Vec<OwnProgram>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo").context("read /proc/self/fdinfo")? {
        let name = entry.context("read /proc/self/fdinfo")?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The folder's own descriptor is gone again by now.
        let Ok(text) = fdinfo(fd) else { continue };
        if let (Some(kind), Some(id)) = (number(&text, "prog_type:"), number(&text, "prog_id:")) {
            programs.push(OwnProgram { fd, id, kind });
        }
    }
    Ok(programs)
}

/// How large a program is.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Size {
    /// Instructions after the verifier has taken out what can't be reached and put in what it must.
    instructions: u32,
    /// Bytes of machine code.
    machine_code: u32,
    /// Instructions that the verifier followed; it gives up after a million.
    verified: Option<u32>,
}

/// The sizes of the programs of these names that this process has open: of the last one, if there are several.
pub(crate) fn sizes(names: &[&'static str]) -> anyhow::Result<BTreeMap<&'static str, Size>> {
    let own: BTreeSet<u64> = own_programs()?.into_iter().map(|program| program.id).collect();
    let mut sizes = BTreeMap::new();
    for info in loaded_programs() {
        let info = info.context("list the programs")?;
        let name = names.iter().find(|name| info.name_as_str() == Some(name));
        let (Some(&name), true) = (name, own.contains(&u64::from(info.id()))) else {
            continue;
        };
        let size = Size {
            instructions: info.size_translated().context("the size of a program")? / 8,
            machine_code: info.size_jitted(),
            verified: info.verified_instruction_count(),
        };
        sizes.insert(name, size);
    }
    Ok(sizes)
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

/// Loads a program of these instructions in place of `select`.
pub(crate) fn load(instructions: &[u64]) -> anyhow::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        prog_type: TYPE_SK_REUSEPORT,
        insn_cnt: u32::try_from(instructions.len()).context("few instructions")?,
        insns: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        expected_attach_type: ATTACH_SELECT_OR_MIGRATE,
        ..LoadAttributes::default()
    };
    attributes.prog_name[..5].copy_from_slice(b"bench");
    // SAFETY: what the attributes point to lives as long as the call.
    let fd = unsafe { bpf(PROG_LOAD, &attributes) }.context("BPF_PROG_LOAD of a few instructions")?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The first fields for `BPF_MAP_CREATE`: type, size of a key, size of a value, how many, flags.
type CreateAttributes = [u32; 5];

/// The fields for `BPF_MAP_UPDATE_ELEM`: map, address of the key, address of the value, flags.
type UpdateAttributes = [u64; 4];

/// An array of these listeners.
pub(crate) fn array_of(listeners: [BorrowedFd<'_>; 4]) -> anyhow::Result<OwnedFd> {
    let attributes: CreateAttributes = [MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4, 0];
    // SAFETY: nothing is pointed to.
    let fd = unsafe { bpf(MAP_CREATE, &attributes) }.context("BPF_MAP_CREATE")?;
    // SAFETY: the kernel has just given it to us.
    let array = unsafe { OwnedFd::from_raw_fd(fd) };
    for (key, listener) in (0_u32..).zip(listeners) {
        let socket = u64::from(listener.as_raw_fd().cast_unsigned());
        let attributes: UpdateAttributes = [
            u64::from(fd.cast_unsigned()),
            (&raw const key).addr() as u64,
            (&raw const socket).addr() as u64,
            0,
        ];
        // SAFETY: key and value live as long as the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.context("BPF_MAP_UPDATE_ELEM")?;
    }
    Ok(array)
}

/// bpf(2).
///
/// # Safety
/// The attributes must be those of the command, and what they point to must be valid.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes are as long as said; for the rest, the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
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
