//! Resolves a command, a working folder and variables on this machine.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use super::{options::RunOptions, requirements::Missing};
use crate::process::{
    command::{self, CommandError, Search},
    env_file::Rights,
    identity,
    variables::{Variables, VariablesError},
};

/// Computes the variables of the first workers as a trial, so that mistakes are reported before anything is started.
///
/// # Errors
/// Fails if a file can't be used, or a worker's variables can't be set.
pub(crate) fn tried_variables(
    options: &RunOptions,
    folder: &Path,
    rights: Rights<'_>,
) -> Result<Variables, VariablesError> {
    let variables = Variables::read(options.environment.clone(), folder, rights)?;
    (0..options.workers).try_for_each(|slot| variables.of(&options.name, slot, inherited).map(drop))?;
    Ok(variables)
}

/// A variable from the controller's own environment.
pub(crate) fn inherited(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The working folder of the command; relative to `here` if it is not absolute.
///
/// # Errors
/// [`Missing::Folder`].
pub(crate) fn working_folder(options: &RunOptions, here: &Path) -> Result<PathBuf, Missing> {
    let path = options
        .cwd
        .as_ref()
        .map_or_else(|| here.to_owned(), |cwd| here.join(cwd));
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(Missing::Folder {
            path,
            source: Errno::ENOTDIR.into(),
        }),
        Err(source) => Err(Missing::Folder { path, source }),
    }
}

/// A command that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    /// The command as typed, followed by its arguments.
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    pub(crate) path_prefix: Vec<PathBuf>,
}

impl CommandLine {
    pub(crate) fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Finds the program that `args[0]` names in `cwd`, on the caller's PATH, or in the usual places of the caller's home.
    pub(crate) fn resolve(args: Vec<OsString>, cwd: PathBuf) -> Result<Self, CommandError> {
        let path = std::env::var_os("PATH");
        let home = identity::caller_home();
        let search = Search {
            cwd: &cwd,
            path: path.as_deref(),
            home: home.as_deref(),
        };
        let nothing = OsString::new();
        let resolved = command::resolve(args.first().unwrap_or(&nothing), &search)?;
        Ok(Self {
            program: resolved.program,
            path_prefix: resolved.path_prefix.into_iter().collect(),
            args,
            cwd,
        })
    }
}
