//! `--watch`: reports when files have changed.
//!
//! Uses inotify directly and not a crate built on it. Those watch whole trees including ignored folders (`node_modules` alone may have more
//! folders than the kernel has watches), and ask for an event for every opened file, which a server causes with each request.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::sleep_until,
};

use super::live::BackgroundEvent;
use crate::app::{
    options::WatchOptions,
    recycle_changes::{Burst, Ignored, shown},
};
use crate::process::file_identity::identity_of;

/// Interval of checks whether a watched path still refers to the same file or folder. inotify doesn't report when a missing path comes
/// back, or when a symbolic link changes.
const ROOTS_EVERY: Duration = Duration::from_millis(500);

/// Why files can't be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// A path is missing.
    #[error("--watch {}: {source}", path.display())]
    Root {
        /// The path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// inotify_init1(2) or inotify_add_watch(2) failed.
    #[error("watching {}: {source}", path.display())]
    Inotify {
        /// The path.
        path: PathBuf,
        /// The kernel's error. ENOSPC: there are no watches left.
        source: io::Error,
    },
}

impl WatchError {
    /// What the user should do next, in one line.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Root { .. } => "give files and folders that are there, relative to the working folder",
            Self::Inotify { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                "leave folders out with --watch-ignore, or allow more: sysctl -w fs.inotify.max_user_watches=524288"
            }
            Self::Inotify { source, .. } if source.raw_os_error() == Some(libc::EMFILE) => {
                "allow more: sysctl -w fs.inotify.max_user_instances=512"
            }
            Self::Inotify { .. } => "leave it out with --watch-ignore",
        }
    }
}

/// What is reported.
#[derive(Debug)]
pub(crate) enum Told {
    /// A change, in words: "server.js has changed".
    Changed(String),
    /// A problem that users should know.
    Problem(String),
}

/// The watched files.
#[derive(Debug)]
pub(crate) struct Files {
    inotify: AsyncFd<Descriptor>,
    roots: Vec<Root>,
    folders: HashMap<WatchDescriptor, PathBuf>,
    ignored: Ignored,
    base: PathBuf,
    delay: Duration,
}

/// A path that the user named.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Device and inode; `None` while the path is missing.
    identity: Option<(u64, u64)>,
}

impl Files {
    /// Begins to watch what is to be watched; the app's own `folders` do not count. Needs a runtime.
    ///
    /// # Errors
    /// A path is not there, or can't be watched.
    pub(crate) fn meant(options: &WatchOptions, base: &Path, folders: Vec<PathBuf>) -> Result<Self, WatchError> {
        // The globs were judged when the options were.
        let ignored = Ignored::new(&options.ignore, base, folders).expect("check() has seen them");
        Self::watch(&options.paths, base, ignored, options.delay)
    }

