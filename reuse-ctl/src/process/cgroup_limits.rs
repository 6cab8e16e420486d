//! The resource limits of a worker: `memory.max` and `cpu.max` of its cgroup, if the unified hierarchy has the controllers.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::cgroup::{AppCgroup, Hierarchy, InstanceCgroup};

/// The resource limits of each worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitOptions {
    /// `memory.max`, in bytes.
    pub memory_bytes: Option<u64>,
    /// `cpu.max`, in percent of one core.
    pub cpu_percent: Option<u32>,
}

/// The period of `cpu.max` in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// A controller of cgroup v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// `memory.max`, `memory.stat`.
    Memory,
    /// `cpu.max`.
    Cpu,
}

impl Controller {
    /// The controllers that a limit may need.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Cpu];

    /// The kernel's name of the controller.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Self::Memory => "--memory-limit",
            Self::Cpu => "--cpu-limit",
        }
    }
}

/// Why workers can't be limited.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The hierarchy lacks the controller: it belongs to cgroup v1, or the kernel or the container doesn't have it.
    #[error("{} needs the cgroup v2 controller {}, and {} has only: {there}", controller.option(), controller.name(), mount.display())]
    NoController {
        /// The missing controller.
        controller: Controller,
        /// The root of the hierarchy.
        mount: PathBuf,
        /// The controllers that the hierarchy has.
        there: String,
    },
    /// A file of the hierarchy could not be written or read.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error. EBUSY: a cgroup that must be empty contains processes.
        source: io::Error,
    },
}

impl LimitError {
    /// What the user should do next, in one line.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoController { .. } => {
                "start without the limit (--max-memory needs no controller); or boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"
            }
            Self::Io { .. } => "start without the limit; `reuse-ctl doctor` shows which controllers there are",
        }
    }
}

/// The controllers that this hierarchy can give to cgroups, by the kernel's names.
///
/// # Errors
/// `Io` if they can't be read.
pub fn controllers(hierarchy: &Hierarchy) -> Result<Vec<String>, LimitError> {
    let path = hierarchy.mount().join("cgroup.controllers");
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

impl AppCgroup {
    /// Enables the controllers that these limits need for the cgroups of instances. Call it before the first of those is created.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn allow(&self, limits: &LimitOptions) -> Result<(), LimitError> {
        let hierarchy = self.hierarchy();
        let needed = needed(limits);
        if needed.is_empty() {
            return Ok(());
        }
        let there = controllers(hierarchy)?;
        let is_there = |controller: &Controller| there.iter().any(|name| name == controller.name());
        if let Some(&controller) = needed.iter().find(|controller| !is_there(controller)) {
            return Err(LimitError::NoController {
                controller,
                mount: hierarchy.mount().to_owned(),
                there: if there.is_empty() {
                    "none".into()
                } else {
                    there.join(", ")
                },
            });
        }
        let names: Vec<&str> = needed.iter().map(|controller| controller.name()).collect();
        enable(hierarchy.mount(), self.path(), &names)
    }
}

impl InstanceCgroup {
    /// Sets the limits. If the instance exceeds `memory_bytes`, all its processes are killed, not just one.
    ///
    /// # Errors
    /// `Io`, in particular if the controllers were not [allowed](AppCgroup::allow).
    pub fn limit(&self, limits: &LimitOptions) -> Result<(), LimitError> {
        if let Some(bytes) = limits.memory_bytes {
            self.set("memory.max", &bytes.to_string())?;
            self.set("memory.oom.group", "1")?;
        }
        if let Some(percent) = limits.cpu_percent {
            self.set("cpu.max", &cpu_max(percent))?;
        }
        Ok(())
    }

    /// The resident memory of the processes in bytes, with shared pages counted once. `None` if the memory controller is not enabled. The
    /// page cache of files that are only read or written is not included, because the kernel reclaims it whenever it needs memory.
    pub fn resident_bytes(&self) -> Option<u64> {
        resident(&fs::read_to_string(self.path().join("memory.stat")).ok()?)
    }

    /// Whether the kernel has killed processes of this cgroup because they exceeded its `memory.max`. False if there is no such limit, or
    /// if the whole machine or a parent cgroup was out of memory.
    pub fn went_beyond_memory(&self) -> bool {
        fs::read_to_string(self.path().join("memory.events")).is_ok_and(|events| beyond_its_own_limit(&events))
    }

    fn set(&self, file: &str, value: &str) -> Result<(), LimitError> {
        write(&self.path().join(file), value)
    }
}

