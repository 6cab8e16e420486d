//! Attaches a program to a cgroup as long as the cgroup is there, to its last socket; and a call that only shows whether calls are let through.
//!
//! The loader's crate attaches by links, which end when they are closed; but a connection that has moved to another instance stays in the
//! cgroup of the old one, and its end must be counted when nothing else is left of that.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// Commands of bpf(2), a flag of one, a kind of map: `include/uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const PROG_ATTACH: libc::c_long = 8;
const ARRAY: u32 = 2;
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_CGROUP_SOCK_OPS`: `track`'s, and a part of the key of its values.
pub(super) const SOCK_OPS: u32 = 3;

/// The first fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Runs a sock_ops program for the sockets that are made in this cgroup (its open folder), beside other programs.
///
/// # Errors
/// As bpf(2). EINVAL: it is attached there already.
pub(super) fn to_sockets_of(cgroup: &File, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: SOCK_OPS,
        flags: ALLOW_MULTI,
    };
    // SAFETY: they hold integers only.
    unsafe { call(PROG_ATTACH, &attributes) }.map(drop)
}

/// The first fields of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
}

/// Makes the smallest map that there is, and lets go of it: any other call would be refused for the same reason.
///
/// # Errors
/// As bpf(2). EPERM or ENOSYS: something forbids it, or the kernel does not have it.
pub fn create_any_map() -> io::Result<()> {
    let attributes = MapAttributes {
        kind: ARRAY,
        key_bytes: 4,
        value_bytes: 4,
        entries: 1,
    };
    // SAFETY: they hold integers only, and the result is a new descriptor that nobody else knows.
    let map = unsafe { call(MAP_CREATE, &attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }?;
    drop(map);
    Ok(())
}

/// # Safety
/// What the attributes point to must be as the command wants it.
unsafe fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the attributes are as long as said; else the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(RawFd::try_from(result).expect("a descriptor, or 0"))
    }
}
