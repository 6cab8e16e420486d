//! Tests that load the machine run a few at a time, or each would make the others late.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many at a time: they load it for a part of their time only.
const AT_A_TIME: usize = 3;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Held while a load-heavy test runs.
#[derive(Debug)]
pub struct Heavy(());

impl Heavy {
    /// Waits for its turn.
    pub fn turn() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = ENDED
            .wait_while(running, |running| *running == AT_A_TIME)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self(())
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}
