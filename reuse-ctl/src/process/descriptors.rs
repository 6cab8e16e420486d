//! The controller's limit of open descriptors. It needs three or four for each worker, and most shells allow 1,024.

use std::io;
use std::sync::OnceLock;

use nix::errno::Errno;

/// The soft limit that the controller was started with.
static FOUND: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit of this process to the hard limit. Workers get the original limit back, because some programs walk through every
/// possible descriptor.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2).
pub fn raise_limit() -> io::Result<()> {
    let found = limit()?;
    FOUND.get_or_init(|| found.rlim_cur);
    set(libc::rlimit {
        rlim_cur: found.rlim_max,
        ..found
    })
}

/// The soft limit for workers; `None` if it was not changed.
pub fn found_limit() -> Option<u64> {
    FOUND.get().copied()
}

/// Sets the soft limit of this process.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2).
pub fn set_limit(soft: u64) -> io::Result<()> {
    set(libc::rlimit {
        rlim_cur: soft,
        ..limit()?
    })
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes the one structure that is given.
    let code = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    Errno::result(code)?;
    Ok(limit)
}

fn set(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the kernel reads the one structure that is given.
    let code = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    Errno::result(code).map(drop).map_err(io::Error::from)
}
