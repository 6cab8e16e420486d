//! The paths of an app's files, and the list of all apps.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub use super::lock::{AppLock, LockError};
use super::lock::{is_locked, read_pid};
use crate::base::{InstanceId, SlotId};

/// The longest name of an app, in bytes.
pub const MAX_NAME_LEN: usize = 64;
const LOCK: &str = "lock";
const SOCKET: &str = "control.sock";
const NOTIFY_SOCKETS: &str = "notify-";

/// Why a text can't be an app's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the app's name is empty")]
    Empty,
    /// The name is longer than [`MAX_NAME_LEN`]; the field is its length in bytes.
    #[error("the app's name is {0} bytes long, {MAX_NAME_LEN} are allowed")]
    TooLong(usize),
    /// The name would be that of a hidden file.
    #[error("the app's name {0:?} begins with a dot")]
    LeadingDot(String),
    /// The name has a character that isn't valid in file names everywhere.
    #[error("the app's name {name:?} has a {character:?} in it")]
    Character {
        /// The name.
        name: String,
        /// The first invalid character.
        character: char,
    },
}

impl NameError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> &'static str {
        "give one with --name: letters, digits, dot, hyphen and underscore"
    }
}

/// The folders that all apps share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The folder of locks and control sockets.
    pub run: PathBuf,
    /// The folder of BPF pins.
    pub pins: PathBuf,
    /// The folder of workers' output.
    pub logs: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            run: "/run/reuse-ctl".into(),
            pins: "/sys/fs/bpf/reuse-ctl".into(),
            logs: "/var/log/reuse-ctl".into(),
        }
    }
}

impl Paths {
    /// The paths of the app with this name. Creates nothing.
    ///
    /// # Errors
    /// Fails if this is not a valid name.
    pub fn app(&self, name: &str) -> Result<AppPaths, NameError> {
        validate(name)?;
        Ok(AppPaths {
            name: name.to_owned(),
            run: self.run.join(name),
            // A BPF file system allows no dot in a name, and an app's name has no `@`.
            pins: self.pins.join(name.replace('.', "@")),
            logs: self.logs.join(name),
        })
    }

    /// Every app that has a lock file, by name.
    ///
    /// # Errors
    /// Fails if the folder can't be read. A missing folder means that there are no apps.
    pub fn apps(&self) -> io::Result<Vec<KnownApp>> {
        let entries = match fs::read_dir(&self.run) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut apps = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(paths) = name.to_str().and_then(|name| self.app(name).ok()) else {
                continue;
            };
            // An app that ends at this moment is left out.
            let Ok(mut file) = File::open(paths.lock_file()) else {
                continue;
            };
            apps.push(KnownApp {
                name: paths.name,
                alive: is_locked(&file)?,
                pid: read_pid(&mut file),
            });
        }
        apps.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(apps)
    }
}

/// An app that has a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownApp {
    /// Its name.
    pub name: String,
    /// Whether its controller is alive.
    pub alive: bool,
    /// The controller's pid, as written to the lock file.
    pub pid: Option<u32>,
}

/// Every app on this machine, by name: [`Paths::apps`] for the standard folders.
///
/// # Errors
/// Fails if the folder can't be read.
pub fn list_apps() -> io::Result<Vec<KnownApp>> {
    Paths::default().apps()
}

/// The paths of one app's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPaths {
    name: String,
    run: PathBuf,
    pins: PathBuf,
    logs: PathBuf,
}

