//! Tests that load the machine run one at a time, or they would measure each other.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

/// Held while a load-heavy test runs; also across test binaries and test runs.
#[derive(Debug)]
pub struct Heavy {
    _lock: Flock<File>,
}

impl Heavy {
    /// Waits for its turn.
    ///
    /// # Panics
    /// When the lock file can't be made.
    pub fn turn() -> Self {
        let file = File::create("/tmp/reuse-tests.lock").expect("create the lock file of the load-heavy tests");
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .expect("flock");
        Self { _lock: lock }
    }
}
