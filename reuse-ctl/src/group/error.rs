//! Errors of groups and their members.

use std::{io, net::SocketAddr};

use thiserror::Error;

use reuse_common::limits::{LISTENERS_PER_INSTANCE, MAX_MEMBERS};

use super::diag::{DiagError, Listener};
use crate::bpf::BpfError;

/// Why a listener is not a member, or not completely.
#[derive(Debug, Error)]
pub enum GroupError {
    /// The controller's own listener could not be created beside the workers'.
    #[error("{addr}: the controller can't listen beside the workers: {source}")]
    Backstop {
        /// The group's address.
        addr: SocketAddr,
        /// EADDRINUSE: another uid, or a socket without SO_REUSEPORT, has the address.
        source: io::Error,
    },
    /// Another app listens on the address.
    #[error("{addr} is served by the app {app}, and an address can have only one")]
    Taken {
        /// The address.
        addr: SocketAddr,
        /// The other app's name.
        app: String,
    },
    /// Another program listens on the address, and this app must not disturb anyone.
    #[error("{} is in use by somebody else", .0.addr)]
    Foreign(Box<Listener>),
    /// The list of listeners could not be read, so it is unknown whether anyone would be disturbed.
    #[error("the machine's listeners can't be listed: {0}")]
    Unlisted(#[from] DiagError),
    /// An instance has more listeners on one address than a group takes in.
    #[error("{addr}: at most {LISTENERS_PER_INSTANCE} listeners of a worker are steered")]
    TooManyOfWorker {
        /// The group's address.
        addr: SocketAddr,
    },
    /// All instances together have more listeners on one address than a group takes in.
    #[error("{addr}: at most {MAX_MEMBERS} listeners of an app are steered")]
    TooManyOfApp {
        /// The group's address.
        addr: SocketAddr,
    },
    /// A rescue has closed a listener and could not open it again.
    #[error("{addr}: the worker's listener could not be opened again after its queue was moved: {source}")]
    Reopen {
        /// The listener's address.
        addr: SocketAddr,
        /// The kernel's error. EADDRINUSE: another program took the address in this moment.
        source: io::Error,
    },
    /// An error of the programs or their maps.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A socket call on a listener failed, usually because it has just been closed.
    #[error("{call} on a listener: {source}")]
    Socket {
        /// The call.
        call: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

impl GroupError {
    /// Whether a rescue has lost the listener. The instance would look alive and never get a connection again.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Reopen { .. } | Self::Bpf(_))
    }

    pub(super) fn socket(call: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Socket { call, source }
    }
}
