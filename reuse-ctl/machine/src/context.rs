//! What the rules work with: the configuration, the time, new ids, random numbers, and a list for the effects that they decide on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::backoff::Jitter;
use super::words;
use crate::ids::{InstanceId, Millis, RequestId, SlotId, VersionId};
use crate::interface::{Config, Cut, Done, Effect, Note, NoteKind, Refusal, Rules, Seated};
use crate::text::Text;

/// The right to answer one request. It can't be copied and [`Context::answer`] consumes it: no request is answered twice.
#[derive(Debug)]
#[must_use = "a request whose ticket is dropped is never answered"]
pub(super) struct Ticket {
    id: RequestId,
    /// What each slot had cost by then: the answer tells of the rest.
    cuts_before: Cuts,
}

/// Connections that were cut, by slot; cumulative.
type Cuts = BTreeMap<SlotId, Cut>;

/// What the waiting requests listen for.
#[derive(Debug)]
pub(super) enum Happened {
    /// An instance that was starting has the seat and serves.
    Up {
        slot: SlotId,
        instance: InstanceId,
        /// When it has lived long enough to be trusted: in the past if it has settled beside the one before.
        settled_at: Millis,
    },
    /// An instance that served has lost its listeners. [`Self::Up`], [`Self::Lost`] or [`Self::StartFailed`] follows, unless it is ended.
    Down { instance: InstanceId },
    /// An instance that served has ended without having been asked to.
    Lost {
        slot: SlotId,
        instance: InstanceId,
        reason: String,
    },
    /// An instance that was starting will not get ready, or did not settle. It may still have to die.
    StartFailed {
        slot: SlotId,
        instance: InstanceId,
        reason: String,
    },
    /// Something that a job waits for is due.
    TimePassed,
    /// Nothing of this instance is left, or it ends some time and nobody is to wait for that.
    Gone { instance: InstanceId },
    /// A slot that was to leave has left.
    Removed { slot: SlotId },
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
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Gives the configuration before.
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

    /// Time never goes back, whatever the caller says.
    pub(super) fn advance_to(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// The delay before the next start after `crashes` in a row.
    pub(super) fn backoff_ms(&mut self, crashes: u32) -> u64 {
        super::backoff::delay_ms(&self.config, crashes, &mut self.jitter)
    }

    /// Every instance that is spawned from now on has this id or a higher one.
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
        }
    }

    /// The answer also tells what was cut on the slots that it names, since the request came.
    pub(super) fn answer(&mut self, ticket: Ticket, outcome: Result<Done, Refusal>) {
        let touched = match &outcome {
            Ok(done) => done.slots.clone(),
            Err(refusal) => refusal.slots.clone(),
        };
        self.answer_about(ticket, touched, outcome);
    }

    /// The same, of the slots that the request has touched: it may have failed there, or have brought them back, and not name them.
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
        self.say(Effect::Reply { id: ticket.id, outcome });
    }

    /// The end of an instance of this slot has cost this.
    pub(super) fn add_cut(&mut self, slot: SlotId, cut: Cut) {
        if cut != Cut::default() {
            let sum = self.cuts.entry(slot).or_default();
            *sum = sum.plus(cut);
        }
    }

    /// What the ends of instances of this slot have cost, since the controller started.
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

    /// What was decided since the last time, in the order in which it has to be carried out. Nothing is taken from a queue when nobody is
    /// published who could have it; an instance that was being ended and has been taken back since is left alone; and one that is told to end in
    /// any case is not looked at first.
    pub(super) fn take_effects(&mut self, published: &[Seated]) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        let ends: BTreeSet<InstanceId> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Terminate { instance, .. } | Effect::Kill { instance } => Some(*instance),
                _ => None,
            })
            .collect();
        let is_published = |id: InstanceId| published.iter().any(|seated| seated.instance == id);
        effects.retain(|effect| match effect {
            Effect::Rescue { instance } => !published.is_empty() && !is_published(*instance),
            Effect::TerminateIfIdle { instance } => !is_published(*instance) && !ends.contains(instance),
            _ => true,
        });
        effects.sort_by_key(rank);
        effects
    }
}

/// The order of effects within one step; equals stay as they were said.
///
/// First what may be chosen: an answer means that it is so already, and no process hears a signal while it can be chosen. Then
/// the answers, before any process is killed: the answer about one that failed still tells what that one listens on.
fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::Publish(_) | Effect::SetPolicy(_) => 0,
        Effect::Note(_) | Effect::Reply { .. } => 1,
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
