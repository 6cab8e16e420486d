//! One cgroup per app, and one below it per instance. The cgroup tells which instance a process belongs to, and allows to kill the whole
//! instance at once.
//!
//! The path is `<cgroup2 mount>/reuse-ctl/<app>/<slot>.<instance>`. Controllers are switched on only if workers are limited
//! ([`cgroup_limits`](super::cgroup_limits)), so any cgroup v2 mount will do, including the `unified` one of a hybrid machine.

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

/// Errors of cgroup operations.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The machine has no cgroup v2 hierarchy mounted.
    #[error("no cgroup v2 hierarchy is mounted")]
    NoCgroup2,
    /// A file of the hierarchy could not be used.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Processes fork faster than they can be killed.
    #[error("processes in {} survive SIGKILL: {pids:?}", path.display())]
    Unkillable {
        /// The cgroup.
        path: PathBuf,
        /// The remaining processes.
        pids: Vec<u32>,
    },
    /// Processes are left after the deadline.
    #[error("processes in {} have not ended: {pids:?}", path.display())]
    NotEmpty {
        /// The cgroup.
        path: PathBuf,
        /// The remaining processes.
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

    /// What the user should do next, in one line.
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

/// The cgroup v2 hierarchy and its mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// Number of levels of the hierarchy above the mount point, if only a subtree is mounted.
    hidden_levels: u32,
}

impl Hierarchy {
    /// Finds the hierarchy in this process's mount namespace.
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

    /// Whether the mount shows the root of the whole hierarchy. If not (a container with its own cgroup namespace), levels counted from
    /// here differ from those that the kernel's helpers count.
    ///
    /// # Errors
    /// `Io` if the mount point can't be examined.
    pub fn shows_root(&self) -> Result<bool> {
        // The root of a kernfs hierarchy always has inode number 1.
        Ok(inode(&self.mount)? == 1)
    }
}

/// The cgroup of an app. Every process of every worker is in it or below.
#[derive(Debug, Clone)]
pub struct AppCgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl AppCgroup {
    /// Creates the cgroup with its parents. An existing one (of a dead controller) is used as it is: see [`Self::leftovers`].
    ///
    /// # Errors
    /// [`CgroupError::NoCgroup2`], or `Io` if it can't be created.
    pub fn create(app: &str) -> Result<Self> {
        let hierarchy = Hierarchy::find()?;
        let path = hierarchy.mount.join(SHARED_PARENT).join(app);
        shared_folder::create(&path).map_err(CgroupError::io("mkdir", &path))?;
        Ok(Self { hierarchy, path })
    }

    /// The cgroup of this app, if there is one.
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

    /// Creates the cgroup of one instance.
    ///
    /// # Errors
    /// `Io` if it can't be created or exists already.
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

    /// Whether this cgroup, or one below it, has this id.
    pub fn has(&self, id: u64) -> bool {
        let mut found = false;
        // A cgroup that is removed meanwhile has no listeners any more.
        drop(visit(&self.path, &mut |path| {
            found |= inode(path).is_ok_and(|inode| inode == id);
            Ok(())
        }));
        found
    }

    /// The name of another app whose cgroup has one of these ids, or has one below it that does. The folders are walked once, however many
    /// ids there are.
    pub fn sibling_with_any(&self, ids: &HashSet<u64>) -> Option<String> {
        let siblings = fs::read_dir(self.path.parent()?).ok()?;
        let is_there = |app: &Path| {
            let mut found = false;
            // A cgroup that is removed meanwhile has no listeners any more.
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

    /// Number of levels between the root of the hierarchy and an instance's cgroup.
    pub fn instance_level(&self) -> u32 {
        self.hierarchy.hidden_levels + 3
    }

    /// The opened directory, which cgroup BPF programs are attached to.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&self.path)
    }

    /// The path of the cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hierarchy it is in.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Every process in this cgroup and below.
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        pids_below(&self.path)
    }

    /// Sends SIGKILL to every process in this cgroup and below. Returns at once.
    ///
    /// # Errors
    /// `Io`, or [`CgroupError::Unkillable`] on kernels before 5.14.
    pub fn kill(&self) -> Result<()> {
        kill(&self.path)
    }

    /// Removes the cgroup with everything below, and the parent that all apps share if this was the last app. A missing cgroup is no error.
    ///
    /// Blocks for at most about 200 ms, and only while the kernel cleans up processes that have just ended.
    ///
    /// # Errors
    /// `Io` with EBUSY while processes are left.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.path)?;
        // Fails if another app runs, or if another controller has removed it. Both are fine.
        drop(fs::remove_dir(self.hierarchy.mount.join(SHARED_PARENT)));
        Ok(())
    }
}

/// Pauses between checks whether a cgroup is empty: the first, and the longest.
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
    /// The path of the cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup id, as returned by `bpf_get_current_cgroup_id` and inet_diag.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The depth of the cgroup, as counted by `bpf_get_current_ancestor_cgroup_id`: the root has level 0. See [`Hierarchy::shows_root`].
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Every process in this cgroup and below (a worker may create cgroups of its own).
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        pids_below(&self.path)
    }

    /// The ids of this cgroup and of all cgroups below, in any of which a worker's listener may have been created.
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

    /// Sends SIGKILL to every process in this cgroup and below. Returns at once.
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

    /// Waits until the cgroup is empty or [`InstanceCgroup::kill`] was called.
    pub async fn killed_or_empty(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.was_killed() && !self.is_empty().unwrap_or(true) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether no live process is in this cgroup or below (zombies don't count).
    ///
    /// # Errors
    /// `Io` if the hierarchy can't be read. A removed cgroup counts as empty.
    pub fn is_empty(&self) -> Result<bool> {
        let events = self.path.join("cgroup.events");
        match fs::read_to_string(&events) {
            Ok(text) => Ok(!text.lines().any(|line| line == "populated 1")),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) => Err(CgroupError::io("read", &events)(error)),
        }
    }

    /// Waits at most `patience` until the cgroup is empty.
    ///
    /// # Errors
    /// [`CgroupError::NotEmpty`] if processes are left after `patience`, or `Io`.
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

    /// Removes the cgroup and those below it. A missing cgroup is no error. Blocks as [`AppCgroup::remove`].
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

/// mountinfo writes a space as `\040`.
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
