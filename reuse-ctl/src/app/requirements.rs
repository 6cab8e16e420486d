//! Missing requirements: what an app needs and this machine lacks. They are found by the functions that start the app, but all at once and
//! without starting anything.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::app::command_line::working_folder;
use crate::{
    app::{
        command_line::{CommandLine, tried_variables},
        options::{LogTarget, RunOptions},
    },
    process::{
        command::CommandError,
        env_file::{self, EnvFileError, Rights},
        file_identity::identity_of,
        identity::{self, Identity, IdentityError},
        journal,
        variables::{Variables, VariablesError},
    },
};

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The working folder and the env files.
    Files,
    /// For a running app: everything that doesn't depend on PATH, HOME or other variables, because its controller has others than this
    /// process.
    Change,
    /// For an app that is to be started from here: everything.
    Start,
}

/// A requirement that is missing or unusable.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The working folder.
    #[error("there is no folder {}", path.display())]
    Folder {
        /// Its path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// An env file.
    #[error("{source}")]
    EnvFile {
        /// Its index in the order given, from 0.
        number: usize,
        /// Why it can't be used.
        source: EnvFileError,
    },
    /// Variables that can't be set.
    #[error(transparent)]
    Variables(#[from] VariablesError),
    /// The program.
    #[error("{source}")]
    Command {
        /// Why it was not found.
        source: CommandError,
        /// Whether this user may not look at its place.
        denied: bool,
    },
    /// The user to run the workers as.
    #[error(transparent)]
    User(#[from] IdentityError),
    /// The group that may use the control socket.
    #[error("there is no group {0:?}")]
    Group(String),
    /// A watched file or folder.
    #[error("{}: {source}", path.display())]
    Watch {
        /// Its index in the order given, from 0.
        number: usize,
        /// Its path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// `--log journald`.
    #[error("journald does not run here: {0}")]
    Journal(#[source] io::Error),
}

impl Missing {
    /// Whether it may exist after all, and this user just has no permission to see it.
    pub fn is_denied(&self) -> bool {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Folder { source, .. }
            | Self::Watch { source, .. }
            | Self::EnvFile {
                source: EnvFileError::Open { source, .. },
                ..
            }
            | Self::Journal(source) => denied(source),
            Self::Command { denied, .. } => *denied,
            Self::EnvFile { .. } | Self::Variables(_) | Self::User(_) | Self::Group(_) => false,
        }
    }
}

/// Everything that is missing, seen with the permissions and in the environment of this process.
pub fn missing(options: &RunOptions, extent: Extent) -> Vec<Missing> {
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let mut missing = Vec::new();
    let folder = working_folder(options, &here).map_err(|one| missing.push(one)).ok();
    let files = unreadable(&options.environment.files, &here);
    let are_readable = files.is_empty();
    missing.extend(files);
    if extent == Extent::Files {
        return missing;
    }
    if are_readable {
        missing.extend(refused_variables(options, &here, extent).map(Missing::Variables));
    }
    missing.extend(missing_around(options));
    // Nothing relative to a missing folder can exist.
    if let Some(folder) = folder {
        missing.extend(missing_program(options, &folder, extent));
        missing.extend(unwatchable(options, &folder));
    }
    missing
}

fn unreadable(files: &[PathBuf], here: &Path) -> Vec<Missing> {
    let read = |(number, file): (usize, &PathBuf)| {
        let read = env_file::read(&here.join(file), Rights::Callers);
        read.err().map(|source| Missing::EnvFile { number, source })
    };
    files.iter().enumerate().filter_map(read).collect()
}

fn refused_variables(options: &RunOptions, here: &Path, extent: Extent) -> Option<VariablesError> {
    let tried = if extent == Extent::Start {
        tried_variables(options, here, Rights::Callers)
    } else {
        Variables::read(options.environment.clone(), here, Rights::Callers)
    };
    tried.err()
}

fn missing_program(options: &RunOptions, folder: &Path, extent: Extent) -> Option<Missing> {
    let program = options.command.first()?;
    let is_path = program.as_encoded_bytes().contains(&b'/');
    if !is_path && extent != Extent::Start {
        return None;
    }
    let source = CommandLine::resolve(options.command.clone(), folder.to_owned()).err()?;
    let seen = fs::metadata(folder.join(program));
    let denied = is_path && seen.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    Some(Missing::Command { source, denied })
}

fn unwatchable(options: &RunOptions, folder: &Path) -> Vec<Missing> {
    let paths = options.recycle.watch.iter().flat_map(|watch| &watch.paths);
    let look = |(number, path): (usize, &PathBuf)| {
        let path = folder.join(path);
        let source = identity_of(&path).err()?;
        Some(Missing::Watch { number, path, source })
    };
    paths.enumerate().filter_map(look).collect()
}

/// Names that must exist on the machine, and programs that must run on it.
fn missing_around(options: &RunOptions) -> Vec<Missing> {
    let user = options
        .user
        .as_deref()
        .and_then(|user| Identity::resolve(Some(user)).err());
    let group = options.control_group.as_ref();
    let group = group.filter(|group| identity::group_id(group).is_none());
    let journal = match options.logs.target {
        LogTarget::Journald => journal::check().err(),
        LogTarget::File => None,
    };
    let missing = [
        user.map(Missing::User),
        group.cloned().map(Missing::Group),
        journal.map(Missing::Journal),
    ];
    missing.into_iter().flatten().collect()
}
