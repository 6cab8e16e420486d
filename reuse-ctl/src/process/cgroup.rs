//! One cgroup per app, one below it per instance: whose a process is, and a way to end all of it at once.
//!
//! `<cgroup2 mount>/reuse-ctl/<app>/<slot>.<instance>`. No controller is switched on unless workers are to be limited
//! ([`cgroup_limits`](super::cgroup_limits)), so that a plain cgroup v2 mount, also the `unified` one of a hybrid machine, is enough.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};

use super::{
    cgroup_tree::{inode, is_gone, kill, pids_below, remove_tree, visit},
    shared_folder,
};
use crate::base::{InstanceId, SlotId};

const SHARED_PARENT: &str = "reuse-ctl";

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The machine has no cgroup v2 hierarchy mounted.
    #[error("no cgroup v2 hierarchy is mounted")]
    NoCgroup2,
    /// A file of the hierarchy could not be used.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// How the kernel answered.
        source: io::Error,
    },
    /// Processes fork faster than they can be killed.
    #[error("processes in {} survive SIGKILL: {pids:?}", path.display())]
    Unkillable {
        /// The cgroup.
        path: PathBuf,
        /// What is left.
        pids: Vec<u32>,
    },
    /// The deadline passed and processes are left.
    #[error("processes in {} have not ended: {pids:?}", path.display())]
    NotEmpty {
        /// The cgroup.
        path: PathBuf,
        /// What is left.
        pids: Vec<u32>,
    },
}

impl CgroupError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// What to do next, in one line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoCgroup2 => {
                "mount it: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => "run it as root (sudo)",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "in a container, mount cgroup v2 writable (--privileged, or --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw)"
            }
            Self::Io { .. } => "see `reuse-ctl doctor`",
            Self::Unkillable { .. } | Self::NotEmpty { .. } => {
                "look at these processes with ps; state D waits for a device"
            }
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, CgroupError>;

/// Where the cgroup v2 hierarchy is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// How many levels of the hierarchy lie above the mount (a mount of a subtree).
    hidden_levels: u32,
}

impl Hierarchy {
    /// Looks it up in this process's mount namespace.
    ///
    /// # Errors
    /// [`CgroupError::NoCgroup2`] if there is none, `Io` if /proc can't be read.
    pub fn find() -> Result<Self> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(CgroupError::io("read", path))?;
        hierarchy_in(&text).ok_or(CgroupError::NoCgroup2)
    }

    /// The mount point.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Whether the mount shows the root of the whole hierarchy. If not (a container with a cgroup namespace of its own), levels
    /// are counted from a deeper place than the kernel's helpers count from.
    ///
    /// # Errors
    /// `Io` if the mount point can't be examined.
    pub fn shows_root(&self) -> Result<bool> {
        // The root of a kernfs hierarchy always has inode number 1.
        Ok(inode(&self.mount)? == 1)
    }
}

/// The cgroup of an app; every process of every worker is in it or below.
#[derive(Debug, Clone)]
pub struct AppCgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl AppCgroup {
    /// Makes it, with its parents. One that is there already (of a dead controller) is taken as it is: see [`Self::leftovers`].
    ///
    /// # Errors
    /// [`CgroupError::NoCgroup2`], or `Io` if it can't be made.
    pub fn create(app: &str) -> Result<Self> {
        let hierarchy = Hierarchy::find()?;
        let path = hierarchy.mount.join(SHARED_PARENT).join(app);
        shared_folder::create(&path).map_err(CgroupError::io("mkdir", &path))?;
        Ok(Self { hierarchy, path })
    }

    /// The cgroup of this app if there is one.
    ///
    /// # Errors
    /// [`CgroupError::NoCgroup2`], or `Io`.
    pub fn existing(app: &str) -> Result<Option<Self>> {
        let hierarchy = Hierarchy::find()?;
        let path = hierarchy.mount.join(SHARED_PARENT).join(app);
        let exists = path.try_exists().map_err(CgroupError::io("stat", &path))?;
        Ok(exists.then_some(Self { hierarchy, path }))
    }

