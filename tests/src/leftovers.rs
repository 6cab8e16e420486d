//! What an app may leave on a machine, and must not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait;

/// `/run/reuse-ctl/<app>`: lock, control socket, state.
pub fn run_folder(app: &str) -> PathBuf {
    Path::new("/run/reuse-ctl").join(app)
}

/// `/sys/fs/bpf/reuse-ctl/<app>`: pinned maps and links.
pub fn pin_folder(app: &str) -> PathBuf {
    Path::new("/sys/fs/bpf/reuse-ctl").join(app)
}

/// The app's cgroup.
pub fn cgroup(app: &str) -> PathBuf {
    cgroup_root().join("reuse-ctl").join(app)
}

/// What is left of an app, one line each.
pub fn of(app: &str) -> Vec<String> {
    let mut left: Vec<String> = [run_folder(app), pin_folder(app), cgroup(app)]
        .iter()
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    left.extend(processes(&cgroup(app)).iter().map(|pid| format!("process {pid}")));
    left
}

/// Fails when anything is left of an app: folder, pin, cgroup or process. Its ports are looked at by [`assert_port_free`].
#[track_caller]
pub fn assert_nothing_left(app: &str) {
    let left = of(app);
    assert!(left.is_empty(), "left behind by {app}: {left:#?}");
}

/// Fails when anything listens on a port, in the calling thread's network namespace.
#[track_caller]
pub fn assert_port_free(port: u16) {
    let listeners = crate::kernel::listeners(port);
    assert!(listeners.is_empty(), "left behind on port {port}: {listeners:?}");
}

/// The processes of a cgroup and of those below it.
pub fn processes(cgroup: &Path) -> Vec<i32> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    pids.extend(below(cgroup).iter().flat_map(|child| processes(child)));
    pids
}

/// Removes what a failed test has left, so that it does not disturb the next; touches only this app's own things.
pub fn clear(app: &str) {
    let cgroup = cgroup(app);
    if cgroup.exists() {
        drop(fs::write(cgroup.join("cgroup.kill"), "1"));
        // A cgroup can't be removed before the last of its processes is wholly gone.
        wait::poll(Duration::from_secs(5), || {
            remove_cgroup(&cgroup);
            (!cgroup.exists()).then_some(())
        });
    }
    for folder in [run_folder(app), pin_folder(app)] {
        if folder.exists() {
            drop(fs::remove_dir_all(&folder));
        }
    }
}

fn remove_cgroup(cgroup: &Path) {
    for child in below(cgroup) {
        remove_cgroup(&child);
    }
    drop(fs::remove_dir(cgroup));
}

fn below(cgroup: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cgroup) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Where cgroup v2 is mounted: alone, or beside version 1.
pub fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read /proc/self/mounts");
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(mount.expect("cgroup v2 is mounted")[1])
}
