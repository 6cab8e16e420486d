//! Attaches a program to a cgroup for as long as the cgroup exists, that is, until its last socket is gone. Also a test call that shows
//! whether bpf(2) is allowed.
//!
//! aya attaches by links, which end when they are closed. But a connection that has moved to another instance stays in the cgroup of the
//! old one, and its end must be counted even after that instance is gone.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// Commands of bpf(2), a flag, and a map type: `include/uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const PROG_ATTACH: libc::c_long = 8;
const ARRAY: u32 = 2;
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_CGROUP_SOCK_OPS`: the attach type of `track`, and part of the key of its values.
pub(super) const SOCK_OPS: u32 = 3;

/// The first fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Runs a sock_ops program for the sockets created in this cgroup (given by its open folder), beside other programs.
///
/// # Errors
/// As bpf(2). EINVAL: the program is attached there already.
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

/// Creates the smallest possible map and closes it. If this is refused, any other call would be refused for the same reason.
///
/// # Errors
/// As bpf(2). EPERM or ENOSYS: bpf(2) is forbidden, or the kernel does not have it.
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
/// Whatever the attributes point to must be valid for the command.
unsafe fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the length of the attributes is right; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(RawFd::try_from(result).expect("a descriptor, or 0"))
    }
}
