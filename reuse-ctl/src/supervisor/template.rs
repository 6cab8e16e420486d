//! What workers are started from: the parts that all share, and the versions of the command.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    sync::Arc,
};

use super::{asks::refusal, new_address::Named};
use crate::app::command_line::CommandLine;
use crate::app::command_line::inherited;
use crate::app::command_line::tried_variables;
use crate::{
    app::{
        command_line::working_folder,
        options::{LogTarget, RunOptions},
    },
    base::{ErrorKind, Failure, SlotId, VersionId},
    process::{
        cgroup::{AppCgroup, InstanceCgroup},
        descriptors,
        env_file::Rights,
        identity::Identity,
        journal,
        launch::{LaunchSpec, Output},
        paths::AppPaths,
        variables::{Variables, VariablesError},
    },
    wire::{CanaryRequest, Reply},
};
use reuse_machine::versions::Versions;

/// What every worker is started from.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) app: String,
    pub(crate) cgroup: AppCgroup,
    pub(crate) identity: Identity,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) paths: AppPaths,
    pub(crate) versions: Versions<Version>,
    pub(crate) verbosity: u8,
}

/// What an instance is started from, and all options in force at that time. Options changed without a new start (`apply`) are changed here
/// too.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) command: CommandLine,
    pub(crate) options: Arc<RunOptions>,
    pub(crate) variables: Variables,
}

impl Template {
    /// The shim's specification for an instance.
    ///
    /// # Errors
    /// Fails if its variables can't be computed.
    pub(crate) fn launch_spec(
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

    /// What an instance of this version is told that may say where to listen.
    pub(crate) fn told(&self, spec: &LaunchSpec, version: VersionId) -> Named {
        let options = self.options(version);
        let ports: Vec<String> = options.ports.iter().map(u16::to_string).collect();
        let values = spec.variables.iter().map(|(_, value)| value.as_os_str());
        let words = spec.args.iter().map(|word| word.as_os_str()).chain(values);
        Named::of(words.chain(ports.iter().map(OsStr::new)))
    }

    /// What the files of variables of these versions are to be read for; none if there are no files.
    pub(crate) fn renewal(&self, versions: impl IntoIterator<Item = VersionId>) -> Renewal {
        let all = versions.into_iter().map(|id| (id, self.version(id).variables.clone()));
        Renewal {
            variables: all.filter(|(_, variables)| variables.have_files()).collect(),
            workers: self.identity.clone(),
        }
    }

    /// Uses the contents that were read for instances started from these versions from now on.
    pub(crate) fn renew(&mut self, read: Renewed) {
        for (id, variables) in read.0 {
            if let Some(version) = self.versions.get_mut(id) {
                version.variables = variables;
            }
        }
    }

    /// The version with this number.
    pub(crate) fn version(&self, version: VersionId) -> &Version {
        self.versions.of(version)
    }

    /// The options of this version.
    pub(crate) fn options(&self, version: VersionId) -> &Arc<RunOptions> {
        &self.version(version).options
    }

    /// Replaces the options of a version. Those from which its command was resolved must be unchanged.
    pub(crate) fn replace_options(&mut self, version: VersionId, options: Arc<RunOptions>) {
        let version = self.versions.get_mut(version);
        version.expect("what the machine names is in use").options = options;
    }

    /// Whether only important messages are wanted.
    pub(crate) fn quiet(&self) -> bool {
        self.verbosity == 0
    }
}

/// Env files to read, and whose permissions apply if their real paths have changed.
#[derive(Debug)]
pub(crate) struct Renewal {
    variables: Vec<(VersionId, Variables)>,
    workers: Identity,
}

/// The contents that were read for a [`Renewal`].
#[derive(Debug)]
pub(crate) struct Renewed(Vec<(VersionId, Variables)>);

impl Renewal {
    pub(crate) fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// Reads the files now. This may take any time.
    ///
    /// # Errors
    /// Fails if one of them can't be used.
    pub(crate) fn read(self) -> Result<Renewed, VariablesError> {
        let Self { variables, workers } = self;
        let reread = |(id, variables): (VersionId, Variables)| Ok((id, variables.reread(&workers)?));
        variables.into_iter().map(reread).collect::<Result<_, _>>().map(Renewed)
    }
}

impl Renewed {
    pub(crate) fn of(&self, id: VersionId) -> Option<&Variables> {
        self.0
            .iter()
            .find(|(other, _)| *other == id)
            .map(|(_, variables)| variables)
    }
}

impl Version {
    /// Finds a canary's command, as `run` finds its own. Everything else is taken from this version, whose number is `own`, with the given
    /// contents of its env files.
    ///
    /// # Errors
    /// Fails if the folder or the command doesn't exist.
    pub(crate) fn canary(self, own: VersionId, request: &CanaryRequest, renewed: &Renewed) -> Result<Self, Box<Reply>> {
        let home = &self.command.cwd;
        // A relative folder is relative to the app's; an absolute one replaces it.
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
            spec: self.options.spec.with_command(&args, &cwd),
            ..RunOptions::clone(&self.options)
        };
        let command = CommandLine::resolve(args, cwd)
            .map_err(|error| refusal(ErrorKind::Failed, error.to_string(), error.hint()))?;
        Ok(Self {
            command,
            options: Arc::new(options),
            variables: renewed.of(own).cloned().unwrap_or(self.variables),
        })
    }

    /// Resolves the options on this machine: the working folder, the program, the env files.
    ///
    /// # Errors
    /// Fails if one of them is missing.
    pub(crate) fn resolve(options: RunOptions, rights: Rights<'_>) -> Result<Self, Failure> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::failed(format!("the working folder: {error}"), "cd to one that exists"))?;
        let cwd = working_folder(&options, &here).map_err(|missing| {
            Failure::usage(
                format!("--cwd: {missing}"),
                "give the folder that the command is to run in",
            )
        })?;
        let variables = tried_variables(&options, &here, rights)
            .map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
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
