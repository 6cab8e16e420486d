//! One listening socket of a worker.

use std::os::fd::OwnedFd;

use super::{
    diag::Listener,
    discover::{self, DiscoverError},
};

/// A listener that is in its group's array. No descriptor of it is kept: a worker that closes its listener must really close it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Row of the load table.
    pub(super) instance: u16,
    /// Which of the instance's listeners in this group, 0…7; without a gap.
    pub(super) nth: u16,
    /// The socket's number for life.
    pub(super) cookie: u64,
}

/// The cookies of listeners with what the kernel says of them now.
pub(super) fn by_cookie<'a>(listeners: &'a [Listener]) -> impl Fn(u64) -> Option<&'a Listener> {
    move |cookie| listeners.iter().find(|listener| listener.cookie == cookie)
}

/// A short-lived duplicate of a worker's socket.
pub(super) fn duplicate(pids: &[u32], cookie: u64) -> Result<Option<OwnedFd>, DiscoverError> {
    discover::duplicate_listener(pids, cookie, None)
}