    /// The processes that a dead controller of this app left behind; empty if there is no such cgroup.
    ///
    /// # Errors
    /// As [`Self::existing`].
    pub fn leftovers(app: &str) -> Result<Vec<u32>> {
        Self::existing(app)?.map_or(Ok(Vec::new()), |cgroup| cgroup.pids())
    }

    /// Makes the cgroup of one instance.
    ///
    /// # Errors
    /// `Io` if it can't be made or is there already.
    pub fn instance(&self, slot: SlotId, instance: InstanceId) -> Result<InstanceCgroup> {
        let path = self.path.join(format!("{slot}.{}", instance.0));
        fs::create_dir(&path).map_err(CgroupError::io("mkdir", &path))?;
        let id = inode(&path)?;
        Ok(InstanceCgroup {
            was_killed: Arc::default(),
            level: self.instance_level(),
            id,
            path,
        })
    }

    /// Whether this cgroup, or one below it, has this number.
    pub fn has(&self, id: u64) -> bool {
        let mut found = false;
        // One that is removed meanwhile has no listeners any more.
        drop(visit(&self.path, &mut |path| {
            found |= inode(path).is_ok_and(|inode| inode == id);
            Ok(())
        }));
        found
    }

    /// The other app in whose cgroup, or below it, one with any of these numbers is. However many they are, the folders are walked once.
    pub fn sibling_with_any(&self, ids: &HashSet<u64>) -> Option<String> {
        let siblings = fs::read_dir(self.path.parent()?).ok()?;
        let is_there = |app: &Path| {
            let mut found = false;
            // One that is removed meanwhile has no listeners any more.
            drop(visit(app, &mut |path| {
                found |= inode(path).is_ok_and(|inode| ids.contains(&inode));
                Ok(())
            }));
            found
        };
        let mut others = siblings
            .flatten()
            .map(|entry| entry.path())
            .filter(|app| *app != self.path);
        let app = others.find(|app| app.is_dir() && is_there(app))?;
        Some(app.file_name()?.to_string_lossy().into_owned())
    }

    /// How many levels below the root of the hierarchy an instance's cgroup is.
    pub fn instance_level(&self) -> u32 {
        self.hierarchy.hidden_levels + 3
    }

    /// The directory, open: what a cgroup BPF program is attached to.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&self.path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hierarchy it is in.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Every process in it and below.
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        pids_below(&self.path)
    }

    /// Sends SIGKILL to every process in it and below; returns at once.
    ///
    /// # Errors
    /// `Io`, or [`CgroupError::Unkillable`] on kernels before 5.14.
    pub fn kill(&self) -> Result<()> {
        kill(&self.path)
    }

    /// Removes it with everything below, and the parent that all apps share if this was the last. Nothing to remove is no error.
    ///
    /// Blocks for at most about 200 ms, and only while the kernel lets go of processes that have just ended.
    ///
    /// # Errors
    /// `Io` with EBUSY while processes are left.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.path)?;
        // Not empty (another app runs), or another controller was faster: both are fine.
        drop(fs::remove_dir(self.hierarchy.mount.join(SHARED_PARENT)));
        Ok(())
    }
}

/// Pauses between looks at whether a cgroup is empty: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The cgroup of one instance.
#[derive(Debug, Clone)]
pub struct InstanceCgroup {
    path: PathBuf,
    id: u64,
    level: u32,
    was_killed: Arc<AtomicBool>,
}

