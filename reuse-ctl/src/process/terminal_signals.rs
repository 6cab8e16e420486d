//! The terminal of this process, and the signals that the process ignores.

/// Whether this process has a controlling terminal, which is `/dev/tty`.
pub(crate) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

pub(crate) fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: the kernel overwrites a zeroed sigaction.
    let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action, the call only writes the current one into `current`.
    let result = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut current) };
    result == 0 && current.sa_sigaction == libc::SIG_IGN
}
