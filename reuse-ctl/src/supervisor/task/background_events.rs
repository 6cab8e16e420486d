//! Background events: what other tasks and threads report to the supervisor's task, and how it reacts.

use std::{collections::HashMap, sync::Arc, time::Instant};

use reuse_common::{
    ids::Row,
    notice::{Notice, NoticeKind},
};

use crate::supervisor::{
    diagnosis::address_of,
    directed::{DirectedId, DirectedOutcome, Purpose, is_workers_doing},
    left_out::Why,
    listener_owners::unsteerable,
    live::{self, BackgroundEvent, Process},
    messages::{self, Report},
    placement::{ListenerState, Placement},
    readiness,
    ready_notify::Said,
    task::Task,
};
use crate::{base::InstanceId, group::Appeared};
use reuse_machine::interface::{Cut, Input};

/// So many addresses that an instance tried to bind are kept, for the case that it fails.
const REMEMBERED_BINDS: usize = 16;

impl Task {
    pub(super) fn on_background_event(&mut self, event: BackgroundEvent) {
        match event {
            BackgroundEvent::Spawned(id, running) => {
                let pid = running.pid;
                let Some(live) = self.live.get_mut(&id) else { return };
                live.process = Process::Running(running.handle);
                live::reap(
                    id,
                    running.child,
                    Arc::clone(&live.cgroup),
                    Arc::clone(&live.told_to_end),
                    live.signalled.clone(),
                    self.background_events.clone(),
                );
                self.feed(Input::Spawned { instance: id, pid });
                if let Some(live) = self.live.get(&id) {
                    readiness::on_started(id, live, &self.template, &self.background_events);
                }
                self.report_readiness(id);
            }
            BackgroundEvent::RanForAWhile(id) => self.announce_ready(id),
            BackgroundEvent::SpawnFailed(id, error) => {
                self.diagnoses.note(id, format!("{error}; {}", error.hint()));
                self.bury(id);
                self.feed(Input::SpawnFailed {
                    instance: id,
                    reason: error.to_string(),
                });
            }
            BackgroundEvent::ServersEnded(id) => {
                let Some(live) = self.live.get(&id) else { return };
                let connections = self.groups.load_of(live.row).established();
                self.feed(Input::ServersEnded {
                    instance: id,
                    connections,
                });
            }
            BackgroundEvent::Exited(id, exit) => {
                self.diagnose(id);
                let cut = self
                    .live
                    .get(&id)
                    .map(|live| self.groups.cuts_of(live.row))
                    .unwrap_or_default();
                self.diagnoses.keep_last_output(id, &self.live, &self.machine.view());
                self.bury(id);
                self.feed(Input::Exited {
                    instance: id,
                    exit,
                    cut: Cut {
                        in_flight: cut.in_flight,
                        open: cut.open,
                    },
                });
            }
            BackgroundEvent::Established(id) => self.connections.established(id, &mut self.groups),
            BackgroundEvent::Over(id, outcome) => self.on_over(id, outcome),
            BackgroundEvent::Notified(id, Said::Ready) => self.announce_ready(id),
            BackgroundEvent::Notified(id, Said::Status(text)) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.set_status(text);
                }
            }
            BackgroundEvent::Measured(memory) => {
                self.recycle.on_measured();
                self.judge_workers(&memory);
            }
            BackgroundEvent::Files(told) => {
                if let Some(problem) = self.recycle.on_files(told) {
                    self.warn(None, problem);
                }
            }
            BackgroundEvent::SpareLoaded(loaded) => {
                self.sockets.on_spare();
                match loaded {
                    Ok(spare) => self.groups.set_spare(*spare),
                    Err(error) => self.announcer.console.warn(&error.to_string()),
                }
            }
            BackgroundEvent::Said(id, Report::Ready) => self.announce_ready(id),
            BackgroundEvent::Said(id, report) => {
                if let Some(live) = self.live.get(&id) {
                    messages::tell_of_report(live, report, &self.live, &self.announcer);
                }
            }
            BackgroundEvent::LookedUp(found) => {
                let Some(id) = self.lookups.done() else { return };
                self.on_looked_up(id, found);
                let refused = self.lookups.begin();
                self.reply_to_all(refused);
                self.take_pending();
            }
            BackgroundEvent::StrangerNamed(cookie, addr, who) => {
                let told = self.sockets.on_stranger(cookie, addr, who);
                self.announcer.console.warn(&told);
            }
        }
    }

    /// Something has come of a connection that was not recalled meanwhile.
    fn on_over(&mut self, id: DirectedId, outcome: DirectedOutcome) {
        let Some((to, purpose)) = self.connections.take(id, &mut self.groups, &mut self.diag) else {
            return;
        };
        match (purpose, outcome) {
            (Purpose::Prove(addr), DirectedOutcome::Proved(result)) => {
                let live = self.live.get_mut(&to);
                if live.is_some_and(|live| readiness::on_proved(live, addr, result)) {
                    self.report_readiness(to);
                }
            }
            (Purpose::AskReady, DirectedOutcome::AnsweredReady(result)) => {
                let Some(live) = self.live.get_mut(&to) else { return };
                readiness::on_answer(live, result);
                self.report_readiness(to);
            }
            (Purpose::Check, DirectedOutcome::Checked(result)) => self.on_checked(to, result),
            (Purpose::Check, DirectedOutcome::Unchecked(problem)) => {
                tracing::warn!(instance = to.0, problem, "not checked")
            }
            (Purpose::Get(questioner), DirectedOutcome::Got(result)) => questioner.answer(result),
            // A wake-up probe that is still wanted is renewed at the next look.
            (Purpose::WakeProbe, DirectedOutcome::WakeProbeEnded(Err(error))) if !is_workers_doing(error.kind()) => {
                self.on_no_wake_probe(to, &error.to_string());
            }
            (Purpose::WakeProbe, _) => {}
            (purpose, outcome) => debug_assert!(false, "{outcome:?} came of {purpose:?}"),
        }
    }

    /// Tells the machine when an instance has become ready, or has lost its last listener.
    pub(super) fn report_readiness(&mut self, id: InstanceId) {
        let listener_state = self.placement().listener_state(id);
        let Some(live) = self.live.get_mut(&id) else { return };
        match listener_state {
            ListenerState::Unknown => {}
            ListenerState::Lost => {
                live.ready = false;
                self.feed(Input::Unready {
                    instance: id,
                    reason: "its listener is gone".into(),
                });
            }
            ListenerState::Complete => {
                live.listens = true;
                self.become_ready(id);
            }
            ListenerState::Listens => {
                live.listens = true;
                self.moves
                    .judge_again(id, &mut self.live, &mut self.groups, &self.template);
            }
        }
    }

    /// The same, right after a look at all sockets: what is not seen then does not listen.
    pub(super) fn judge_after_look(&mut self, id: InstanceId) {
        self.report_readiness(id);
        if let Some(live) = self.live.get_mut(&id)
            && !live.was_ready
            && live.problem.is_none()
            && !self.groups.is_listening(live.row)
            && let Some(problem) = self.left_out.hopeless(id, Instant::now())
        {
            live.problem = Some(problem);
            live.kill();
            return;
        }
        if !self.placement().is_complete_without_listener(id) {
            return;
        }
        if self.health.is_some()
            && let Some(live) = self.live.get(&id)
        {
            self.announcer.console.warn(&format!(
                "worker {} listens nowhere: its health can't be checked",
                live.slot
            ));
        }
        self.become_ready(id);
    }

    fn become_ready(&mut self, id: InstanceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if readiness::go_on(id, live, &self.template, &mut self.groups, &mut self.connections) {
            self.diagnoses.forget_last();
            self.feed(Input::Ready { instance: id });
        }
    }

    /// It has said that it is ready, or has run for long enough. Where it listens may not be known yet: the notice of that is still on its way.
    pub(super) fn announce_ready(&mut self, id: InstanceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.announced_ready = true;
        self.report_readiness(id);
        if self.live.get(&id).is_some_and(|live| !live.ready) {
            self.look_now();
        }
    }

    pub(super) fn placement(&self) -> Placement<'_> {
        Placement {
            live: &self.live,
            groups: &self.groups,
            template: &self.template,
            moves: &self.moves,
        }
    }

    /// A check has come back.
    fn on_checked(&mut self, id: InstanceId, outcome: Result<(), String>) {
        if self.live.get(&id).is_some_and(|live| live.ready) {
            self.feed(Input::Checked { instance: id, outcome });
        }
    }

    /// A worker's socket is about to be bound, listens, or has closed; or connections come again.
    pub(super) fn on_notice(&mut self, notice: &Notice) {
        let kind = NoticeKind::from_number(notice.kind);
        if kind == Some(NoticeKind::Traffic) {
            return self.queue_watch.wake();
        }
        let owner = self
            .live
            .iter()
            .find(|(_, live)| live.row.to_map() == notice.row)
            .map(|(&id, _)| id);
        let Some(id) = owner else { return };
        match kind {
            Some(NoticeKind::Bind) => {
                if let Some(live) = self.live.get_mut(&id) {
                    let bind = address_of(notice);
                    if live.binds.len() < REMEMBERED_BINDS && !live.binds.contains(&bind) {
                        live.binds.push(bind);
                    }
                }
            }
            Some(NoticeKind::Listen) => self.on_listen(id, notice.cookie),
            Some(NoticeKind::Close) => {
                self.on_close(notice.cookie);
                self.report_readiness(id);
            }
            Some(NoticeKind::Traffic) | None => tracing::warn!("a notice of unknown kind {}", notice.kind),
        }
    }

    pub(super) fn on_listen(&mut self, id: InstanceId, cookie: u64) {
        let Some(live) = self.live.get_mut(&id) else { return };
        match self.groups.appeared(live.row, &live.pids(), cookie) {
            Ok(Appeared::Member(_)) => {
                self.left_out.remove(cookie);
                self.report_readiness(id);
            }
            // Closed again, or on its way to another descriptor: the next look finds it if it is still there.
            Ok(Appeared::Gone) => self.look_soon(),
            Err(error) => match Why::of(&error) {
                Some((addr, why)) => {
                    let of = (id, live.slot);
                    if let Some(message) = self.left_out.add(cookie, of, addr, why) {
                        self.warn(Some(of.1), message);
                    }
                }
                None => {
                    // It can't be steered, so it must not serve: to go on would hide connections from everybody.
                    let problem = unsteerable(&error, cookie, &mut self.diag, self.template.identity.uid);
                    let message = format!("worker {} is killed: {problem}", live.slot);
                    let slot = live.slot;
                    live.problem = Some(problem);
                    live.kill();
                    self.warn(Some(slot), message);
                }
            },
        }
    }

    /// A listener has closed, unless it was only a rescue that closed it for an instant.
    pub(super) fn on_close(&mut self, cookie: u64) {
        if self.listens_again(cookie) {
            return;
        }
        let cgroups: HashMap<Row, Arc<_>> = self
            .live
            .values()
            .map(|live| (live.row, Arc::clone(&live.cgroup)))
            .collect();
        let pids_of = |row: Row| {
            cgroups
                .get(&row)
                .and_then(|cgroup| cgroup.pids().ok())
                .unwrap_or_default()
        };
        self.left_out.remove(cookie);
        match self.groups.disappeared(cookie, pids_of) {
            // There is room for another one now.
            Ok(Some(addr)) => {
                for (id, cookie) in self.left_out.next_on(addr) {
                    self.on_listen(id, cookie);
                }
            }
            Ok(None) => {}
            Err(error) => self.announcer.console.warn(&error.to_string()),
        }
    }

    /// Whether a listener that a rescue has closed for an instant listens now. The notice of that is told from that of a real end, which
    /// may follow at once, by asking the kernel, and not by counting notices, which may get lost.
    fn listens_again(&mut self, cookie: u64) -> bool {
        let Some(addr) = self.groups.was_reopened(cookie) else {
            return false;
        };
        let listens = self
            .diag
            .listeners_on(addr.port())
            .is_ok_and(|listeners| listeners.iter().any(|listener| listener.cookie == cookie));
        if listens {
            self.groups.explain_reopening(cookie);
        }
        listens
    }

    /// Nothing of the instance is left: takes it out of every table.
    fn bury(&mut self, id: InstanceId) {
        if let Some(live) = self.live.get(&id) {
            messages::tell_of_unread(live, "ended", &self.announcer);
        }
        self.wake_probes.bury(id);
        self.quiesce.forget(id);
        self.connections
            .recall(id, |_| true, "it has ended", &mut self.groups, &mut self.diag);
        self.connections.forget_abandoned(id, |_| true);
        self.left_out.forget(id);
        let Some(live) = self.live.remove(&id) else { return };
        self.groups.unregister(live.row, live.cgroup.id());
        // The kernel may take a while to let go of it.
        self.go_on_beside(move || {
            if let Err(error) = live.cgroup.remove() {
                tracing::warn!("{error}");
            }
        });
    }
}
