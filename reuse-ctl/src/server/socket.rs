//! The control socket's file: made private, then opened up to those who may drive the app.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use tokio::net::UnixListener;

/// Clients that may wait for the first accept.
const BACKLOG: i32 = 128;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A system call on the way to the socket failed.
    #[error("{call} {path}: {source}")]
    Syscall {
        /// Which call.
        call: &'static str,
        /// On which socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that is not a socket is in its place; it is left alone.
    #[error("{0} is in the way and is not a socket")]
    InTheWay(PathBuf),
}

/// Listens on `path`, owned by `owner_uid`:`owner_gid`, with exactly `mode` (0600, or 0660 for a control group).
///
/// A socket that is there already is removed: **the caller must hold the app's lock**, which proves that its controller is
/// dead. Must be called inside a tokio runtime.
///
/// There is no moment at which a stranger could connect: the file is created as 0600 by giving the socket itself that mode
/// before `bind` (the process's umask, which other threads share, is not touched), and opened up only once its owner is set.
///
/// # Errors
/// The system call that failed, or what is in the way.
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
    // The owner comes last: the mode of somebody else's file could be changed with CAP_FOWNER only.
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
