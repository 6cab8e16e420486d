//! One listening socket of a worker.

use std::os::fd::OwnedFd;

use reuse_common::ids::Row;

use super::discover::{self, DiscoverError};

/// A listener that is in its group's array. The controller keeps no descriptor of it: a worker that closes its listener must really close
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// The row of its instance.
    pub(super) row: Row,
    /// Its number among the instance's listeners in this group, 0…127, without gaps.
    pub(super) nth: u16,
    /// The socket's cookie.
    pub(super) cookie: u64,
    /// How often a rescue has closed it for a moment and the notice may still be on its way.
    pub(super) reopenings: u32,
}

impl Member {
    pub(super) const fn new(row: Row, nth: u16, cookie: u64) -> Self {
        Self {
            row,
            nth,
            cookie,
            reopenings: 0,
        }
    }
}

/// A short-lived duplicate of a worker's socket.
pub(super) fn duplicate(pids: &[u32], cookie: u64) -> Result<Option<OwnedFd>, DiscoverError> {
    discover::duplicate_listener(pids, cookie, None)
}
