//! What workers are started from: what all of them share, and the versions of the command.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use super::{
    asks::refusal,
    interface::{SlotId, VersionId},
};
use crate::{
    api::types::{CanaryRequest, ErrorKind, Reply},
    options::{LogOptions, LogTarget},
    process::{
        cgroup::{AppCgroup, InstanceCgroup},
        command::{self, CommandError, Search},
        identity::{self, Identity},
        journal,
        launch::{LaunchSpec, Output},
        paths::AppPaths,
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
    pub(super) stop_signal: Signal,
    pub(super) drain_timeout_ms: u64,
    pub(super) ready_timeout: Duration,
    pub(super) paths: AppPaths,
    pub(super) logs: LogOptions,
    /// By [`VersionId`]; the first is that of `run`, and none is ever removed.
    pub(super) versions: Vec<CommandLine>,
    pub(super) verbosity: u8,
}

impl Template {
    /// How the shim makes one.
    pub(super) fn launch_spec(&self, slot: SlotId, version: VersionId, cgroup: &InstanceCgroup) -> LaunchSpec {
        let command = usize::try_from(version.0)
            .ok()
            .and_then(|version| self.versions.get(version))
            .expect("the machine names only versions that it was given");
        LaunchSpec {
            app: self.app.clone(),
            slot: slot.0,
            program: command.program.clone(),
            args: command.args.clone(),
            cwd: command.cwd.clone(),
            path_prefix: command.path_prefix.clone(),
            cgroup: cgroup.path().to_owned(),
            output: match self.logs.target {
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
        }
    }

    /// Finds the command of a canary, as `run` finds its own, and gives it a number.
    pub(super) fn add_version(&mut self, request: &CanaryRequest) -> Result<VersionId, Box<Reply>> {
        let home = &self.versions[0].cwd;
        // A relative folder is relative to that of `run`; an absolute one stays as it is.
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
        let command = CommandLine::resolve(args, cwd)
            .map_err(|error| refusal(ErrorKind::Failed, error.to_string(), &error.hint()))?;
        let version = VersionId(u32::try_from(self.versions.len()).expect("people type them one by one"));
        self.versions.push(command);
        Ok(version)
    }

    /// Whether a person wants only what matters.
    pub(super) fn quiet(&self) -> bool {
        self.verbosity == 0
    }
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
