//! How an instance is stopped, how it ends, and what becomes due with time.

use super::{Instance, Phase, Plan, Stage, Standing};
use crate::context::Context;
use crate::ending::{Ending, Withdrawal};
use crate::interface::{Cut, Effect, NoteKind};
use crate::states::WorkerState;
use crate::transitions::phase_may_follow;
use crate::words::{self, Why};

impl Instance {
    /// Starts to stop it as [`Ending`] says. If it is being stopped already, this can only make it faster.
    pub(crate) fn end(&mut self, grace_ms: u64, why: Why, cx: &mut Context) {
        if self.state() != WorkerState::Stopping {
            self.note(NoteKind::Stopping, &format!("is being stopped: {why}"), cx);
        }
        let now = cx.now();
        let (pid, ending) = match &mut self.phase {
            Phase::Requested(plan @ Plan::Start { .. }) => {
                *plan = Plan::Terminate { grace_ms };
                return;
            }
            Phase::Requested(Plan::Terminate { .. } | Plan::Kill) => return,
            Phase::Stopping { ending, .. } => {
                ending.hasten(grace_ms, now);
                return;
            }
            Phase::Starting {
                pid,
                stage: Stage::Booting { .. } | Stage::Settling { .. },
                ..
            }
            | Phase::Serving {
                pid,
                standing: Standing::Drained { .. },
                ..
            } => (*pid, Ending::terminate(grace_ms, now)),
            // It has closed its listeners, and may have connections that it still answers.
            Phase::Starting {
                pid,
                stage: Stage::ListenersLost { .. },
                ..
            } => (*pid, Ending::empty(Withdrawal::begin(now), grace_ms, now)),
            Phase::Serving {
                pid,
                standing: Standing::Active(vigil),
                ..
            } => (*pid, Ending::empty(vigil.withdrawal(now), grace_ms, now)),
            Phase::Serving {
                pid,
                standing: Standing::Draining(drain),
                ..
            } => (*pid, Ending::empty(drain.withdrawal(), grace_ms, now)),
        };
        let before = self.enter_ending(pid, ending, cx);
        before.give_up_drain(&words::drain_cut_short(self.slot, why), cx);
        self.progress(cx);
    }

    /// Kills it, unless that was done already. Never called for an instance that serves.
    pub(crate) fn kill(&mut self, cx: &mut Context) {
        match &mut self.phase {
            Phase::Requested(plan) => *plan = Plan::Kill,
            Phase::Stopping {
                ending: Ending::Killed, ..
            } => {}
            Phase::Starting { pid, .. } | Phase::Serving { pid, .. } | Phase::Stopping { pid, .. } => {
                let pid = *pid;
                self.enter_ending(pid, Ending::Killed, cx);
            }
        }
    }

    /// It was told to stop, because it was idle.
    pub(crate) fn terminated(&mut self, cx: &mut Context) {
        if let Phase::Stopping { pid, ending } = &self.phase
            && let Some(next) = ending.signalled_when_idle(cx.now())
        {
            let pid = *pid;
            self.note(NoteKind::Stopping, "is told to stop", cx);
            self.enter(Phase::Stopping { pid, ending: next }, cx);
        }
    }

    /// Those of its processes that were told to stop have ended; others go on.
    pub(crate) fn servers_ended(&mut self, connections: u32, cx: &mut Context) {
        if let Phase::Stopping { ending, .. } = &mut self.phase {
            ending.servers_ended(connections, cx.now());
            if connections > 0 {
                let connections = words::are(usize::try_from(connections).unwrap_or(usize::MAX), "connection");
                let what = format!("has exited; {connections} left in its other processes");
                self.note(NoteKind::Stopping, &what, cx);
            }
            self.progress(cx);
        }
    }

    /// It has ended; `how` says in which way. Nothing is left on it, so waiting drain requests are answered.
    pub(crate) fn depart(self, how: &str, cut: Cut, cx: &mut Context) {
        debug_assert!(phase_may_follow(self.phase_name(), "gone"), "every instance can end");
        self.note(NoteKind::Exited, how, cx);
        if let Some(cost) = words::cut(cut) {
            self.note(NoteKind::Cut, &format!("has ended: {cost}"), cx);
        }
        if let Phase::Serving {
            standing: Standing::Draining(drain),
            ..
        } = self.phase
        {
            drain.succeed(self.slot, &format!("{how}: nothing is left on it"), cx);
        }
    }

    /// Carries out what is due, in a drain or while stopping.
    pub(crate) fn progress(&mut self, cx: &mut Context) {
        match &mut self.phase {
            Phase::Serving {
                pid,
                ready_at,
                standing: Standing::Draining(drain),
            } => {
                if !drain.is_done(cx.now()) {
                    return drain.expire_waiters(self.slot, cx);
                }
                let standing = Standing::Drained {
                    listening: drain.listening,
                };
                let next = Phase::Serving {
                    pid: *pid,
                    ready_at: *ready_at,
                    standing,
                };
                let before = self.enter(next, cx);
                self.note(NoteKind::Drained, "is drained: nothing is left on it", cx);
                if let Phase::Serving {
                    standing: Standing::Draining(drain),
                    ..
                } = before
                {
                    drain.succeed(self.slot, "is drained: nothing is left on it", cx);
                }
            }
            Phase::Stopping { pid, ending } => {
                let pid = *pid;
                let busy = ending.in_flight().filter(|busy| *busy > 0);
                if let Some(next) = ending.next(cx.config(), cx.now()) {
                    match (&next, ending.servers_have_ended()) {
                        (Ending::Killed, false) => {
                            self.note(NoteKind::Warning, "did not end in time: it is killed", cx);
                        }
                        (Ending::Killed, true) => {}
                        (Ending::Terminated { .. }, true) => {
                            self.note(
                                NoteKind::Warning,
                                "still has connections when the drain timeout is over: its remaining processes are told to stop",
                                cx,
                            );
                        }
                        (Ending::Emptying { .. } | Ending::Terminated { .. }, _) => {
                            self.note(NoteKind::Stopping, "is told to stop", cx);
                            if let Some(busy) = busy {
                                let connections = words::are(usize::try_from(busy).unwrap_or(usize::MAX), "connection");
                                let what = format!(
                                    "was told to stop when the drain timeout was over: {connections} waiting for an answer, as far as can be seen"
                                );
                                self.note(NoteKind::Warning, &what, cx);
                            }
                        }
                    }
                    self.enter_ending(pid, next, cx);
                    self.progress(cx);
                }
            }
            Phase::Requested(_) | Phase::Starting { .. } | Phase::Serving { .. } => {}
        }
    }

    pub(super) fn enter_ending(&mut self, pid: u32, ending: Ending, cx: &mut Context) -> Phase {
        let instance = self.id;
        let signal = match ending {
            Ending::Emptying { .. } => None,
            Ending::Terminated { .. } => ending
                .audience()
                .map(|audience| Effect::Terminate { instance, audience }),
            Ending::Killed => Some(Effect::Kill { instance }),
        };
        let before = self.enter(Phase::Stopping { pid, ending }, cx);
        if let Some(signal) = signal {
            cx.say(signal);
        }
        before
    }
}
