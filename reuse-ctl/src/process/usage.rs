//! The resource usage of a worker's processes, read from /proc because cgroup controllers may be missing.

use std::time::Duration;

use nix::sys::signal::Signal;
use procfs::process::{Process, Status};

/// The usage of a set of processes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in clock ticks, user and system, of the processes that are alive now.
    pub cpu_ticks: u64,
    /// Resident memory in bytes. Pages shared between processes count for each.
    pub resident_bytes: u64,
}

/// Adds up the usage of these processes. Those that have ended are left out.
pub fn usage(pids: &[u32]) -> Usage {
    let page_bytes = procfs::page_size();
    pids.iter()
        .filter_map(|pid| process(*pid)?.stat().ok())
        .fold(Usage::default(), |sum, stat| Usage {
            cpu_ticks: sum.cpu_ticks + stat.utime + stat.stime,
            resident_bytes: sum.resident_bytes + stat.rss * page_bytes,
        })
}

/// CPU usage between two looks, in percent of one core. If a process ended in between, the value can be too low, but never negative.
pub fn cpu_percent(before: Usage, after: Usage, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    let ticks = after.cpu_ticks.saturating_sub(before.cpu_ticks);
    100.0 * ticks as f64 / procfs::ticks_per_second() as f64 / elapsed.as_secs_f64()
}

/// Whether the process does anything but die from this signal: it handles it, ignores it, or blocks it in its main thread (as for
/// signalfd). False if the process has ended.
pub fn catches_signal(pid: u32, signal: Signal) -> bool {
    process(pid)
        .and_then(|process| process.status().ok())
        .is_some_and(|status| survives(&status, signal))
}

/// The pid of its parent; 0 if that is outside of this pid namespace. `None` if the process has ended.
pub fn parent(pid: u32) -> Option<u32> {
    u32::try_from(process(pid)?.stat().ok()?.ppid).ok()
}

/// A number that a process shares with those it has forked, until one of them executes a program: the address of its stack, which the
/// kernel randomises for each program. `None` if the process has ended.
pub fn image(pid: u32) -> Option<u64> {
    Some(process(pid)?.stat().ok()?.startstack)
}

/// When the process was started, in clock ticks after boot. Together with the pid it identifies the process. `None` if the process has
/// ended.
pub fn start_time(pid: u32) -> Option<u64> {
    Some(process(pid)?.stat().ok()?.starttime)
}

/// Whether this signal is pending for the process.
pub fn awaits(pid: u32, signal: Signal) -> bool {
    process(pid)
        .and_then(|process| process.status().ok())
        .is_some_and(|status| pending(&status) & bit(signal) != 0)
}

/// Whether `stop`, or another signal that asks the process to end, reload or change its behaviour, is pending; true also if the process has
/// ended. Signals that the kernel sends by itself (about children, timers and terminals) don't count, nor those that stop or continue a
/// process.
pub fn is_asked(pid: u32, stop: Signal) -> bool {
    let requests = Signal::iterator().filter(|signal| is_request(*signal, stop));
    let requests = requests.fold(0, |bits, signal| bits | bit(signal));
    process(pid)
        .and_then(|process| process.status().ok())
        .is_none_or(|status| status.state.starts_with('Z') || pending(&status) & requests != 0)
}

/// Whether this signal is a request to the process; always true for `stop`. Real-time signals are usually those of timers.
pub fn is_request(signal: Signal, stop: Signal) -> bool {
    const NO_REQUEST: [Signal; 13] = [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGURG,
        Signal::SIGIO,
        Signal::SIGPIPE,
        Signal::SIGWINCH,
    ];
    signal == stop || !NO_REQUEST.contains(&signal)
}

/// Signals pending for the process, or for its main thread only.
fn pending(status: &Status) -> u64 {
    status.sigpnd | status.shdpnd
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}

fn survives(status: &Status, signal: Signal) -> bool {
    (status.sigcgt | status.sigign | status.sigblk) & bit(signal) != 0
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::process::{Child, Command, Stdio};

    /// A child that has reported that it is in the state the test needs.
    fn python(script: &str) -> Child {
        let script = format!("import signal,time,os\n{script}\nos.write(1, b'!')\ntime.sleep(600)");
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut said = [0];
        child
            .stdout
            .as_mut()
            .expect("piped")
            .read_exact(&mut said)
            .expect("says so");
        child
    }

    fn end(mut child: Child) {
        child.kill().expect("ours");
        child.wait().expect("ours");
    }

    #[test]
    fn work_and_memory_are_seen() {
        let script =
            "ballast = b'x' * 50_000_000\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass";
        let child = python(script);
        let used = usage(&[child.id(), u32::MAX]);
        assert!(
            used.resident_bytes > 50_000_000 && used.resident_bytes < 200_000_000,
            "{used:?}"
        );
        assert!(used.cpu_ticks >= 15, "{used:?}");
        end(child);
    }

    #[test]
    fn percent_of_one_core() {
        let before = Usage {
            cpu_ticks: 100,
            resident_bytes: 0,
        };
        let after = Usage {
            cpu_ticks: 100 + procfs::ticks_per_second(),
            resident_bytes: 0,
        };
        assert_eq!(cpu_percent(before, after, Duration::from_secs(2)), 50.0);
        assert_eq!(cpu_percent(after, before, Duration::from_secs(2)), 0.0);
        assert_eq!(cpu_percent(before, after, Duration::ZERO), 0.0);
    }
}
