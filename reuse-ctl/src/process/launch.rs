//! Starts a worker, the controller's half: it runs this same program as a shim, which turns itself into the worker.
//!
//! ```text
//! controller ── clone into its cgroup, exec ──► shim (root): process group, signals, log, uid, descriptors, environment ── exec ──► worker
//!      ▲                        │
//!      └── error pipe ──────────┘   one JSON line if a step failed; closed by the exec if none did
//! ```
//!
//! A shim rather than code between fork and exec, because after the fork of a threaded program hardly anything may be done.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

pub use failure::{LaunchFailure, SpawnError, Step};
pub use spec::{LaunchSpec, Output};

pub use super::clone::Child;
pub use super::shim::shim_main;
use super::{
    clone::{Side, clone_into},
    environment::VARIABLE_PREFIX,
    handle::{ProcessHandle, terminate},
};
use crate::base;
use crate::base::Exit;

mod failure;
pub(super) mod spec;

/// The hidden verb that makes this program a shim.
pub const LAUNCH_VERB: &str = "__launch";
/// The variable with the [`LaunchSpec`] as JSON.
pub const LAUNCH_VARIABLE: &str = "REUSE_CTL_LAUNCH";

/// The first descriptor of the listeners that are handed over.
pub(super) const FIRST_INHERITED_FD: RawFd = 3;
/// Timeout of the shim. Its steps are local and quick; only a hanging network file system can delay it.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(10);

/// A worker that has been started: the exec succeeded.
#[derive(Debug)]
pub struct Running {
    /// The pid of its main process, which leads a process group of this number.
    pub pid: u32,
    /// The child process, for [`Child::wait`]. Dropping it does not end the process.
    pub child: Child,
    /// A handle for signals to the main process only.
    pub handle: ProcessHandle,
}

impl Running {
    /// Sends a signal to the main process. Returns false if it has ended.
    ///
    /// # Errors
    /// EPERM.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        self.handle.signal(signal)
    }
}

/// How the shim is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// A program that calls [`shim_main`].
    pub program: PathBuf,
    /// The arguments that make it do so.
    pub args: Vec<OsString>,
}

impl Default for Launcher {
    /// Uses this program itself, even if its file was replaced meanwhile.
    fn default() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            args: vec![LAUNCH_VERB.into()],
        }
    }
}

impl Launcher {
    /// Starts a worker, with `channel` as its end of the IPC channel, and returns when its command runs.
    ///
    /// # Errors
    /// See [`SpawnError`]. No process is left then.
    pub async fn spawn(&self, spec: &LaunchSpec, channel: OwnedFd) -> Result<Running, SpawnError> {
        let json = serde_json::to_string(spec)?;
        let (sender, mut receiver) = pipe::pipe().map_err(SpawnError::Pipe)?;
        let sender = sender.into_blocking_fd().map_err(SpawnError::Pipe)?;
        let mut child = self.start(spec, json, sender, channel)?;
        let pid = child.id();

        let mut words = Vec::new();
        let outcome = tokio::time::timeout(LAUNCH_PATIENCE, receiver.read_to_end(&mut words)).await;
        let error = match outcome {
            Ok(Ok(0)) => match ProcessHandle::open(pid) {
                // A killed shim also closes the pipe; wait() then reports the same as for a killed worker.
                Ok(handle) => return Ok(Running { pid, child, handle }),
                Err(source) => SpawnError::Pipe(source),
            },
            // The shim itself could not be executed, so only an errno was written.
            Ok(Ok(ERRNO_BYTES)) => SpawnError::Shim {
                program: self.program.clone(),
                source: io::Error::from_raw_os_error(i32::from_ne_bytes(words[..].try_into().expect("its length"))),
            },
            Ok(Ok(_)) => SpawnError::Launch(serde_json::from_slice(&words)?),
            Ok(Err(source)) => SpawnError::Pipe(source),
            Err(_) => SpawnError::Hung,
        };
        // The process may have ended already, which is fine.
        drop(terminate(pid, Signal::SIGKILL));
        drop(child.wait().await);
        Err(error)
    }

