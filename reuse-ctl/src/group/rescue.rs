//! Moves the connections queued on one instance to others. The instance's listeners are closed and opened again, in adjacent system calls
//! on duplicates. When a listener closes, the kernel runs the program for each connection in its queue, and only published instances are
//! chosen.
//!
//! The server must be frozen meanwhile (`process/freeze.rs`): if it looks at the listener within these microseconds it sees a hang-up,
//! which some servers do not survive.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use reuse_common::ids::Row;
use socket2::SockRef;

use super::{
    GroupError,
    discover::{self, AcceptQueue},
    groups::Groups,
    member,
};

impl Groups {
    /// Moves the connections queued on the instance in `row`, whose processes are `pids`, in every group in which another instance is
    /// published. Returns the number of moved connections.
    ///
    /// # Errors
    /// [`GroupError::Reopen`]: a listener was closed and could not be opened again, so the instance must be stopped. Any other error: the
    /// connections queued on a listener stay there.
    pub fn rescue(&mut self, row: Row, pids: &[u32]) -> Result<u64, GroupError> {
        let moved_before = self.load_of(row).migrated_out_total();
        let mut result = Ok(());
        for group in self.groups.values_mut() {
            // Otherwise the connections would wait in the backstop, and longer.
            if !group.is_served_without(row) {
                continue;
            }
            for member in group.members().of(row).to_vec() {
                let duplicate = member::duplicate(pids, member.cookie).map_err(|error| GroupError::Socket {
                    call: "pidfd_getfd",
                    source: error.source,
                });
                let reopened = match duplicate {
                    Ok(Some(listener)) => group.reopen(&member, &listener).map(drop),
                    // The listener has closed by itself, and its queue has moved.
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
                result = worse(result, reopened);
            }
        }
        result?;
        Ok(self.load_of(row).migrated_out_total() - moved_before)
    }
}

/// The more serious of two errors: a lost listener counts more than one that was left as it was.
fn worse(first: Result<(), GroupError>, second: Result<(), GroupError>) -> Result<(), GroupError> {
    match (first, second) {
        (Err(first), Err(second)) if second.is_loss() && !first.is_loss() => Err(second),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Closes the listener and opens it again with the same backlog. Returns false if nothing was done, because its queue is empty or it does
/// not listen any more.
///
/// # Errors
/// [`GroupError::Reopen`]: the listener is closed now.
pub(super) fn reopen(addr: SocketAddr, listener: &OwnedFd) -> Result<bool, GroupError> {
    let (length, backlog) = match discover::accept_queue(listener.as_fd()) {
        Ok(AcceptQueue { length, backlog }) => (length, i32::try_from(backlog).unwrap_or(i32::MAX)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(false),
        Err(error) => return Err(GroupError::socket("TCP_INFO")(error)),
    };
    if length == 0 {
        return Ok(false);
    }
    let socket = SockRef::from(listener);
    // No other call may come between these two.
    let closed = socket.shutdown(Shutdown::Read);
    let opened = match &closed {
        Ok(()) => socket.listen(backlog),
        Err(_) => Ok(()),
    };
    match (closed, opened) {
        (Ok(()), Ok(())) => Ok(true),
        (Ok(()), Err(source)) => Err(GroupError::Reopen { addr, source }),
        // The owner has closed the listener at this moment, and its queue has moved.
        (Err(error), _) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        (Err(error), _) => Err(GroupError::socket("shutdown")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::BpfError;

    #[test]
    fn the_loss_of_a_listener_is_told_whatever_else_failed() {
        let kept = || {
            Err(GroupError::Socket {
                call: "shutdown",
                source: io::ErrorKind::Other.into(),
            })
        };
        let lost = || {
            Err(GroupError::Reopen {
                addr: ([127, 0, 0, 1], 80).into(),
                source: io::ErrorKind::AddrInUse.into(),
            })
        };
        let unsteered = || Err(GroupError::Bpf(BpfError::Missing("map")));
        let is_loss = |result: Result<(), GroupError>| result.expect_err("one failed").is_loss();
        assert!(is_loss(worse(lost(), kept())));
        assert!(is_loss(worse(kept(), lost())));
        assert!(is_loss(worse(unsteered(), kept())));
        assert!(is_loss(worse(kept(), unsteered())));
        assert!(is_loss(worse(Ok(()), lost())));
        assert!(is_loss(worse(lost(), Ok(()))));
        assert!(!is_loss(worse(kept(), Ok(()))));
        assert!(worse(Ok(()), Ok(())).is_ok());
    }
}
