//! Looks up on this machine what an `apply` asks for: its folder, its program, its files of variables, the files that it watches, and its user.
//! File systems and user databases may take any time for that, so it is done beside the task.

use std::{path::Path, sync::Arc};

use super::{recycle_files::Files, template::Version};
use crate::{
    app::options::RunOptions,
    base::{Failure, VersionId},
    process::{env_file::Rights, identity::Identity, paths::AppPaths},
    supervisor::preparing,
    wire::{Reply, SpecRequest},
};

/// What is asked for, and what runs.
pub(crate) struct Search {
    pub(crate) request: SpecRequest,
    pub(crate) by_root: bool,
    /// What the app's workers are started from.
    pub(crate) version: VersionId,
    pub(crate) old: Arc<RunOptions>,
    /// Whom they run as.
    pub(crate) workers: Identity,
    pub(crate) paths: AppPaths,
    /// Files are watched with it.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) dry_run: bool,
    pub(crate) version: Version,
    pub(crate) watch: WatchedFiles,
    /// What it was compared with.
    pub(crate) old_version: VersionId,
    pub(crate) old: Arc<RunOptions>,
}

/// The files that are to be watched.
#[derive(Debug)]
pub(crate) enum WatchedFiles {
    /// Those that are.
    Same,
    /// Others; absent: none any more.
    Other(Option<Box<Files>>),
}

impl Search {
    /// Looks, for as long as that takes.
    ///
    /// # Errors
    /// Something is wrong, or not there.
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
        // Root may have named any file; nobody else one that his workers could not read.
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

/// Nobody named means whoever the workers run as: who that is was decided by how the app was started. The same user may have been named
/// differently.
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
