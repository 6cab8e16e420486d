//! Processes that end with what started them, and their CPU time.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use reuse_tests::wait;

/// How long a server may take to end once it was told to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A server process; it ends with this value, and with this program however that ends.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts a command; what it writes goes into `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start<Word: AsRef<OsStr>>(command: &[Word], log: &Path) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("a command has a program")?;
        Self::spawn(Command::new(program).args(arguments), log)
    }

    /// As [`Self::start`], of a command that has more to it than its words.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("duplicate a descriptor")?)
            .stderr(output);
        let child = bound_to_us(command)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        signal(self.pid(), Signal::SIGTERM)?;
        wait::poll(END_LIMIT, || self.child.try_wait().transpose())
            .with_context(|| format!("process {} has not ended {END_LIMIT:?} after SIGTERM", self.pid()))?
            .context("wait for a child of ours")?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A master process takes its workers along when it is asked to; what does not end is killed.
            if self.end().is_err() {
                drop(self.child.kill());
                drop(self.child.wait());
            }
        }
    }
}

/// The command's process gets SIGTERM when the thread that starts it ends, so that a run that is cut short leaves nothing.
pub(crate) fn bound_to_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is a bare system call; nothing of the parent's state is touched between fork and exec.
    unsafe { command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)) }
}

/// Sends a signal to a process of ours.
///
/// # Errors
/// When there is none.
pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    kill(raw(pid)?, signal).with_context(|| format!("send {signal} to {pid}"))
}

/// CPU time of a process, with that of threads that have ended.
///
/// # Errors
/// When there is none.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let clock: ClockId = clock_getcpuclockid(raw(pid)?).with_context(|| format!("clock_getcpuclockid({pid})"))?;
    let time = clock_gettime(clock).context("clock_gettime")?;
    Ok(Duration::from(time).as_secs_f64())
}

/// A number of `/proc/PID/status`, without its unit.
///
/// # Errors
/// When it is not there.
pub(crate) fn status_number(pid: u32, name: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("{path} has no {name}"))
}

fn raw(pid: u32) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid).context("a process id")?))
}
