//! How many descriptors the controller may have open. It needs three or four for each worker, and 1,024 is what most shells give.

use std::io;
use std::sync::OnceLock;

use nix::errno::Errno;

/// What the controller was started with.
static FOUND: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit to the hard one, for this process. Workers get back what was found: a program may walk through all the numbers that
/// it could have open.
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

/// The soft limit that workers are to have; absent if it was not changed.
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
