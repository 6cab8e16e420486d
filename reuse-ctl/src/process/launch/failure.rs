//! Errors of starting a worker.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::LAUNCH_PATIENCE;

/// The steps of the shim, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Read the specification.
    Specification,
    /// Create a process group and reset signals.
    Signals,
    /// Open the logs, or connect to the journal.
    Log,
    /// Become the workers' user.
    User,
    /// Keep the right to bind low ports.
    Capabilities,
    /// Create the inherited listeners.
    Listen,
    /// Enter the working folder.
    Directory,
    /// Arrange descriptors.
    Descriptors,
    /// Run the command.
    Exec,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Specification => "reading the launch specification",
            Self::Signals => "resetting signals and process group",
            Self::Log => "opening log",
            Self::User => "becoming user",
            Self::Capabilities => "keeping the right to bind low ports as user",
            Self::Listen => "listening on",
            Self::Directory => "entering",
            Self::Descriptors => "arranging descriptors",
            Self::Exec => "running",
        })
    }
}

/// A failed step, as sent through the error pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step} {object}: {message}")]
pub struct LaunchFailure {
    /// The step.
    pub step: Step,
    /// The object of the step: a path, an address, a user.
    pub object: String,
    /// The errno, if the kernel refused.
    pub errno: Option<i32>,
    /// The error message.
    pub message: String,
}

impl LaunchFailure {
    pub(in crate::process) fn new(step: Step, object: impl fmt::Display, error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        let message = errno.map_or_else(
            || error.to_string(),
            |errno| nix::errno::Errno::from_raw(errno).desc().to_owned(),
        );
        Self {
            step,
            object: object.to_string(),
            errno,
            message,
        }
    }

    /// What the user should do next, in one line.
    pub fn hint(&self) -> String {
        match (self.step, self.errno) {
            (Step::Exec, Some(libc::ENOENT)) => {
                format!(
                    "{} is there, but the interpreter in its first line (#!) or its loader is not",
                    self.object
                )
            }
            (Step::Exec, Some(libc::ENOEXEC)) => {
                "it is neither a binary of this machine nor begins with #!; name the interpreter".into()
            }
            (Step::Exec | Step::Directory, Some(libc::EACCES)) => {
                format!(
                    "the workers' user may not reach or run {}; give another one with --user",
                    self.object
                )
            }
            (Step::Listen, Some(libc::EADDRINUSE)) => "another process has this port: `ss -ltnp` shows which".into(),
            (Step::Listen, Some(libc::EADDRNOTAVAIL)) => {
                "this machine has no such address: `ip addr` shows those it has".into()
            }
            _ => "see `reuse-ctl doctor`".into(),
        }
    }
}

/// Why a worker could not be started. No process of it is left.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The specification can't be written as JSON.
    #[error("writing the launch specification: {0}")]
    Specification(#[from] serde_json::Error),
    /// The error pipe could not be created or read.
    #[error("error pipe of the launch shim: {0}")]
    Pipe(#[source] io::Error),
    /// The shim itself could not be started.
    #[error("starting the launch shim {}: {source}", program.display())]
    Shim {
        /// The path of the shim.
        program: PathBuf,
        /// The kernel's error. E2BIG: the arguments are too long.
        source: io::Error,
    },
    /// A step of the shim failed.
    #[error(transparent)]
    Launch(#[from] LaunchFailure),
    /// The shim exceeded its timeout and was killed.
    #[error("the launch shim hung for {} s", LAUNCH_PATIENCE.as_secs())]
    Hung,
}

impl SpawnError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Launch(failure) => failure.hint(),
            Self::Shim { source, .. } if source.raw_os_error() == Some(libc::E2BIG) => {
                "the command's arguments or the worker's variables are too long; put them into a file".into()
            }
            Self::Hung => "see whether the program, the working folder or the log is on a network file system that does not answer".into(),
            _ => "see `reuse-ctl doctor`".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_step_and_object() {
        let failure = LaunchFailure::new(Step::Exec, "/srv/app", &io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(failure.to_string(), "running /srv/app: Permission denied");
        assert!(failure.hint().contains("--user"));
        let json = serde_json::to_string(&failure).expect("written");
        assert_eq!(serde_json::from_str::<LaunchFailure>(&json).expect("read"), failure);
    }
}
