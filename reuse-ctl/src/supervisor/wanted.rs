//! Resolves on this machine what an `apply` names: its folder, program, env files, watched files and user. File systems and user databases
//! may take any time, so this is done beside the task.

use std::{path::Path, sync::Arc};

use super::{recycle_files::Files, template::Version};
use crate::{
    app::options::RunOptions,
    base::{Failure, VersionId},
    process::{env_file::Rights, identity::Identity, paths::AppPaths},
    supervisor::preparing,
    wire::{Reply, SpecRequest},
};

/// The request, and the current state.
pub(crate) struct Search {
    pub(crate) request: SpecRequest,
    pub(crate) by_root: bool,
    /// The current version of the app.
    pub(crate) version: VersionId,
    pub(crate) old: Arc<RunOptions>,
    /// The user that the workers run as.
    pub(crate) workers: Identity,
    pub(crate) paths: AppPaths,
    /// Needed to watch files.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// The result.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) dry_run: bool,
    pub(crate) version: Version,
    pub(crate) watch: WatchedFiles,
    /// The version that it was compared with.
    pub(crate) old_version: VersionId,
    pub(crate) old: Arc<RunOptions>,
}

/// The files to watch.
#[derive(Debug)]
pub(crate) enum WatchedFiles {
    /// The same as now.
    Same,
    /// Other files; `None`: no more files.
    Other(Option<Box<Files>>),
}

impl Search {
    /// Resolves everything. This may take any time.
    ///
    /// # Errors
    /// Fails if something is invalid or missing.
    pub(crate) fn look(self) -> Result<Wanted, Box<Reply>> {
        self.found().map_err(|failure| Box::new(failure.into()))
    }

    fn found(self) -> Result<Wanted, Failure> {
        let Self {
            request,
            by_root,
            version: old_version,
            old,
            workers,
            paths,
            runtime,
        } = self;
        let new = request.spec.resolve()?;
        let new = RunOptions {
            spec: request.spec,
            user: user_meant(new.user, &workers, &old),
            ..new
        };
        // Root may name any file, other users only files that their workers could read.
        let rights = if by_root {
            Rights::Callers
        } else {
            Rights::Workers(&workers)
        };
        let version = Version::resolve(new, rights)?;
        let watch = if request.dry_run {
            WatchedFiles::Same
        } else {
            let _in_runtime = runtime.enter();
            watched(&old, &version.options, &paths)?
        };
        Ok(Wanted {
            dry_run: request.dry_run,
            version,
            watch,
            old_version,
            old,
        })
    }
}

/// The user to compare. If none is named, it is the user that the workers run as, which was decided when the app was started. The same user
/// may also have been named differently.
fn user_meant(user: Option<String>, workers: &Identity, old: &RunOptions) -> Option<String> {
    let is_own = |user: &String| Identity::resolve(Some(user)).is_ok_and(|named| named.uid == workers.uid);
    match user.filter(|user| !is_own(user)) {
        None => old.user.clone(),
        other => other,
    }
}

fn watched(old: &RunOptions, new: &RunOptions, paths: &AppPaths) -> Result<WatchedFiles, Failure> {
    if old.recycle.watch == new.recycle.watch && (old.cwd == new.cwd || new.recycle.watch.is_none()) {
        return Ok(WatchedFiles::Same);
    }
    let cwd = new.cwd.as_deref().unwrap_or(Path::new("/"));
    let files = preparing::watched_files(new, cwd, paths)?;
    Ok(WatchedFiles::Other(files.map(Box::new)))
}
