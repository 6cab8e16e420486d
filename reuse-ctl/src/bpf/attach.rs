//! Attaches a program to a cgroup as long as the cgroup is there, to its last socket.
//!
//! The loader's crate attaches by links, which end when they are closed; but a connection that has moved to another instance stays in the
//! cgroup of the old one, and its end must be counted when nothing else is left of that.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// A command of bpf(2), and a flag of it: `include/uapi/linux/bpf.h`.
const PROG_ATTACH: libc::c_long = 8;
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
    // SAFETY: the attributes are as long as said, and hold integers only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
