//! Watches every input and effect of a machine, and panics at anything that must never happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use reuse_common::Share;

use crate::ids::{InstanceId, Millis, RequestId, SlotId};
use crate::interface::{ApplyPlan, ApplyStep, Audience, Command, Config, Effect, Input, NoteKind, Published, Rules};
use crate::states::{FaultKind, WorkerState};
use crate::{Machine, View};

/// What the referee knows about a process, from inputs and effects alone.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) slot: Option<SlotId>,
    pub(super) pid: Option<u32>,
    pub(super) ready: bool,
    /// Since when it has been settling, and how long it must settle before it may replace another.
    settles: Option<(Millis, u64)>,
    was_published: bool,
    pub(super) terminated: bool,
    pub(super) all_terminated: bool,
    /// Whether it is to be told to stop if a closer look finds it idle.
    pub(super) idle: bool,
    pub(super) killed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Referee {
    /// Every instance that is or may be running.
    pub(super) alive: BTreeMap<InstanceId, Process>,
    pub(super) published: Vec<Published>,
    pub(super) unanswered: BTreeSet<RequestId>,
    pub(super) finished: Option<bool>,
    spawned: BTreeSet<InstanceId>,
    probed: BTreeSet<InstanceId>,
    /// Of those that have a slot: the faulty ones that were called hung since they are. They may be unhealthy, too, and hang no more.
    called_hung: BTreeSet<InstanceId>,
    rules: Watched,
    /// Those under way.
    applies: BTreeMap<RequestId, Applying>,
}

/// The rules that it knows of.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    at_most_percent: u8,
    settle_ms: u64,
}

impl From<Rules> for Watched {
    fn from(rules: Rules) -> Self {
        Self {
            at_most_percent: rules.hung.at_most_percent,
            settle_ms: rules.settle_ms,
        }
    }
}

/// What is still to come of an `apply`.
#[derive(Debug)]
struct Applying {
    todo: VecDeque<ApplyStep>,
    rules: Watched,
    rules_before: Watched,
}

impl Applying {
    fn new(plan: &ApplyPlan, rules_before: Watched) -> Self {
        let todo = [
            plan.rollout.map(|_| ApplyStep::Rollout),
            Some(ApplyStep::Rules),
            plan.policy.map(|_| ApplyStep::Policy),
            plan.workers.map(|_| ApplyStep::Scale),
        ];
        Self {
            todo: todo.into_iter().flatten().collect(),
            rules: plan.rules.into(),
            rules_before,
        }
    }
}