    /// Begins to watch. Needs a runtime.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub(crate) fn watch(paths: &[PathBuf], base: &Path, ignored: Ignored, delay: Duration) -> Result<Self, WatchError> {
        let refused = |error: io::Error| WatchError::Inotify {
            path: base.to_owned(),
            source: error,
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify.map_err(|errno| refused(errno.into()))?;
        // SAFETY: the descriptor is owned, and stays open and unchanged as long as the registration.
        let inotify = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) };
        let inotify = inotify.map_err(|error| refused(error.into()))?;
        let mut files = Self {
            inotify,
            roots: Vec::new(),
            folders: HashMap::new(),
            ignored,
            base: base.to_owned(),
            delay,
        };
        for path in paths {
            // Without `.` components, so that it is a prefix of the paths below it.
            let path: PathBuf = base.join(path).components().collect();
            let identity = identity_of(&path).map_err(|source| WatchError::Root {
                path: path.clone(),
                source,
            })?;
            files.roots.push(Root {
                path: path.clone(),
                identity: Some(identity),
            });
            files.add_root(&path)?;
        }
        Ok(files)
    }

    /// Reports changes until it is aborted.
    pub(crate) async fn tell(mut self, background_events: mpsc::Sender<BackgroundEvent>) {
        let mut burst: Option<Burst> = None;
        let mut next_roots = Instant::now() + ROOTS_EVERY;
        loop {
            // Waits while a path is being replaced.
            let is_complete = self.roots.iter().all(|root| root.identity.is_some());
            let over = burst.as_ref().filter(|_| is_complete).map(Burst::over_at);
            let wake = over.map_or(next_roots, |over| over.min(next_roots));
            let mut changed = Vec::new();
            let mut problems = Vec::new();
            tokio::select! {
                read = read_events(&self.inotify) => match read {
                    Ok(events) => for event in events {
                        match self.take(&event) {
                            Ok(path) => changed.extend(path),
                            Err(error) => problems.push(error),
                        }
                    },
                    Err(error) => {
                        let problem = format!("files are no longer watched: {error}");
                        return drop(background_events.send(BackgroundEvent::Files(Told::Problem(problem))).await);
                    }
                },
                () = sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            // Also checked before a report: no worker should start from a folder that is just being replaced.
            if now >= wake {
                next_roots = now + ROOTS_EVERY;
                match self.look_at_roots() {
                    Ok(paths) => changed.extend(paths),
                    Err(error) => problems.push(error),
                }
            }
            for path in changed {
                match &mut burst {
                    Some(burst) => burst.add(path, now),
                    None => burst = Some(Burst::new(self.delay, path, now)),
                }
            }
            let mut told: Vec<Told> = problems
                .iter()
                .map(|error| Told::Problem(format!("{error}; {}", error.hint())))
                .collect();
            if let Some(path) = burst.as_mut().and_then(|burst| burst.restless(now)) {
                let name = shown(path, &self.base);
                told.push(Told::Problem(format!(
                    "{name} and files near it keep changing: workers are reloaded only after the changes stop; leave them out with --watch-ignore"
                )));
            }
            let is_complete = self.roots.iter().all(|root| root.identity.is_some());
            if let Some(over) = burst.take_if(|burst| is_complete && burst.over_at() <= now) {
                told.push(Told::Changed(over.describe(&self.base)));
            }
            for told in told {
                // The receiver exists as long as this task has not been aborted.
                drop(background_events.send(BackgroundEvent::Files(told)).await);
            }
        }
    }

    /// The changed path of an event, unless it is ignored.
    pub(crate) fn take(&mut self, event: &InotifyEvent) -> Result<Option<PathBuf>, WatchError> {
        use AddWatchFlags as F;
        if event.mask.contains(F::IN_Q_OVERFLOW) {
            // The kernel's queue has overflowed, so anything may have changed.
            for index in 0..self.roots.len() {
                self.add_root(&self.roots[index].path.clone())?;
            }
            return Ok(self.roots.first().map(|root| root.path.clone()));
        }
        let Some(folder) = self.folders.get(&event.wd) else {
            return Ok(None);
        };
        if event.mask.contains(F::IN_IGNORED) {
            self.folders.remove(&event.wd);
            return Ok(None);
        }
        let Some(name) = &event.name else { return Ok(None) };
        let path = folder.join(name);
        if !self.counts(&path) {
            return Ok(None);
        }
        if event.mask.contains(F::IN_ISDIR) {
            if event.mask.intersects(F::IN_CREATE | F::IN_MOVED_TO) {
                self.add_tree(&path)?;
            } else if event.mask.intersects(F::IN_DELETE | F::IN_MOVED_FROM) {
                self.forget_tree(&path);
            } else {
                return Ok(None);
            }
        }
        Ok(Some(path))
    }

    /// Whether the user wants to know of a change of this path.
    fn counts(&self, path: &Path) -> bool {
        self.roots
            .iter()
            .any(|root| path.starts_with(&root.path) && !self.ignored.ignores(&root.path, path))
    }

    /// Finds paths that have come back, or refer to something else now.
    fn look_at_roots(&mut self) -> Result<Vec<PathBuf>, WatchError> {
        let mut changed = Vec::new();
        for index in 0..self.roots.len() {
            let path = self.roots[index].path.clone();
            let now = identity_of(&path).ok();
            if now == self.roots[index].identity {
                continue;
            }
            self.roots[index].identity = now;
            self.forget_tree(&path);
            if now.is_some() {
                self.add_root(&path)?;
                changed.push(path);
            }
        }
        Ok(changed)
    }

    /// Watches a folder with everything below it. Of a file its folder is watched, because editors replace the file.
    fn add_root(&mut self, path: &Path) -> Result<(), WatchError> {
        if path.is_dir() {
            return self.add_tree(path);
        }
        self.add_folder(path.parent().unwrap_or(Path::new("/")))
    }

    fn add_tree(&mut self, path: &Path) -> Result<(), WatchError> {
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            self.add_folder(&folder)?;
            // A folder that has been removed meanwhile has nothing to watch.
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            // Symbolic links are not followed: they may form a cycle.
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| entry.path()).filter(|path| self.counts(path)));
        }
        Ok(())
    }

    fn add_folder(&mut self, path: &Path) -> Result<(), WatchError> {
        use AddWatchFlags as F;
        let mask = F::IN_CREATE
            | F::IN_DELETE
            | F::IN_MODIFY
            | F::IN_ATTRIB
            | F::IN_MOVED_FROM
            | F::IN_MOVED_TO
            | F::IN_ONLYDIR;
        match self.inotify.get_ref().0.add_watch(path, mask) {
            Ok(descriptor) => {
                self.folders.insert(descriptor, path.to_owned());
                Ok(())
            }
            // It has been removed, is a file now, or may not be read.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(()),
            Err(errno) => Err(WatchError::Inotify {
                path: path.to_owned(),
                source: errno.into(),
            }),
        }
    }

    /// Stops watching a folder that was moved away and would still cause events.
    fn forget_tree(&mut self, path: &Path) {
        for (descriptor, _) in self.folders.extract_if(|_, folder| folder.starts_with(path)) {
            // The kernel has dropped the watches of removed folders.
            self.inotify.get_ref().0.rm_watch(descriptor).ok();
        }
    }
}

/// Waits for events and returns at least one. Cancel-safe.
async fn read_events(inotify: &AsyncFd<Descriptor>) -> io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = inotify.readable().await?;
        let read = ready.try_io(|inotify| inotify.get_ref().0.read_events().map_err(io::Error::from));
        match read {
            Ok(events) => return events,
            Err(_would_block) => {}
        }
    }
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl std::os::fd::AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