impl AppPaths {
    /// The paths in the standard folders.
    ///
    /// # Errors
    /// Fails if this is not a valid name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        Paths::default().app(name)
    }

    /// The app's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the lock file and the control socket.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// The lock file.
    pub fn lock_file(&self) -> PathBuf {
        self.run.join(LOCK)
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join(SOCKET)
    }

    /// Removes the sockets of instances that are gone, including those of a dead controller.
    pub(super) fn remove_notify_sockets(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.run)? {
            let entry = entry?;
            if entry.file_name().as_bytes().starts_with(NOTIFY_SOCKETS.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The socket on which an instance reports that it is ready. At most 107 bytes long, whatever the app's name.
    pub fn notify_socket(&self, slot: SlotId, instance: InstanceId) -> PathBuf {
        self.run.join(format!("{NOTIFY_SOCKETS}{slot}.{}", instance.0))
    }

    /// The folder of BPF pins.
    pub fn pin_dir(&self) -> &Path {
        &self.pins
    }

    /// The folder of the workers' logs.
    pub fn log_dir(&self) -> &Path {
        &self.logs
    }

    /// The standard output of one slot's workers.
    pub fn log_file(&self, slot: SlotId) -> PathBuf {
        self.logs.join(format!("worker-{slot}.log"))
    }

    /// The standard error of one slot's workers.
    pub fn err_log_file(&self, slot: SlotId) -> PathBuf {
        self.logs.join(format!("worker-{slot}.err.log"))
    }

    /// The log of a controller that runs in the background.
    pub fn controller_log(&self) -> PathBuf {
        self.logs.join("controller.log")
    }

    /// A file that exists if the workers' output goes to the journal.
    pub fn journal_note(&self) -> PathBuf {
        self.logs.join("journald")
    }
}

fn validate(name: &str) -> Result<(), NameError> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(character) = name.chars().find(|character| !allowed(*character)) {
        return Err(NameError::Character {
            name: name.to_owned(),
            character,
        });
    }
    if name.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong(name.len()));
    }
    if name.starts_with('.') {
        return Err(NameError::LeadingDot(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::lock::is_same_file;

    struct Scratch(Paths);

    impl Scratch {
        fn new(name: &str) -> Self {
            let base = std::env::temp_dir().join(format!("reuse-ctl-paths-{}-{name}", std::process::id()));
            Self(Paths {
                run: base.join("run"),
                pins: base.join("pins"),
                logs: base.join("logs"),
            })
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(self.0.run.parent().expect("inside")));
        }
    }

    #[test]
    fn names_are_file_names() {
        for name in ["shop", "a.b-c_9", "-", &"x".repeat(64)] {
            assert!(AppPaths::new(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "naïve", "x\n", &"x".repeat(65)] {
            let error = AppPaths::new(name).expect_err(name);
            assert!(error.hint().contains("--name"));
        }
        let character = NameError::Character {
            name: "a/b".into(),
            character: '/',
        };
        assert_eq!(AppPaths::new("a/b"), Err(character));
    }

    #[test]
    fn the_usual_places() {
        let paths = AppPaths::new("shop").expect("a name");
        assert_eq!(paths.control_socket(), Path::new("/run/reuse-ctl/shop/control.sock"));
        assert_eq!(paths.pin_dir(), Path::new("/sys/fs/bpf/reuse-ctl/shop"));
        assert_eq!(
            paths.log_file(SlotId(3)),
            Path::new("/var/log/reuse-ctl/shop/worker-3.log")
        );
        assert_eq!(
            paths.err_log_file(SlotId(3)),
            Path::new("/var/log/reuse-ctl/shop/worker-3.err.log")
        );
    }

    #[test]
    fn one_controller_per_name() {
        let scratch = Scratch::new("lock");
        assert_eq!(scratch.0.apps().expect("no folder"), []);
        let paths = scratch.0.app("shop").expect("a name");
        let lock = paths.lock().expect("free");
        let own = Some(std::process::id());
        let error = paths.lock().expect_err("taken");
        assert!(
            matches!(&error, LockError::NameTaken { app, pid } if app == "shop" && *pid == own),
            "{error}"
        );
        assert!(error.hint().contains("--app shop"));
        assert_eq!(
            scratch.0.apps().expect("readable"),
            [KnownApp {
                name: "shop".into(),
                alive: true,
                pid: own
            }]
        );

        drop(lock);
        assert_eq!(
            scratch.0.apps().expect("readable"),
            [KnownApp {
                name: "shop".into(),
                alive: false,
                pid: own
            }]
        );
        let lock = paths.lock().expect("free again");
        fs::write(paths.control_socket(), "").expect("made");
        lock.remove().expect("removed");
        assert!(!paths.run_dir().exists());
        assert_eq!(scratch.0.apps().expect("readable"), []);
    }

    #[test]
    fn a_lock_on_a_removed_file_is_no_lock() {
        let scratch = Scratch::new("race");
        let paths = scratch.0.app("shop").expect("a name");
        let first = paths.lock().expect("free");
        fs::remove_file(paths.lock_file()).expect("removed");
        let second = paths.lock().expect("a new file");
        assert!(is_same_file(&second.file, &paths.lock_file()) && !is_same_file(&first.file, &paths.lock_file()));
    }
}
