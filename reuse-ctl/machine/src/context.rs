//! What the rules work with: the configuration, the time, new ids, random numbers, and a list of the effects that they decide on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::apply_steps::Apply;
use super::backoff::Jitter;
use super::words;
use crate::ids::{InstanceId, Millis, RequestId, SlotId, VersionId};
use crate::interface::{Config, Cut, Done, Effect, Note, NoteKind, Published, Refusal, Rules};
use crate::text::Text;

/// The right to answer one request. It can't be copied and [`Context::answer`] consumes it, so no request is answered twice.
#[derive(Debug)]
#[must_use = "a request whose ticket is dropped is never answered"]
pub(super) struct Ticket {
    id: RequestId,
    /// The cut connections of each slot when the request came; the answer reports those that came later.
    cuts_before: Cuts,
    /// The `apply` that is answered to, if what is asked is a step of one.
    apply: Option<Box<Apply>>,
}

/// A step of an `apply` that was carried out, or was not.
#[derive(Debug)]
pub(super) struct EndedStep {
    /// The request that the whole `apply` is.
    pub(super) id: RequestId,
    pub(super) apply: Box<Apply>,
    pub(super) outcome: Result<Done, Refusal>,
}

/// Connections that were cut, by slot; cumulative.
type Cuts = BTreeMap<SlotId, Cut>;

/// Events that waiting requests react to.
#[derive(Debug)]
pub(super) enum Happened {
    /// An instance that was starting has taken the slot and serves.
    Up {
        slot: SlotId,
        instance: InstanceId,
        /// When the instance counts as settled. In the past if it has settled beside the previous instance.
        settled_at: Millis,
    },
    /// An instance that served has lost its listeners. [`Self::Up`], [`Self::Lost`] or [`Self::StartFailed`] follows, unless the instance
    /// is stopped.
    Down { instance: InstanceId },
    /// An instance that served has ended without being told to.
    Lost {
        slot: SlotId,
        instance: InstanceId,
        reason: String,
    },
    /// An instance that was starting won't become ready, or did not settle. Its process may still be alive.
    StartFailed {
        slot: SlotId,
        instance: InstanceId,
        reason: String,
    },
    /// The deadline of a job has come.
    TimePassed,
    /// The instance has ended completely, or will end some time without anyone waiting for it.
    Gone { instance: InstanceId },
    /// A slot that was to be removed is gone.
    Removed { slot: SlotId },
}

impl Ticket {
    /// For what answers in another way.
    pub(super) fn into_id(self) -> RequestId {
        self.id
    }
}

#[derive(Debug)]
pub(super) struct Context {
    config: Config,
    now: Millis,
    jitter: Jitter,
    next_instance: u32,
    happened: VecDeque<Happened>,
    effects: Vec<Effect>,
    cuts: Cuts,
    /// One `apply` is under way at a time.
    ended_step: Option<EndedStep>,
}

