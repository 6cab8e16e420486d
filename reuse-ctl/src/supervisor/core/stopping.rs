//! The end of the app: asked for, or because every worker has failed.

use super::context::Ticket;
use super::slot::Slot;
use super::words::Why;
use super::{Core, Mode};
use crate::supervisor::interface::{Done, Effect, NoteKind};

impl Core {
    /// Begins to end everything: `stop` and the first Ctrl-C. What is under way is given up.
    pub(super) fn stop(&mut self, waiters: Vec<Ticket>, interrupted: bool, grace_ms: u64) {
        self.mode = Mode::Stopping { waiters, interrupted };
        self.refuse_all_jobs();
        for slot in &mut self.slots {
            slot.leave(grace_ms, Why::Stop, &mut self.cx);
        }
    }

    pub(super) fn interrupt(&mut self) {
        match &mut self.mode {
            Mode::Stopping { interrupted: true, .. } => {
                self.cx.note(
                    NoteKind::Warning,
                    None,
                    None,
                    "interrupted again: every worker is killed".into(),
                );
                for slot in &mut self.slots {
                    slot.kill_outgoing(&mut self.cx);
                }
            }
            Mode::Stopping { interrupted, .. } => *interrupted = true,
            Mode::Idle | Mode::Running => self.stop(Vec::new(), true, self.cx.config().drain_timeout_ms),
            Mode::Finished => {}
        }
    }

    pub(super) fn finish_when_over(&mut self) {
        let failed = match &mut self.mode {
            // A job that is under way has an instance somewhere: there is none to answer.
            Mode::Running if self.slots.iter().all(Slot::has_failed) => true,
            Mode::Stopping { waiters, .. } if self.slots.iter().all(Slot::has_left) => {
                let slots: Vec<_> = self.slots.iter().map(Slot::id).collect();
                for ticket in waiters.drain(..) {
                    self.cx.answer(
                        ticket,
                        Ok(Done {
                            slots: slots.clone(),
                            message: "everything has ended".into(),
                        }),
                    );
                }
                false
            }
            _ => return,
        };
        self.mode = Mode::Finished;
        self.cx.say(Effect::Finish { failed });
    }
}
