//! Why an ecosystem file can't be translated.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::command::CommandError;

/// Why there is no `reuse.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A system call on the file failed.
    #[error("{call} {}: {source}", file.display())]
    File {
        /// Which call.
        call: &'static str,
        /// On what.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, a device, a pipe.
    #[error("{} is not a regular file", .0.display())]
    NoRegularFile(PathBuf),
    /// It is larger than any configuration.
    #[error("{} has {bytes} bytes: a configuration has {limit} at most", file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        limit: u64,
    },
    /// Its name says nothing about its language.
    #[error("{}: its name does not tell what it is", .0.display())]
    UnknownKind(PathBuf),
    /// The file is wrong at one place.
    #[error("{place}: {reason}")]
    Wrong {
        /// `file:line:column`, or as much of it as is known.
        place: String,
        /// What is wrong, in one line.
        reason: String,
        /// What to do; may be empty.
        hint: &'static str,
    },
    /// Neither Node nor Bun can be found.
    #[error("{} is JavaScript, and there is neither node nor bun to evaluate it: {source}", file.display())]
    NoRuntime {
        /// Which file.
        file: PathBuf,
        /// Of the look for node.
        source: CommandError,
    },
    /// The user to evaluate it as is not known.
    #[error("{0}")]
    Identity(#[from] crate::process::identity::IdentityError),
    /// The runtime could not be started, or not be waited for.
    #[error("{call} {}: {source}", program.display())]
    Runtime {
        /// Which system call.
        call: &'static str,
        /// Node or Bun.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file did not come to its end.
    #[error("{}: its evaluation has not ended after {}", file.display(), humantime::format_duration(*limit))]
    Timeout {
        /// Which.
        file: PathBuf,
        /// How long it had.
        limit: Duration,
    },
    /// The runtime ended before there was a result.
    #[error("{}: it ended {program} ({status}) before there was a configuration", file.display())]
    Ended {
        /// Which file.
        file: PathBuf,
        /// Node or Bun.
        program: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// The result is larger than any configuration.
    #[error("{}: what it gives is larger than {limit} bytes", file.display())]
    ResultTooLarge {
        /// Which file.
        file: PathBuf,
        /// How large it may be.
        limit: u64,
    },
}

impl ImportError {
    /// What to do next, in one line.
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
