//! The signals that end the controller.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for them.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them.
    pub(super) async fn any(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::ByHand,
            _ = self.terminate.recv() => Asked::ToStop,
            _ = self.hangup.recv() => Asked::ToStop,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Ctrl-C: once to stop, once more to kill.
    ByHand,
    /// To stop, however often it comes: a closing terminal and a service manager send several signals.
    ToStop,
}
