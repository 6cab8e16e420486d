//! The end of the app: on request, or because every worker has failed and the app is not to stay.

use std::mem;

use super::context::Ticket;
use super::slot::Slot;
use super::words::{self, Why};
use super::{Machine, Mode};
use crate::interface::{Done, Effect, NoteKind, WhenAllFailed};
use crate::states::WorkerState;

impl Machine {
    /// Starts to stop everything, for `stop` and the first Ctrl-C. Other jobs are given up.
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
                    "interrupted again: every worker is killed",
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

    /// Whether nobody serves, and nobody will without a request. Old instances may still be ending.
    pub(super) fn all_have_failed(&self) -> bool {
        matches!(self.mode, Mode::Running) && self.slots.iter().all(|slot| slot.worker_state() == WorkerState::Failed)
    }

    /// Reports once that all workers have failed, if the app stays.
    pub(super) fn notice_all_failed(&mut self) {
        let all_failed = self.all_have_failed();
        let before = mem::replace(&mut self.all_failed, all_failed);
        if self.all_failed && !before && self.stays_when_all_failed() {
            let message = words::all_failed(self.slots.len(), self.slots.last().and_then(Slot::reason));
            self.cx.note(NoteKind::AllFailed, None, None, message);
        }
    }

    /// An app that never served could not be started: whoever waits for its start must see it end.
    fn stays_when_all_failed(&self) -> bool {
        match self.cx.config().when_all_failed {
            WhenAllFailed::Finish => false,
            WhenAllFailed::Stay => self.has_served,
        }
    }

    pub(super) fn finish_when_over(&mut self) {
        let stays = self.stays_when_all_failed();
        let failed = match &mut self.mode {
            // A job in progress has an instance somewhere, so no job is left unanswered here.
            Mode::Running if !stays && self.slots.iter().all(Slot::has_failed) => true,
            Mode::Stopping { waiters, .. } if self.slots.iter().all(Slot::has_left) => {
                let slots: Vec<_> = self.slots.iter().map(Slot::id).collect();
                for ticket in waiters.drain(..) {
                    self.cx.answer(
                        ticket,
                        Ok(Done {
                            slots: slots.clone(),
                            message: "the app has stopped".into(),
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
