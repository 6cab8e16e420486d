//! The controller's own priority.
//!
//! A hung worker is detected by looking every few milliseconds. Workers that saturate the CPUs would delay those looks just when they are
//! needed.

use std::io;

use nix::errno::Errno;

/// Halfway to the highest priority: a waking controller runs before workers, and a user's shell with `nice -n -20` before the controller.
const NICE: i32 = -10;

/// `include/uapi/linux/sched.h`: children and new threads of this thread get the normal priority.
const SCHED_FLAG_RESET_ON_FORK: u64 = 0x01;

/// Raises the priority of this thread alone, not of the threads and processes that it starts. Does nothing if the user has already chosen a
/// priority.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, as in most containers: looks may be late then.
pub fn prefer_this_thread() -> io::Result<()> {
    // SAFETY: two numbers. Whether -1 is an error or the niceness is decided by errno.
    let nice = unsafe {
        Errno::clear();
        libc::getpriority(libc::PRIO_PROCESS, 0)
    };
    if nice != 0 {
        return Ok(());
    }
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).expect("56 bytes"),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: SCHED_FLAG_RESET_ON_FORK,
        sched_nice: NICE,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads as many bytes as the structure says that it has.
    let code = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(code).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        // SAFETY: as above.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn it_is_this_threads_alone() {
        let before = nice();
        let preferred = std::thread::spawn(|| {
            prefer_this_thread().map(|()| {
                let child = std::thread::spawn(nice).join().expect("it ends");
                let process = std::process::Command::new("nice").output().expect("coreutils");
                (nice(), child, String::from_utf8(process.stdout).expect("a number"))
            })
        });
        // If the tests were started with another priority, it is kept.
        let own = if before == 0 { NICE } else { before };
        match preferred.join().expect("it ends") {
            Ok(seen) => assert_eq!(seen, (own, before, format!("{before}\n"))),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "only for want of the right"),
        }
        assert_eq!(nice(), before);
    }
}