    /// Starts the shim in its cgroup, with the error pipe as its standard input and the channel as its standard output: with other numbers
    /// the descriptors could leak into a process that another thread starts at the same moment. Both are closed here.
    fn start(&self, spec: &LaunchSpec, json: String, pipe: OwnedFd, channel: OwnedFd) -> Result<Child, SpawnError> {
        let failed = |source| SpawnError::Shim {
            program: self.program.clone(),
            source,
        };
        let image = Image::new(&self.program, &self.args, json, &spec.variables).map_err(failed)?;
        let folder = File::open(&spec.cgroup).map_err(failed)?;
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(failed)?;
        // SAFETY: the child makes only system calls, on what was prepared above, and executes the shim or ends.
        match unsafe { clone_into(&folder, false) }.map_err(failed)? {
            // SAFETY: this is the child.
            Side::Child => unsafe { image.execute(pipe.as_raw_fd(), channel.as_raw_fd(), null.as_raw_fd()) },
            Side::Parent(child) => Ok(child),
        }
    }
}

/// Length of the message in the pipe if the shim could not be executed. A failure that the shim reports itself is JSON, and longer.
const ERRNO_BYTES: usize = size_of::<i32>();

/// The arguments of execve(2), prepared before the clone because nothing may be allocated after it.
struct Image {
    program: CString,
    /// Owns the strings that the pointers point to.
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
    argument_pointers: Vec<*const libc::c_char>,
    environment_pointers: Vec<*const libc::c_char>,
}

impl Image {
    fn new(
        program: &Path,
        arguments: &[OsString],
        json: String,
        variables: &[(OsString, OsString)],
    ) -> io::Result<Self> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
        let program = text(program.as_os_str().as_bytes().to_vec())?;
        let mut all = vec![program.clone()];
        for argument in arguments {
            all.push(text(argument.as_bytes().to_vec())?);
        }
        let mut environment = vec![text(format!("{LAUNCH_VARIABLE}={json}").into_bytes())?];
        let is_own =
            |name: &OsString| name != LAUNCH_VARIABLE && !name.as_bytes().starts_with(VARIABLE_PREFIX.as_bytes());
        for (name, value) in std::env::vars_os().filter(|(name, _)| is_own(name)) {
            environment.push(text([name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        for (name, value) in variables {
            let parts = [VARIABLE_PREFIX.as_bytes(), name.as_bytes(), b"=", value.as_bytes()];
            environment.push(text(parts.concat())?);
        }
        let pointers = |texts: &[CString]| {
            texts
                .iter()
                .map(|text| text.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        Ok(Self {
            program,
            argument_pointers: pointers(&all),
            environment_pointers: pointers(&environment),
            _arguments: all,
            _environment: environment,
        })
    }

    /// Becomes the shim, with `pipe` as standard input and `channel` as standard output. If that fails, writes the errno to the pipe and
    /// exits.
    ///
    /// # Safety
    /// Only in a child in which no other thread runs.
    unsafe fn execute(&self, pipe: RawFd, channel: RawFd, null: RawFd) -> ! {
        // SAFETY: open descriptors, and arrays that end with a null pointer.
        unsafe {
            libc::dup2(pipe, libc::STDIN_FILENO);
            libc::dup2(channel, libc::STDOUT_FILENO);
            libc::dup2(null, libc::STDERR_FILENO);
            libc::execve(
                self.program.as_ptr(),
                self.argument_pointers.as_ptr(),
                self.environment_pointers.as_ptr(),
            );
            let errno = (*libc::__errno_location()).to_ne_bytes();
            libc::write(libc::STDIN_FILENO, errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }
}

/// [`Launcher::spawn`] with this program as the shim.
///
/// # Errors
/// See [`SpawnError`].
pub async fn spawn(spec: &LaunchSpec, channel: OwnedFd) -> Result<Running, SpawnError> {
    Launcher::default().spawn(spec, channel).await
}

/// How a process ended, in the supervisor's type.
pub fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(named(signal)),
        (None, None) => Exit::Code(-1),
    }
}

fn named(number: i32) -> base::Signal {
    base::Signal {
        number,
        name: Signal::try_from(number).ok().map(Signal::as_str),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn an_exit_is_a_code_or_a_signal() {
        assert_eq!(exit_of(ExitStatus::from_raw(3 << 8)), Exit::Code(3));
        assert_eq!(
            exit_of(ExitStatus::from_raw(libc::SIGKILL)),
            Exit::Signal(base::Signal {
                number: libc::SIGKILL,
                name: Some("SIGKILL")
            })
        );
    }
}
