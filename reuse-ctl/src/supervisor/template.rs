//! What workers are started from: what all of them share, and the versions of the command.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    asks::refusal,
    interface::{SlotId, VersionId},
};
use crate::{
    api::types::{CanaryRequest, ErrorKind, Reply},
    cli::Failure,
    options::{LogTarget, RunOptions},
    process::{
        cgroup::{AppCgroup, InstanceCgroup},
        command::{self, CommandError, Search},
        descriptors,
        env_file::Rights,
        identity::{self, Identity},
        journal,
        launch::{LaunchSpec, Output},
        paths::AppPaths,
        variables::{Variables, VariablesError},
    },
};

/// What every worker is started from.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) app: String,
    pub(super) cgroup: AppCgroup,
    pub(super) identity: Identity,
    pub(super) ports: Vec<u16>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) paths: AppPaths,
    /// By [`VersionId`]; the first is that of `run`, and none is ever removed.
    pub(super) versions: Vec<Version>,
    pub(super) verbosity: u8,
}

/// What an instance is started from, and all else that was said of the app then. What is changed without a new start (`apply`) is changed
/// here, too.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) command: CommandLine,
    pub(super) options: Arc<RunOptions>,
    pub(super) variables: Variables,
}

impl Template {
    /// How the shim makes one.
    ///
    /// # Errors
    /// Its variables can't be made.
    pub(super) fn launch_spec(
        &self,
        slot: SlotId,
        version: VersionId,
        cgroup: &InstanceCgroup,
    ) -> Result<LaunchSpec, VariablesError> {
        let Version { command, variables, .. } = self.version(version);
        Ok(LaunchSpec {
            app: self.app.clone(),
            slot: slot.0,
            program: command.program.clone(),
            args: command.args.clone(),
            cwd: command.cwd.clone(),
            path_prefix: command.path_prefix.clone(),
            cgroup: cgroup.path().to_owned(),
            output: match self.options(version).logs.target {
                LogTarget::File => Output::Files {
                    out: self.paths.log_file(slot),
                    err: self.paths.err_log_file(slot),
                },
                LogTarget::Journald => Output::Journal {
                    identifier: journal::identifier(&self.app, slot.0),
                },
            },
            identity: self.identity.clone(),
            listen: self.listen.clone(),
            descriptors: descriptors::found_limit(),
            variables: variables.of(&self.app, slot.0, inherited)?,
        })
    }

    /// Reads the files of variables again: what is started from these versions from now on gets them as they are now.
    ///
    /// # Errors
    /// They can't be used; then everything stays as it was.
    pub(super) fn renew_variables(&mut self, versions: &[VersionId]) -> Result<(), VariablesError> {
        let read: Vec<_> = versions
            .iter()
            .map(|&id| Ok((id, self.version(id).variables.reread(&self.identity)?)))
            .collect::<Result<_, VariablesError>>()?;
        for (id, variables) in read {
            self.version_mut(id).variables = variables;
        }
        Ok(())
    }

    /// What the machine means by this number.
    pub(super) fn version(&self, version: VersionId) -> &Version {
        usize::try_from(version.0)
            .ok()
            .and_then(|version| self.versions.get(version))
            .expect("the machine names only versions that it was given")
    }

    /// All that was said of it.
    pub(super) fn options(&self, version: VersionId) -> &Arc<RunOptions> {
        &self.version(version).options
    }

    /// What was said of it has changed, and nothing that its command was resolved from.
    pub(super) fn replace_options(&mut self, version: VersionId, options: Arc<RunOptions>) {
        self.version_mut(version).options = options;
    }

    fn version_mut(&mut self, version: VersionId) -> &mut Version {
        usize::try_from(version.0)
            .ok()
            .and_then(|version| self.versions.get_mut(version))
            .expect("the machine names only versions that it was given")
    }

    /// Gives it a number.
    pub(super) fn push_version(&mut self, version: Version) -> VersionId {
        let id = VersionId(u32::try_from(self.versions.len()).expect("people type them one by one"));
        self.versions.push(version);
        id
    }

    /// Finds the command of a canary, as `run` finds its own, and gives it a number. In all else it is as the version `like`.
    pub(super) fn add_canary(&mut self, request: &CanaryRequest, like: VersionId) -> Result<VersionId, Box<Reply>> {
        let like = self.version(like);
        let home = &like.command.cwd;
        // A relative folder is relative to the app's; an absolute one stays as it is.
        let cwd = request.cwd.as_ref().map_or_else(|| home.clone(), |cwd| home.join(cwd));
        if !cwd.is_dir() {
            return Err(refusal(
                ErrorKind::Failed,
                format!("there is no folder {}", cwd.display()),
                "give the folder that the canary is to run in",
            ));
        }
        let args: Vec<OsString> = request.command.iter().map(OsString::from).collect();
        if args.is_empty() {
            return Err(refusal(
                ErrorKind::Usage,
                "no command".into(),
                "reuse-ctl canary --weight 5% -- ./server-v2",
            ));
        }
        let options = RunOptions {
            cwd: Some(cwd.clone()),
            command: args.clone(),
            ..RunOptions::clone(&like.options)
        };
        let command = CommandLine::resolve(args, cwd)
            .map_err(|error| refusal(ErrorKind::Failed, error.to_string(), &error.hint()))?;
        let version = Version {
            command,
            options: Arc::new(options),
            variables: like.variables.clone(),
        };
        Ok(self.push_version(version))
    }

    /// Whether a person wants only what matters.
    pub(super) fn quiet(&self) -> bool {
        self.verbosity == 0
    }
}

impl Version {
    /// Looks up what the options mean on this machine now: the working folder, the program, the files of variables.
    ///
    /// # Errors
    /// Either is not there.
    pub(super) fn resolve(options: RunOptions, rights: Rights<'_>) -> Result<Self, Failure> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::failed(format!("the working folder: {error}"), "cd to one that exists"))?;
        let cwd = options.cwd.as_ref().map_or_else(|| here.clone(), |cwd| here.join(cwd));
        if !cwd.is_dir() {
            return Err(Failure::usage(
                format!("--cwd: there is no folder {}", cwd.display()),
                "give the folder that the command is to run in",
            ));
        }
        let variables = variables(&options, &here, rights)?;
        let command = CommandLine::resolve(options.command.clone(), cwd.clone())
            .map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
        let options = Arc::new(RunOptions {
            cwd: Some(cwd),
            ..options
        });
        Ok(Self {
            command,
            options,
            variables,
        })
    }
}

/// Those of the first workers are made as a trial: what is wrong with them is to be said before anything is started.
fn variables(options: &RunOptions, folder: &Path, rights: Rights<'_>) -> Result<Variables, Failure> {
    let tried = Variables::read(options.environment.clone(), folder, rights).and_then(|variables| {
        (0..options.workers).try_for_each(|slot| variables.of(&options.name, slot, inherited).map(drop))?;
        Ok(variables)
    });
    tried.map_err(|error| Failure::usage(error.to_string(), error.hint()))
}

/// A variable of the controller's own.
pub(super) fn inherited(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A command that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    program: PathBuf,
    /// The command as typed, then its arguments.
    args: Vec<OsString>,
    cwd: PathBuf,
    path_prefix: Vec<PathBuf>,
}

impl CommandLine {
    pub(super) fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Finds the program that the first of `args` means in `cwd`, on the caller's PATH, or in the usual places of the caller's home.
    pub(super) fn resolve(args: Vec<OsString>, cwd: PathBuf) -> Result<Self, CommandError> {
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
