//! The lock that makes an app's controller the only one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::paths::AppPaths;

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A live controller has it.
    #[error("app {app} is running already{}", pid.map_or(String::new(), |pid| format!(" (controller {pid})")))]
    NameTaken {
        /// The app.
        app: String,
        /// Its controller, unless that is just starting.
        pid: Option<u32>,
    },
    /// The lock file can't be used.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// How the kernel answered.
        source: io::Error,
    },
}

impl LockError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// What to do next, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::NameTaken { app, .. } => format!("choose another --name, or end it: reuse-ctl stop --app {app}"),
            Self::Io { .. } => "run it as root (sudo)".into(),
        }
    }
}

impl AppPaths {
    /// Takes the app's lock and writes this process's id into it; makes the folder. A control socket found afterwards is a dead
    /// controller's.
    ///
    /// # Errors
    /// [`LockError::NameTaken`] if a live controller has it, `Io` if the file can't be used.
    pub fn lock(&self) -> Result<AppLock, LockError> {
        let path = self.lock_file();
        loop {
            fs::create_dir_all(self.run_dir()).map_err(LockError::io("mkdir", self.run_dir()))?;
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&path);
            let mut file = match opened {
                // A controller that ends has removed the folder after we made sure of it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(LockError::io("open", &path))?,
            };
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(LockError::NameTaken {
                        app: self.name().to_owned(),
                        pid: read_pid(&mut file),
                    });
                }
                Err(errno) => return Err(LockError::io("lock", &path)(errno.into())),
            }
            // The one who had it may have removed the file before it let go: then this is a lock on nothing.
            if !is_same_file(&file, &path) {
                continue;
            }
            let pid = std::process::id().to_string();
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .and_then(|_| file.write_all(pid.as_bytes()))
                .map_err(LockError::io("write", &path))?;
            return Ok(AppLock {
                file,
                paths: self.clone(),
            });
        }
    }
}

/// The right to be the app's controller; given back when dropped, also by the kernel when the process dies.
#[derive(Debug)]
pub struct AppLock {
    /// Holds the lock. CLOEXEC, so that no worker holds it on.
    pub(super) file: File,
    paths: AppPaths,
}

impl AppLock {
    /// Removes sockets, lock file and folder, then gives the lock back. Logs stay.
    ///
    /// # Errors
    /// The first that can't be removed; one that is not there is no error.
    pub fn remove(self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(self.paths.control_socket()))?;
        gone(self.paths.remove_notify_sockets())?;
        gone(fs::remove_file(self.paths.lock_file()))?;
        match fs::remove_dir(self.paths.run_dir()) {
            // The next controller of this name is there already.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => gone(other),
        }
    }
}

impl Drop for AppLock {
    /// Closing the file would do, were it not for a child that was forked a moment ago and has not come to its exec.
    fn drop(&mut self) {
        // It can only fail if the file is not open.
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK))).ok();
    }
}

/// A lock of the open file description: unlike flock(2) it can be asked for without being taken, so that `ls` never gets into the
/// way of a controller that starts; unlike a POSIX record lock it is not lost when another descriptor of the file is closed.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: plain integers, for which zero is valid: from the start to the end of the file, and pid 0 as OFD locks want it.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(kind).expect("F_WRLCK is small");
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).expect("SEEK_SET is 0");
    lock
}

pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    // A read lock would be refused by the controller's write lock; asking for one needs no right to write.
    let mut answer = whole_file(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer))?;
    Ok(libc::c_int::from(answer.l_type) != libc::F_UNLCK)
}

pub(super) fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

pub(super) fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