impl InstanceCgroup {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number that `bpf_get_current_cgroup_id` and inet_diag give for it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its depth, as `bpf_get_current_ancestor_cgroup_id` counts: the root has level 0. See [`Hierarchy::shows_root`].
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Every process in it and below (a worker may make cgroups of its own).
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        pids_below(&self.path)
    }

    /// Its own id and those of all cgroups below: a worker's listener may have been made in any of them.
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read.
    pub fn ids(&self) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        visit(&self.path, &mut |path| {
            match inode(path) {
                Ok(id) => ids.push(id),
                Err(CgroupError::Io { source, .. }) if is_gone(&source) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// Sends SIGKILL to every process in it and below; returns at once.
    ///
    /// # Errors
    /// `Io`, or [`CgroupError::Unkillable`] on kernels before 5.14.
    pub fn kill(&self) -> Result<()> {
        self.was_killed.store(true, Ordering::Release);
        kill(&self.path)
    }

    /// Whether [`InstanceCgroup::kill`] was called.
    pub fn was_killed(&self) -> bool {
        self.was_killed.load(Ordering::Acquire)
    }

    /// Waits until it is empty by itself, or somebody has killed it.
    pub async fn killed_or_empty(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.was_killed() && !self.is_empty().unwrap_or(true) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether no live process is in it or below (zombies do not count).
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read. One that was removed is empty.
    pub fn is_empty(&self) -> Result<bool> {
        let events = self.path.join("cgroup.events");
        match fs::read_to_string(&events) {
            Ok(text) => Ok(!text.lines().any(|line| line == "populated 1")),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) => Err(CgroupError::io("read", &events)(error)),
        }
    }

    /// Waits until it is empty, for at most `patience`.
    ///
    /// # Errors
    /// [`CgroupError::NotEmpty`] when the time is over, or `Io`.
    pub async fn wait_empty(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        while !self.is_empty()? {
            if Instant::now() >= deadline {
                return Err(CgroupError::NotEmpty {
                    path: self.path.clone(),
                    pids: self.pids()?,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Removes it and what is below. Nothing to remove is no error. Blocks as [`AppCgroup::remove`].
    ///
    /// # Errors
    /// `Io` with EBUSY while processes are left.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.path)
    }
}

fn hierarchy_in(mountinfo: &str) -> Option<Hierarchy> {
    // id parent major:minor root mount-point options [optional…] - type source options
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            let is_cgroup2 = right.split(' ').next() == Some("cgroup2");
            is_cgroup2.then(|| Hierarchy {
                mount: PathBuf::from(unescape(mount)),
                hidden_levels: u32::try_from(root.split('/').filter(|part| !part.is_empty() && *part != "..").count())
                    .unwrap_or(u32::MAX),
            })
        })
        .min_by_key(|hierarchy| hierarchy.hidden_levels)
}

/// mountinfo writes a blank as `\040`.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// Of one test.
    pub(crate) struct Scratch(pub(crate) AppCgroup);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            Self(AppCgroup::create(&format!("test-{}-{name}", std::process::id())).expect("cgroup v2 and root"))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.remove());
        }
    }

    fn spawn_into(path: &Path, script: &str) -> Child {
        let script = format!("echo 0 > {}/cgroup.procs; {script}", path.display());
        Command::new("/bin/sh").args(["-c", &script]).spawn().expect("sh runs")
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !condition() {
            assert!(Instant::now() < deadline, "waited 5 s for {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[test]
    fn the_hierarchy_that_hides_least_is_taken() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             40 31 0:38 /docker/abc /mnt/sub\\040tree rw shared:1 - cgroup2 cgroup2 rw\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let found = hierarchy_in(mountinfo).expect("there is one");
        assert_eq!(
            found,
            Hierarchy {
                mount: "/sys/fs/cgroup/unified".into(),
                hidden_levels: 0
            }
        );
        let first_two: Vec<&str> = mountinfo.lines().take(2).collect();
        let found = hierarchy_in(&first_two.join("\n")).expect("there is one");
        assert_eq!(
            found,
            Hierarchy {
                mount: "/mnt/sub tree".into(),
                hidden_levels: 2
            }
        );
        assert_eq!(hierarchy_in(mountinfo.lines().next().expect("a line")), None);
        assert!(CgroupError::NoCgroup2.hint().contains("mount"));
    }

    #[tokio::test]
    async fn kill_ends_grandchildren_in_nested_cgroups() {
        let app = Scratch::new("kill");
        let instance = app.0.instance(SlotId(3), InstanceId(17)).expect("made");
        assert!(instance.path().ends_with("3.17"));
        assert_eq!(instance.level(), 3);
        assert!(instance.is_empty().expect("readable"));

        let nested = instance.path().join("own");
        fs::create_dir(&nested).expect("made");
        let script = format!(
            "(echo 0 > {}/cgroup.procs; sleep 600) & sleep 600 & wait",
            nested.display()
        );
        let mut child = spawn_into(instance.path(), &script);
        until("three processes", || instance.pids().expect("readable").len() == 3).await;
        assert!(!instance.is_empty().expect("readable"));
        assert_eq!(instance.ids().expect("readable").len(), 2);
        assert_eq!(instance.ids().expect("readable")[0], instance.id());
        assert!(app.0.pids().expect("readable").contains(&child.id()));
        let refused = instance.wait_empty(Duration::from_millis(5)).await;
        assert!(matches!(refused, Err(CgroupError::NotEmpty { pids, .. }) if pids.contains(&child.id())));

        instance.kill().expect("killed");
        instance.wait_empty(Duration::from_secs(5)).await.expect("empty");
        child.wait().expect("ours");
        instance.remove().expect("removed");
        assert!(!instance.path().exists());
        assert!(instance.is_empty().expect("a removed one is empty"));
        instance.remove().expect("twice is fine");
    }

    #[tokio::test]
    async fn the_kill_of_old_kernels_works_too() {
        let app = Scratch::new("kill-old");
        let instance = app.0.instance(SlotId(0), InstanceId(0)).expect("made");
        let mut child = spawn_into(instance.path(), "sleep 600 & sleep 600 & wait");
        until("three processes", || instance.pids().expect("readable").len() == 3).await;
        crate::process::cgroup_tree::kill_one_by_one(instance.path()).expect("killed");
        child.wait().expect("ours");
        instance.wait_empty(Duration::from_secs(5)).await.expect("empty");
    }

    #[tokio::test]
    async fn a_frozen_one_stands_still_until_it_is_let_go() {
        let app = Scratch::new("freeze");
        let instance = app.0.instance(SlotId(0), InstanceId(0)).expect("made");
        let counter = app.0.path().file_name().expect("named").to_owned();
        let counter = std::env::temp_dir().join(counter);
        let script = format!("while :; do echo x >> {}; done", counter.display());
        let mut child = spawn_into(instance.path(), &script);
        let length = || fs::metadata(&counter).map_or(0, |file| file.len());
        until("it runs", || length() > 0).await;

        let frozen = crate::process::freeze::freeze(instance.path(), Duration::from_secs(5)).expect("frozen");
        assert!(frozen.complete);
        let before = length();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(length(), before, "nothing of it runs");
        drop(frozen);
        until("it goes on", || length() > before).await;

        instance.kill().expect("killed");
        child.wait().expect("ours");
        fs::remove_file(&counter).expect("ours");
    }

    #[tokio::test]
    async fn leftovers_are_those_of_a_dead_controller() {
        let app = Scratch::new("leftovers");
        let name = app
            .0
            .path()
            .file_name()
            .expect("named")
            .to_str()
            .expect("ascii")
            .to_owned();
        let instance = app.0.instance(SlotId(0), InstanceId(0)).expect("made");
        let mut child = spawn_into(instance.path(), "exec sleep 600");
        until("the child", || {
            AppCgroup::leftovers(&name).expect("readable") == [child.id()]
        })
        .await;
        let busy = app.0.remove();
        assert!(matches!(busy, Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy));
        app.0.kill().expect("killed");
        child.wait().expect("ours");
        app.0.remove().expect("removed");
        assert!(AppCgroup::existing(&name).expect("readable").is_none());
        assert!(AppCgroup::leftovers(&name).expect("readable").is_empty());
        assert!(app.0.open().is_err());
    }
}
