//! The lock that ensures a single controller per app.

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
    /// A live controller has the lock.
    #[error("app {app} is running already{}", pid.map_or(String::new(), |pid| format!(" (controller {pid})")))]
    NameTaken {
        /// The app's name.
        app: String,
        /// The pid of its controller; `None` while that is just starting.
        pid: Option<u32>,
    },
    /// The lock file can't be used.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
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

    /// What the user should do next, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::NameTaken { app, .. } => format!("choose another --name, or end it: reuse-ctl stop --app {app}"),
            Self::Io { .. } => "run it as root (sudo)".into(),
        }
    }
}

impl AppPaths {
    /// Creates the folder, takes the app's lock and writes this process's pid into it. A control socket found afterwards belongs to a dead
    /// controller.
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
                // A controller that was ending removed the folder after it was created here.
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
            // The previous owner may have removed the file before it released the lock. Then this lock is on a deleted file.
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

/// The right to be the app's controller. Released when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct AppLock {
    /// The locked file. CLOEXEC, so that no worker keeps the lock.
    pub(super) file: File,
    paths: AppPaths,
}

impl AppLock {
    /// Removes the sockets, the lock file and the folder, then releases the lock. Logs stay.
    ///
    /// # Errors
    /// The first file that can't be removed. A missing file is no error.
    pub fn remove(self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(self.paths.control_socket()))?;
        gone(self.paths.remove_notify_sockets())?;
        gone(fs::remove_file(self.paths.lock_file()))?;
        match fs::remove_dir(self.paths.run_dir()) {
            // The next controller of this app is there already.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => gone(other),
        }
    }
}

impl Drop for AppLock {
    /// Closing the file would be enough, were it not for a child that was just forked and has not executed its program yet.
    fn drop(&mut self) {
        // This can only fail if the file is not open.
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK))).ok();
    }
}

/// A lock of the open file description. Unlike flock(2) it can be queried without being taken, so `ls` never gets in the way of a starting
/// controller. Unlike a POSIX record lock it isn't lost when another descriptor of the file is closed.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: plain integers, for which zero is valid: the whole file, and pid 0 as OFD locks require.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(kind).expect("F_WRLCK is small");
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).expect("SEEK_SET is 0");
    lock
}

pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    // The controller's write lock conflicts with a read lock, and querying one needs no write permission.
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
