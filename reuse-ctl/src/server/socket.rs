//! The file of the control socket: created private, then opened for the users who may control the app.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use tokio::net::UnixListener;

/// Number of clients that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why the control socket could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A system call failed.
    #[error("{call} {path}: {source}")]
    Syscall {
        /// The call.
        call: &'static str,
        /// The path of the socket.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The path exists and is not a socket. It is left alone.
    #[error("{0} is in the way and is not a socket")]
    InTheWay(PathBuf),
}

/// Listens on `path`, owned by `owner_uid`:`owner_gid`, with exactly `mode` (0600, or 0660 for a control group).
///
/// An existing socket is removed: **the caller must hold the app's lock**, which proves that its controller is dead. Must be called inside
/// a tokio runtime.
///
/// No other user can connect at any moment: the file is created with mode 0600, by giving the socket itself that mode before `bind` (the
/// process's umask, which other threads share, is not touched), and is opened up only once its owner is set.
///
/// # Errors
/// The system call that failed, or the object that is in the way.
pub fn bind(path: &Path, owner_uid: Uid, owner_gid: Gid, mode: Mode) -> Result<UnixListener, BindError> {
    let failed = |call: &'static str| {
        let path = path.to_owned();
        move |source: io::Error| BindError::Syscall { call, path, source }
    };
    remove_stale(path)?;
    let address = socket2::SockAddr::unix(path).map_err(failed("sockaddr_un"))?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).map_err(failed("socket"))?;
    nix::sys::stat::fchmod(socket.as_fd(), Mode::from_bits_truncate(0o600))
        .map_err(io::Error::from)
        .map_err(failed("fchmod"))?;
    socket.bind(&address).map_err(failed("bind"))?;
    // The owner is set last: changing the mode of another user's file needs CAP_FOWNER.
    std::os::unix::fs::chown(path, None, Some(owner_gid.as_raw())).map_err(failed("chown"))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode.bits());
    std::fs::set_permissions(path, permissions).map_err(failed("chmod"))?;
    std::os::unix::fs::chown(path, Some(owner_uid.as_raw()), None).map_err(failed("chown"))?;
    socket.listen(BACKLOG).map_err(failed("listen"))?;
    socket.set_nonblocking(true).map_err(failed("fcntl"))?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(
        socket,
    )))
    .map_err(failed("epoll_ctl"))
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |call, source| BindError::Syscall {
        call,
        path: path.to_owned(),
        source,
    };
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("stat", error)),
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(|error| failed("unlink", error))
        }
        Ok(_) => Err(BindError::InTheWay(path.to_owned())),
    }
}
