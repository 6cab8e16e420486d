//! Temporary objects of a doctor, under a name that no app can have, and the cleanup of what a killed doctor has left.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    base::{InstanceId, SlotId},
    bpf::Pins,
    process::{
        cgroup::{AppCgroup, CgroupError, Hierarchy, InstanceCgroup},
        paths::Paths,
    },
};

/// An app's name can't contain `@`.
const PREFIX: &str = "doctor@";

/// The cgroup of an app with two workers. Dropping this removes it.
#[derive(Debug)]
pub(super) struct ScratchCgroup {
    name: String,
    app: AppCgroup,
    workers: Vec<InstanceCgroup>,
}

impl ScratchCgroup {
    pub(super) fn create() -> Result<Self, CgroupError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let app = AppCgroup::create(&name)?;
        // From here on everything is removed on drop, also if the next step fails.
        let mut scratch = Self {
            name,
            app,
            workers: Vec::new(),
        };
        for number in 0..2 {
            scratch.workers.push(
                scratch
                    .app
                    .instance(SlotId(number), InstanceId(u32::from(number) + 1))?,
            );
        }
        Ok(scratch)
    }

    pub(super) fn app(&self) -> &AppCgroup {
        &self.app
    }

    /// The cgroup of the child's first listener.
    pub(super) fn worker(&self) -> &InstanceCgroup {
        &self.workers[0]
    }

    /// The cgroup of the child's second listener, in which the child stays.
    pub(super) fn other(&self) -> &InstanceCgroup {
        &self.workers[1]
    }

    /// The folder for pins, under the same name. Not created yet.
    pub(super) fn pins(&self) -> PathBuf {
        Paths::default().pins.join(&self.name)
    }
}

impl Drop for ScratchCgroup {
    fn drop(&mut self) {
        if let Err(error) = self.app.remove() {
            tracing::warn!("{error}");
        }
    }
}

/// Removes what killed doctors left. Best effort: leftovers do no harm.
pub(super) fn sweep() {
    let pins = Paths::default().pins;
    for name in abandoned(&pins) {
        Pins::remove(&pins.join(name));
    }
    let Ok(hierarchy) = Hierarchy::find() else { return };
    for name in abandoned(&hierarchy.mount().join("reuse-ctl")) {
        if let Ok(Some(cgroup)) = AppCgroup::existing(&name) {
            drop(cgroup.remove());
        }
    }
}

fn abandoned(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| pid_of(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
        .collect()
}

/// The pid of the doctor that created an object with this name.
fn pid_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_doctors_things_are_swept() {
        assert_eq!(pid_of("doctor@17-0"), Some(17));
        for other in ["doctor-17", "doctor@17", "doctor@x-1", "shop", ""] {
            assert_eq!(pid_of(other), None, "{other}");
        }
        let mine = ScratchCgroup::create().expect("root and cgroup v2");
        // No process can have this number: it is above the kernel's limit of 2^22.
        let dead = AppCgroup::create(&format!("{PREFIX}4194305-0")).expect("made");
        sweep();
        assert!(mine.app().path().exists());
        assert!(!dead.path().exists());
        let path = mine.app().path().to_owned();
        drop(mine);
        assert!(!path.exists());
    }
}