impl Context {
    pub(super) fn new(config: Config) -> Self {
        Self {
            jitter: Jitter::seeded(config.seed),
            config,
            now: Millis::default(),
            next_instance: 0,
            happened: VecDeque::new(),
            effects: Vec::new(),
            cuts: Cuts::new(),
            ended_step: None,
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Sets new rules and returns the previous configuration.
    pub(super) fn set_rules(&mut self, rules: Rules) -> Config {
        let Rules {
            ready_timeout_ms,
            drain_timeout_ms,
            stop_timeout_ms,
            rest_gets_signal,
            settle_ms,
            surge,
            hung,
            health,
        } = rules;
        let config = Config {
            ready_timeout_ms,
            drain_timeout_ms,
            stop_timeout_ms,
            rest_gets_signal,
            settle_ms,
            surge,
            hung,
            health,
            ..self.config.clone()
        };
        std::mem::replace(&mut self.config, config)
    }

    pub(super) fn now(&self) -> Millis {
        self.now
    }

    /// Advances the clock. It never goes back, even if `now` does.
    pub(super) fn advance_to(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// The delay before the next start after `crashes` in a row, in milliseconds.
    pub(super) fn backoff_ms(&mut self, crashes: u32) -> u64 {
        super::backoff::delay_ms(&self.config, crashes, &mut self.jitter)
    }

    /// The lowest id that a new instance can get from now on.
    pub(super) fn next_instance(&self) -> InstanceId {
        InstanceId(self.next_instance)
    }

    pub(super) fn spawn(&mut self, slot: SlotId, version: VersionId) -> InstanceId {
        let instance = self.next_instance();
        self.next_instance += 1;
        self.say(Effect::Spawn {
            slot,
            instance,
            version,
        });
        instance
    }

    pub(super) fn ticket(&self, id: RequestId) -> Ticket {
        Ticket {
            id,
            cuts_before: self.cuts.clone(),
            apply: None,
        }
    }

    /// For a step that takes a while.
    pub(super) fn step_ticket(&self, id: RequestId, apply: Apply) -> Ticket {
        Ticket {
            apply: Some(Box::new(apply)),
            ..self.ticket(id)
        }
    }

    pub(super) fn take_ended_step(&mut self) -> Option<EndedStep> {
        self.ended_step.take()
    }

    /// The answer also tells what was cut on the slots that it names, since the request came.
    pub(super) fn answer(&mut self, ticket: Ticket, outcome: Result<Done, Refusal>) {
        let touched = match &outcome {
            Ok(done) => done.slots.clone(),
            Err(refusal) => refusal.slots.clone(),
        };
        self.answer_about(ticket, touched, outcome);
    }

    /// As [`answer`](Self::answer), for the slots that the request has touched: it may have failed there or have taken them back, so that
    /// its answer doesn't name them.
    pub(super) fn answer_about(
        &mut self,
        ticket: Ticket,
        mut touched: Vec<SlotId>,
        mut outcome: Result<Done, Refusal>,
    ) {
        let text = match &mut outcome {
            Ok(done) => &mut done.message,
            Err(refusal) => &mut refusal.error,
        };
        touched.sort_unstable();
        touched.dedup();
        for slot in touched {
            let before = ticket.cuts_before.get(&slot).copied().unwrap_or_default();
            if let Some(cost) = words::cut_of(slot, self.cut_of(slot).since(before)) {
                text.push_str("; ");
                text.push_str(&cost);
            }
        }
        let Ticket { id, apply, .. } = ticket;
        match apply {
            Some(apply) => self.ended_step = Some(EndedStep { id, apply, outcome }),
            None => self.reply(id, outcome),
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, outcome: Result<Done, Refusal>) {
        self.say(Effect::Reply { id, outcome });
    }

    /// Adds the connections that were cut by the end of an instance of this slot.
    pub(super) fn add_cut(&mut self, slot: SlotId, cut: Cut) {
        if cut != Cut::default() {
            let sum = self.cuts.entry(slot).or_default();
            *sum = sum.plus(cut);
        }
    }

    /// The connections cut by the ends of this slot's instances since the controller started.
    pub(super) fn cut_of(&self, slot: SlotId) -> Cut {
        self.cuts.get(&slot).copied().unwrap_or_default()
    }

    pub(super) fn note(
        &mut self,
        kind: NoteKind,
        slot: Option<SlotId>,
        instance: Option<InstanceId>,
        message: impl Into<Text>,
    ) {
        self.say(Effect::Note(Note {
            slot,
            instance,
            kind,
            message: message.into(),
        }));
    }

    pub(super) fn tell(&mut self, happened: Happened) {
        self.happened.push_back(happened);
    }

    pub(super) fn next_happened(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    pub(super) fn say(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The effects decided since the last call, in the order in which they must be carried out. Left out are rescues while nobody is
    /// published who could take the queue, stop signals for an instance that was taken back since, and the closer look at an instance that
    /// is told to stop in any case.
    pub(super) fn take_effects(&mut self, published: &[Published]) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        let ends: BTreeSet<InstanceId> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Terminate { instance, .. } | Effect::Kill { instance } => Some(*instance),
                _ => None,
            })
            .collect();
        let is_published = |id: InstanceId| published.iter().any(|entry| entry.instance == id);
        effects.retain(|effect| match effect {
            Effect::Rescue { instance } => !published.is_empty() && !is_published(*instance),
            Effect::TerminateIfIdle { instance } => !is_published(*instance) && !ends.contains(instance),
            _ => true,
        });
        effects.sort_by_key(rank);
        effects
    }
}

/// The order of effects within one step. Effects of equal rank keep their order.
///
/// First what is published: an answer means that it is so already, and no process gets a signal while it can be chosen. Then the answers,
/// before any process is killed: an answer about a failed instance reports what that instance still listens on.
fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::Publish(_) | Effect::SetPolicy(_) => 0,
        Effect::Note(_) | Effect::Applied { .. } | Effect::Reply { .. } => 1,
        Effect::Spawn { .. }
        | Effect::Terminate { .. }
        | Effect::TerminateIfIdle { .. }
        | Effect::Kill { .. }
        | Effect::Rescue { .. }
        | Effect::WakeProbe { .. }
        | Effect::StopWakeProbe { .. } => 2,
        Effect::Finish { .. } => 3,
    }
}