impl Referee {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            rules: config.rules().into(),
            ..Self::default()
        }
    }

    pub(super) fn hear(&mut self, input: &Input, now: Millis) {
        match input {
            Input::Request { id, command } if self.finished.is_none() => {
                assert!(self.unanswered.insert(*id));
                if let Command::Apply(plan) = command {
                    self.applies.insert(*id, Applying::new(plan, self.rules));
                    // Should it be refused at once, they are as before again before anybody looks.
                    self.rules = plan.rollout.map_or(self.rules, |rollout| rollout.rules.into());
                }
            }
            Input::Spawned { instance, pid } => {
                if let Some(process) = self.alive.get_mut(instance) {
                    process.pid.get_or_insert(*pid);
                }
            }
            Input::SpawnFailed { instance, .. } if self.alive.get(instance).is_some_and(|one| one.pid.is_none()) => {
                self.alive.remove(instance);
            }
            Input::Exited { instance, .. } => {
                self.alive.remove(instance);
                self.probed.remove(instance);
            }
            Input::Terminated { instance } => {
                if let Some(process) = self.alive.get_mut(instance) {
                    process.terminated |= process.idle;
                }
            }
            Input::Ready { instance } => self.set_ready(*instance, true, now),
            Input::Unready { instance, .. } => self.set_ready(*instance, false, now),
            _ => {}
        }
    }

    pub(super) fn see(&mut self, effects: &[Effect], machine: &Machine, now: Millis) {
        if !effects.is_empty() {
            assert_eq!(self.finished, None, "nothing is said after Finish: {effects:?}");
        }
        assert!(effects.is_sorted_by_key(group), "out of order: {effects:?}");
        // A hung instance may be replaced in the same step.
        let called = effects.iter().filter_map(|effect| match effect {
            Effect::Note(note) if note.kind == NoteKind::Hung => note.instance,
            _ => None,
        });
        self.called_hung.extend(called);
        let mut looked_at = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Spawn { slot, instance, .. } => {
                    assert!(self.spawned.insert(*instance), "{instance:?} is spawned twice");
                    self.alive.insert(
                        *instance,
                        Process {
                            slot: Some(*slot),
                            ..Process::default()
                        },
                    );
                }
                Effect::Publish(set) => self.see_publish(set, now),
                Effect::Terminate { instance, audience } => {
                    let process = self.signalled(*instance);
                    let again = process.terminated && (*audience == Audience::Servers || process.all_terminated);
                    assert!(!process.killed && !again, "{instance:?} hears the stop signal again");
                    assert!(
                        !looked_at.contains(instance),
                        "{instance:?} may have heard it a moment before"
                    );
                    process.terminated = true;
                    process.all_terminated = *audience == Audience::Everyone;
                }
                Effect::TerminateIfIdle { instance } => {
                    let process = self.signalled(*instance);
                    assert!(
                        !process.killed && !process.terminated,
                        "{instance:?} hears the stop signal again"
                    );
                    process.idle = true;
                    looked_at.insert(*instance);
                }
                Effect::Kill { instance } => {
                    let process = self.signalled(*instance);
                    assert!(!process.killed, "{instance:?} is killed twice");
                    process.killed = true;
                }
                Effect::Applied { id, step, .. } => self.see_step(*id, *step),
                Effect::Reply { id, outcome } => {
                    assert!(self.unanswered.remove(id), "{id:?} is answered twice, or unasked");
                    if let Some(apply) = self.applies.remove(id) {
                        assert_eq!(apply.todo.is_empty(), outcome.is_ok(), "{:?} is left", apply.todo);
                        if apply.todo.contains(&ApplyStep::Rules) {
                            self.rules = apply.rules_before;
                        }
                    }
                }
                Effect::Finish { failed } => {
                    assert!(self.alive.is_empty(), "finished, and left {:?}", self.alive);
                    assert!(
                        self.unanswered.is_empty(),
                        "finished, and never answered {:?}",
                        self.unanswered
                    );
                    self.finished = Some(*failed);
                }
                Effect::Rescue { instance } => {
                    self.signalled(*instance);
                    assert!(!self.published.is_empty(), "nobody to take what {instance:?} has");
                    assert!(!self.probed.contains(instance), "its wake-up probe would go to another");
                }
                Effect::WakeProbe { instance } => {
                    self.signalled(*instance);
                    assert!(self.probed.insert(*instance), "{instance:?} is probed twice");
                }
                Effect::StopWakeProbe { instance } => {
                    assert!(self.probed.remove(instance), "{instance:?} is not probed");
                }
                Effect::SetPolicy(_) | Effect::Note(_) => {}
            }
        }
        for Published { instance, .. } in &self.published {
            let process = self
                .alive
                .get(instance)
                .unwrap_or_else(|| panic!("{instance:?} is published and gone"));
            assert!(process.ready, "{instance:?} is published and not ready");
            assert!(
                !process.terminated && !process.killed,
                "{instance:?} is published and being ended"
            );
        }
        self.see_view(&machine.view());
        if let Some(deadline) = machine.next_deadline() {
            assert!(deadline > now, "{deadline:?} is due already at {now:?}");
        }
        let live = machine
            .view()
            .slots
            .iter()
            .flat_map(|slot| slot.instances.clone())
            .map(|one| one.id)
            .collect();
        assert_eq!(
            self.alive.keys().copied().collect::<BTreeSet<_>>(),
            live,
            "the machine lost count"
        );
    }

    /// The view must match the effects.
    fn see_view(&mut self, view: &View) {
        let active: Vec<_> = view
            .slots
            .iter()
            .filter(|slot| slot.state == WorkerState::Active)
            .collect();
        let withdrawn = active.iter().filter(|slot| !slot.published).count();
        assert!(
            active.is_empty() || withdrawn < active.len(),
            "somebody could serve: {active:?}"
        );
        assert!(
            withdrawn <= active.len() * usize::from(self.rules.at_most_percent) / 100,
            "too many are withdrawn: {active:?}"
        );
        let published: Vec<_> = view.slots.iter().filter(|slot| slot.published).collect();
        let said = self
            .published
            .iter()
            .map(|entry| (entry.slot, Some(entry.instance), entry.share));
        assert!(
            said.eq(published.iter().map(|slot| (slot.id, slot.current, slot.share))),
            "{published:?} are shown, {:?} are published",
            self.published
        );
        for slot in &view.slots {
            let withdrawn = slot.fault.as_ref().is_some_and(|fault| fault.withdrawn);
            assert_eq!(
                withdrawn,
                slot.state == WorkerState::Active && !slot.published,
                "{slot:?}"
            );
        }
        let faulty = active.iter().filter(|slot| slot.fault.is_some());
        let faulty: BTreeSet<InstanceId> = faulty.filter_map(|slot| slot.current).collect();
        self.called_hung.retain(|instance| faulty.contains(instance));
        let hung: BTreeSet<InstanceId> = active
            .iter()
            .filter(|slot| slot.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Hung))
            .filter_map(|slot| slot.current)
            .collect();
        for slot in active
            .iter()
            .filter(|slot| slot.current.is_some_and(|current| hung.contains(&current)))
        {
            let waits = slot.instances.iter().any(|one| {
                one.state == WorkerState::Starting && Some(one.id) != slot.current && self.alive[&one.id].ready
            });
            assert!(
                !waits || !slot.published,
                "one that is ready waits beside one that hangs and is published: {slot:?}"
            );
        }
        for instance in &self.probed {
            let fault = active.iter().find(|slot| slot.current == Some(*instance));
            let fault = fault.and_then(|slot| slot.fault.as_ref());
            assert!(
                fault.is_some_and(|fault| fault.kind == FaultKind::Hung),
                "{instance:?} is probed and not hung"
            );
        }
        let canaries: Vec<_> = view
            .slots
            .iter()
            .filter(|slot| slot.canary)
            .map(|slot| slot.id)
            .collect();
        assert!(canaries.len() <= 1, "{canaries:?}");
        assert!(
            canaries
                .iter()
                .all(|canary| view.slots.last().is_some_and(|last| last.id == *canary)),
            "the canary is the last: {canaries:?}"
        );
    }

    /// In the order of the plan, each once.
    fn see_step(&mut self, id: RequestId, step: ApplyStep) {
        let apply = self.applies.get_mut(&id).expect("it is under way");
        assert_eq!(apply.todo.pop_front(), Some(step));
        if step == ApplyStep::Rules {
            self.rules = apply.rules;
        }
    }

    fn see_publish(&mut self, set: &[Published], now: Millis) {
        assert_ne!(self.published, set, "published again without a change");
        assert!(
            set.is_sorted_by(|one, next| one.slot < next.slot),
            "unsorted, or two of a slot: {set:?}"
        );
        for Published { slot, instance, .. } in set {
            let process = self
                .alive
                .get(instance)
                .unwrap_or_else(|| panic!("{instance:?} does not live"));
            assert_eq!(process.slot, Some(*slot));
            self.see_succession(*slot, *instance, now);
        }
        let shares = set.iter().filter_map(|entry| entry.share);
        let sum: u16 = shares.map(Share::hundredths_of_a_percent).sum();
        let whole = if set.iter().any(|entry| entry.share.is_none()) {
            Share::WHOLE - 1
        } else {
            Share::WHOLE
        };
        assert!(sum <= whole, "nothing is left for some: {set:?}");
        for Published { instance, .. } in set {
            if let Some(process) = self.alive.get_mut(instance) {
                process.was_published = true;
                // It was taken back, so earlier findings don't count.
                process.idle = false;
            }
        }
        self.published = set.to_vec();
    }

    /// An instance that replaces one which could go on serving, and is not hung, must have settled.
    fn see_succession(&self, slot: SlotId, instance: InstanceId, now: Millis) {
        let before = self.published.iter().find(|before| before.slot == slot);
        let Some(before) = before.filter(|before| before.instance != instance) else {
            return;
        };
        // An instance that is taken back has settled before.
        let is_new = !self.alive[&instance].was_published;
        let is_hung = self.called_hung.contains(&before.instance);
        if is_new && !is_hung && self.alive.get(&before.instance).is_some_and(|process| process.ready) {
            let (since, settle_ms) = self.alive[&instance].settles.expect("who is published is ready");
            assert!(
                now.since(since) >= settle_ms,
                "{instance:?} takes the place of {before:?} after {} ms",
                now.since(since)
            );
        }
    }

    /// The process, if it may be sent a signal.
    fn signalled(&mut self, instance: InstanceId) -> &mut Process {
        assert!(
            self.published.iter().all(|published| published.instance != instance),
            "{instance:?} is published"
        );
        let process = self
            .alive
            .get_mut(&instance)
            .unwrap_or_else(|| panic!("{instance:?} does not live"));
        assert!(process.pid.is_some(), "{instance:?} has no process yet");
        process
    }

    fn set_ready(&mut self, instance: InstanceId, ready: bool, now: Millis) {
        if let Some(process) = self.alive.get_mut(&instance) {
            let ready = ready && process.pid.is_some();
            if ready && !process.ready {
                process.settles = Some((now, self.rules.settle_ms));
            }
            process.ready = ready;
        }
    }
}

fn group(effect: &Effect) -> u8 {
    match effect {
        Effect::Publish(_) | Effect::SetPolicy(_) => 1,
        Effect::Note(_) | Effect::Applied { .. } | Effect::Reply { .. } => 2,
        Effect::Spawn { .. }
        | Effect::Terminate { .. }
        | Effect::TerminateIfIdle { .. }
        | Effect::Kill { .. }
        | Effect::Rescue { .. }
        | Effect::WakeProbe { .. }
        | Effect::StopWakeProbe { .. } => 3,
        Effect::Finish { .. } => 4,
    }
}
