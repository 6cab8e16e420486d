//! The terminal of this process, and the signals that it ignores.

/// Whether this process has a controlling terminal: `/dev/tty` is that.
pub(crate) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

pub(crate) fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: a zeroed sigaction is a valid one to be written into.
    let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with no new action, the call only writes the present one into `current`.
    let result = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut current) };
    result == 0 && current.sa_sigaction == libc::SIG_IGN
}
