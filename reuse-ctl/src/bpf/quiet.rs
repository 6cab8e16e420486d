//! Loads programs undisturbed by signals.

use nix::sys::signal::{SigSet, SigmaskHow};

/// Blocks signals in the calling thread until it is dropped. The verifier gives up with EAGAIN if a signal is pending, and signals do
/// arrive at that time: SIGCHLD of the short-lived children that create sockets in other cgroups. The signals are delivered afterwards, or
/// to other threads.
#[must_use = "signals come again when it is dropped"]
pub(super) struct Undisturbed {
    before: Option<SigSet>,
}

impl Undisturbed {
    pub(super) fn begin() -> Self {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        Self { before: before.ok() }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // It was the mask before, so the kernel accepts it.
            let restored = before.thread_set_mask();
            debug_assert!(restored.is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn signals_are_blocked_only_meanwhile() {
        let is_blocked = || SigSet::thread_get_mask().expect("a mask").contains(Signal::SIGCHLD);
        assert!(!is_blocked());
        let quiet = Undisturbed::begin();
        assert!(is_blocked());
        drop(quiet);
        assert!(!is_blocked());
    }
}