fn needed(limits: &LimitOptions) -> Vec<Controller> {
    let is_needed = |controller: &Controller| match controller {
        Controller::Memory => limits.memory_bytes.is_some(),
        Controller::Cpu => limits.cpu_percent.is_some(),
    };
    Controller::ALL.into_iter().filter(is_needed).collect()
}

/// Enables controllers from the root down to the folder `last`: a cgroup has only the controllers that its parent passes down.
fn enable(root: &Path, last: &Path, names: &[&str]) -> Result<(), LimitError> {
    let wanted: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
    let below = last.strip_prefix(root).unwrap_or(Path::new(""));
    let mut folder = root.to_owned();
    write(&folder.join("cgroup.subtree_control"), &wanted.join(" "))?;
    for part in below {
        folder.push(part);
        write(&folder.join("cgroup.subtree_control"), &wanted.join(" "))?;
    }
    Ok(())
}

/// The value of `cpu.max`: half a core is "50000 100000".
fn cpu_max(percent: u32) -> String {
    format!("{} {CPU_PERIOD_US}", u64::from(percent) * CPU_PERIOD_US / 100)
}

fn resident(memory_stat: &str) -> Option<u64> {
    Some(value(memory_stat, "anon")? + value(memory_stat, "file_mapped")?)
}

/// `oom` counts only this cgroup's own limit, `oom_kill` every process killed here.
fn beyond_its_own_limit(memory_events: &str) -> bool {
    ["oom", "oom_kill"]
        .into_iter()
        .all(|name| value(memory_events, name).is_some_and(|count| count > 0))
}

/// Reads one value of a file that has a name and a number on each line.
fn value(file: &str, wanted: &str) -> Option<u64> {
    file.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == wanted).then(|| value.parse().ok()).flatten()
    })
}

fn write(path: &Path, value: &str) -> Result<(), LimitError> {
    fs::write(path, value).map_err(io_error("write", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LimitError {
    let path = path.to_owned();
    move |source| LimitError::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{InstanceId, SlotId};
    use crate::process::cgroup::tests::Scratch;

    const BOTH: LimitOptions = LimitOptions {
        memory_bytes: Some(64 << 20),
        cpu_percent: Some(50),
    };

    #[test]
    fn a_machine_either_limits_workers_or_says_why_not() {
        let app = Scratch::new("limits");
        app.0.allow(&LimitOptions::default()).expect("nothing is asked for");
        let there = controllers(app.0.hierarchy()).expect("readable");
        match app.0.allow(&BOTH) {
            Ok(()) => {
                let instance = app.0.instance(SlotId(0), InstanceId(0)).expect("made");
                instance.limit(&BOTH).expect("limited");
                let read = |file: &str| fs::read_to_string(instance.path().join(file)).expect("readable");
                assert_eq!(read("memory.max").trim(), (64 << 20).to_string());
                assert_eq!(read("cpu.max").trim(), "50000 100000");
                assert_eq!(instance.resident_bytes(), Some(0));
            }
            Err(error) => {
                assert!(matches!(error, LimitError::NoController { .. }), "{error}");
                assert!(!there.iter().any(|name| name == "memory") || !there.iter().any(|name| name == "cpu"));
                assert!(
                    error.to_string().contains("-limit needs the cgroup v2 controller"),
                    "{error}"
                );
                assert!(error.hint().contains("--max-memory"));
            }
        }
    }

    /// Uses any controller that this machine has.
    #[test]
    fn controllers_are_handed_down_to_instances() {
        let app = Scratch::new("handed");
        let Some(any) = controllers(app.0.hierarchy()).expect("readable").into_iter().next() else {
            return;
        };
        enable(app.0.hierarchy().mount(), app.0.path(), &[&any]).expect("enabled");
        let instance = app.0.instance(SlotId(0), InstanceId(0)).expect("made");
        let has = fs::read_to_string(instance.path().join("cgroup.controllers")).expect("readable");
        assert_eq!(has.trim(), any);
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(cpu_max(50), "50000 100000");
        assert_eq!(cpu_max(250), "250000 100000");
        assert_eq!(
            resident("anon 4096\nfile 900\nkernel 5\nfile_mapped 8192\n"),
            Some(12_288)
        );
        assert_eq!(resident("anon 4096\n"), None);
        assert_eq!(needed(&BOTH), Controller::ALL);
        assert!(beyond_its_own_limit(
            "low 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 1\n"
        ));
        assert!(!beyond_its_own_limit("max 9\noom 0\noom_kill 1\n"), "the machine's");
        assert!(!beyond_its_own_limit("max 9\noom 1\noom_kill 0\n"), "it found room");
        assert!(!beyond_its_own_limit(""));
    }
}
