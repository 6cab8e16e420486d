//! Why an ecosystem file can't be translated.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::command::CommandError;

/// Why an ecosystem file could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A system call on the file failed.
    #[error("{call} {}: {source}", file.display())]
    File {
        /// The call.
        call: &'static str,
        /// The file.
        file: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The path is a folder, a device or a pipe.
    #[error("{} is not a regular file", .0.display())]
    NoRegularFile(PathBuf),
    /// The file is too large for a configuration.
    #[error("{} has {bytes} bytes: a configuration has {limit} at most", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// The maximum size.
        limit: u64,
    },
    /// The file's name does not tell its language.
    #[error("{}: its name does not tell what it is", .0.display())]
    UnknownKind(PathBuf),
    /// The file has a mistake at one place.
    #[error("{place}: {reason}")]
    Wrong {
        /// `file:line:column`, or as much of it as is known.
        place: String,
        /// What is wrong, in one line.
        reason: String,
        /// What to do; may be empty.
        hint: &'static str,
    },
    /// Neither Node nor Bun was found.
    #[error("{} is JavaScript, and there is neither node nor bun to evaluate it: {source}", file.display())]
    NoRuntime {
        /// The file.
        file: PathBuf,
        /// The error of the search for node.
        source: CommandError,
    },
    /// The user to evaluate the file as is unknown.
    #[error("{0}")]
    Identity(#[from] crate::process::identity::IdentityError),
    /// The runtime could not be started, or waiting for it failed.
    #[error("{call} {}: {source}", program.display())]
    Runtime {
        /// The system call.
        call: &'static str,
        /// The path of Node or Bun.
        program: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The file did not finish in time.
    #[error("{}: its evaluation has not ended after {}", file.display(), humantime::format_duration(*limit))]
    Timeout {
        /// The file.
        file: PathBuf,
        /// The timeout.
        limit: Duration,
    },
    /// The runtime ended without a result.
    #[error("{}: it ended {program} ({status}) before there was a configuration", file.display())]
    Ended {
        /// The file.
        file: PathBuf,
        /// Node or Bun.
        program: String,
        /// The exit status of the runtime.
        status: std::process::ExitStatus,
    },
    /// The result is too large for a configuration.
    #[error("{}: what it gives is larger than {limit} bytes", file.display())]
    ResultTooLarge {
        /// The file.
        file: PathBuf,
        /// The maximum size in bytes.
        limit: u64,
    },
}

impl ImportError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::File { .. } | Self::NoRegularFile(_) => {
                "give the file that `pm2 start` was given: reuse-ctl import ecosystem.config.js".into()
            }
            Self::TooLarge { .. } => "is it the right file?".into(),
            Self::UnknownKind(_) => {
                "it should end with .js, .cjs, .mjs, .json, .yaml or .yml; give a copy such a name".into()
            }
            Self::Wrong { hint, .. } => (*hint).into(),
            Self::NoRuntime { source, .. } => source.hint(),
            Self::Identity(error) => error.hint().into(),
            Self::Runtime { .. } => "does it start by hand? `node --version`".into(),
            Self::Timeout { .. } => {
                "a configuration must not wait for anything: does it connect or ask somewhere?".into()
            }
            Self::Ended { .. } => "remove the process.exit() from it, or run it by hand to see what it says".into(),
            Self::ResultTooLarge { .. } => "does a loop make the apps?".into(),
        }
    }
}
