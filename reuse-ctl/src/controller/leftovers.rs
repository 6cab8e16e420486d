//! Cleans up after a killed controller, which leaves workers that go on serving, pins and a folder.

use std::time::{Duration, Instant};

use crate::{
    base::Failure,
    bpf::Pins,
    process::{
        cgroup::{AppCgroup, CgroupError},
        paths::{AppPaths, list_apps},
    },
};

/// How long the kernel may take to kill the processes.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Refuses to start beside such workers: a second set would share their port unnoticed.
///
/// Called before the app's lock is taken, so that the dead controller's files stay as they are for `stop`.
pub(super) fn refuse(app: &str) -> Result<(), Failure> {
    let known = list_apps().unwrap_or_default();
    if known.iter().any(|known| known.name == app && known.alive) {
        // Not leftovers; taking the lock will fail with the name taken.
        return Ok(());
    }
    let pids = AppCgroup::leftovers(app).map_err(failed)?;
    if pids.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = pids.iter().take(5).map(ToString::to_string).collect();
    Err(Failure::failed(
        format!(
            "the controller of {app} was killed, and its workers still serve (process {})",
            list.join(", ")
        ),
        format!("end them with `sudo reuse-ctl stop --app {app}`, then run again"),
    ))
}

/// Kills the workers and removes everything. Returns the number of killed processes.
///
/// # Errors
/// Fails if the app runs after all, or something can't be removed.
pub async fn clear(app: &str) -> Result<usize, Failure> {
    let paths = AppPaths::new(app).map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    let lock = paths
        .lock()
        .map_err(|error| Failure::failed(error.to_string(), error.hint()))?;
    let pids = AppCgroup::leftovers(app).map_err(failed)?;
    if let Some(cgroup) = AppCgroup::existing(app).map_err(failed)? {
        cgroup.kill().map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        while !cgroup.pids().map_err(failed)?.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        cgroup.remove().map_err(failed)?;
    }
    Pins::remove(paths.pin_dir());
    lock.remove()
        .map_err(|error| Failure::failed(format!("{}: {error}", paths.run_dir().display()), "remove it by hand"))?;
    Ok(pids.len())
}

fn failed(error: CgroupError) -> Failure {
    Failure::failed(error.to_string(), error.hint())
}
