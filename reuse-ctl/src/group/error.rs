//! What can go wrong with groups.

use std::{io, net::SocketAddr};

use thiserror::Error;

use super::diag::{DiagError, Listener};
use crate::bpf::BpfError;

/// Why a listener is not, or not wholly, a member.
#[derive(Debug, Error)]
pub enum GroupError {
    /// The controller's own listener could not be made beside the workers'.
    #[error("{addr}: the controller can't listen beside the workers: {source}")]
    Backstop {
        /// The group's address.
        addr: SocketAddr,
        /// EADDRINUSE: another uid, or a socket without SO_REUSEPORT, has the address.
        source: io::Error,
    },
    /// Another app listens there.
    #[error("{addr} is served by the app {app}, and an address can have only one")]
    Taken {
        /// The address.
        addr: SocketAddr,
        /// The other app's name.
        app: String,
    },
    /// Somebody who is none of ours listens there, and this app is to disturb nobody.
    #[error("{} is in use by somebody else", .0.addr)]
    Foreign(Box<Listener>),
    /// Whether anybody is disturbed can't be seen.
    #[error("the machine's listeners can't be listed: {0}")]
    Unlisted(#[from] DiagError),
    /// An instance has more listeners on one address than can be steered.
    #[error("{addr}: more than 8 listeners of one worker; the further ones get no connection")]
    TooMany {
        /// The group's address.
        addr: SocketAddr,
    },
    /// A rescue has closed a listener and could not open it again.
    #[error("{addr}: the worker's listener could not be opened again after its queue was moved: {source}")]
    Reopen {
        /// Where it was.
        addr: SocketAddr,
        /// Why: EADDRINUSE means that somebody else took the address in this instant.
        source: io::Error,
    },
    /// The programs or their maps.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A socket call on a listener failed: most often because it has just been closed.
    #[error("{call} on a listener: {source}")]
    Socket {
        /// Which.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl GroupError {
    /// Whether, after a rescue, the listener is lost to its clients: the instance would look alive and never get a connection again.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Reopen { .. } | Self::Bpf(_))
    }

    pub(super) fn socket(call: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Socket { call, source }
    }
}
