//! When healthy workers are replaced: pure rules, with the clock and the measurements as arguments.
//!
//! At most one replacement of this kind is under way. One that failed is not tried again before a pause that grows; and a worker that uses
//! too much memory right after its start is replaced more and more rarely, because its successor will be no better.

use std::collections::BTreeMap;

use reuse_common::rendezvous::mix;

use crate::{
    app::options::RecycleOptions,
    base::{InstanceId, Millis, SlotId, durations::whole_seconds, whole_ms::whole_ms},
};

/// A worker that is over its limit of memory when it is younger than this is so from the start; and no younger one is replaced for it.
const YOUNG_MS: u64 = 10_000;

/// A worker that is too large from the start is left alone for this long at most.
const MAX_LEFT_ALONE_MS: u64 = 10 * 60_000;

/// After a replacement that failed, and what it doubles up to.
const PAUSE_MS: (u64, u64) = (30_000, 30 * 60_000);

/// Limits of age and connections differ so much from worker to worker, in per mille: they must not all be replaced at once.
const SCATTER_PER_MILLE: u64 = 100;

/// A worker that is active, has no fault, and is the only instance of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) slot: SlotId,
    pub(crate) instance: InstanceId,
    /// Since it was started.
    pub(crate) age_ms: u64,
    /// Since it was ready.
    pub(crate) active_ms: u64,
    /// If it was measured.
    pub(crate) memory_bytes: Option<u64>,
    /// So many connections it has accepted.
    pub(crate) connections: u64,
}

/// Who is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// This worker.
    One {
        slot: SlotId,
        instance: InstanceId,
        why: TooMuch,
    },
    /// All of them, as by `reload`.
    All(Occasion),
}

/// What a worker has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMuch {
    Memory { bytes: u64, limit: u64 },
    Age { ms: u64, limit_ms: u64 },
    Connections { count: u64, limit: u64 },
}

/// Why all are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It is time.
    Cron,
    /// Files have changed, in words: "server.js has changed".
    Changed(String),
}

/// What a look has led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What is to be begun now.
    pub(crate) replacement: Option<Replacement>,
    /// What people should know of a worker, to follow its name. Said once of each instance.
    pub(crate) warnings: Vec<(SlotId, String)>,
}

/// What a worker has too much of, and how much is too much.
type Cause = fn(&RecycleRules, &Seen) -> Option<(u64, TooMuch)>;

#[derive(Debug)]
pub(crate) struct RecycleRules {
    max_memory: Option<u64>,
    max_age_ms: Option<u64>,
    max_connections: Option<u64>,
    seed: u64,
    under_way: Option<Replacement>,
    waiting: Option<Occasion>,
    /// Failures in a row, and until when nothing is tried after the last.
    failures: u32,
    paused_until: Millis,
    large: BTreeMap<SlotId, Large>,
}

/// What is remembered of a slot whose workers need too much memory.
#[derive(Debug, Clone, Copy)]
struct Large {
    instance: InstanceId,
    /// How long it had been active when it was first seen to be too large.
    when_ms: u64,
    /// No younger one is replaced.
    left_alone_ms: u64,
}

impl RecycleRules {
    pub(crate) fn new(options: &RecycleOptions, seed: u64) -> Self {
        Self {
            max_memory: options.max_memory_bytes,
            max_age_ms: options.max_age.map(whole_ms),
            max_connections: options.max_connections,
            seed,
            under_way: None,
            waiting: None,
            failures: 0,
            paused_until: Millis::default(),
            large: BTreeMap::new(),
        }
    }

    /// Other limits from now on. What is under way goes on, what waits and the pause after a failure stay; but an occasion that there is
    /// none for any more (no `--cron`, nothing watched) is forgotten.
    pub(crate) fn change(&mut self, options: &RecycleOptions) {
        let max_memory = options.max_memory_bytes;
        if self.max_memory != max_memory {
            // Who was too large for the old limit from the start may be small for the new one.
            self.large.clear();
        }
        self.max_memory = max_memory;
        self.max_age_ms = options.max_age.map(whole_ms);
        self.max_connections = options.max_connections;
        self.waiting.take_if(|occasion| match occasion {
            Occasion::Cron => options.cron.is_none(),
            Occasion::Changed(_) => options.watch.is_none(),
        });
    }

    /// What was decided last and has not come to its end.
    pub(crate) fn under_way(&self) -> Option<&Replacement> {
        self.under_way.as_ref()
    }

    /// Whether workers have to be looked at.
    pub(crate) fn looks_at_workers(&self) -> bool {
        self.causes().next().is_some()
    }

    /// Whether memory has to be measured.
    pub(crate) fn measures(&self) -> bool {
        self.max_memory.is_some()
    }

    /// Whether all are to be replaced as soon as that is possible.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// It is time to replace all, unless that is under way, or about to be, anyway.
    pub(crate) fn on_time(&mut self) {
        if !matches!(self.under_way, Some(Replacement::All(_))) && self.waiting.is_none() {
            self.waiting = Some(Occasion::Cron);
        }
    }

    /// Files have changed: also those that a replacement under way has already started from.
    pub(crate) fn on_change(&mut self, what: String) {
        self.waiting = Some(Occasion::Changed(what));
    }

    /// What is to be done now. What it decides counts as under way until [`done`](Self::done), [`failed`](Self::failed) or
    /// [`not_now`](Self::not_now).
    ///
    /// `can_replace_all`: whether nothing is in the way of that. While something is, a worker that is too large does not wait for the others
    /// with it; what only has an age or a number of connections does, because it is replaced with the others anyway.
    pub(crate) fn look(&mut self, now: Millis, workers: &[Seen], can_replace_all: bool) -> Decision {
        let warnings = self.note_large(workers);
        let replacement = match (&self.under_way, &self.waiting) {
            (Some(_), _) => None,
            // Somebody has just mended what was wrong.
            (None, Some(Occasion::Changed(_))) if can_replace_all => self.waiting.take().map(Replacement::All),
            _ if now < self.paused_until => None,
            (None, Some(Occasion::Cron)) if can_replace_all => self.waiting.take().map(Replacement::All),
            (None, Some(_)) => worst([Self::too_large as Cause], self, workers),
            (None, None) => worst(self.causes(), self, workers),
        };
        if replacement.is_some() {
            self.under_way.clone_from(&replacement);
        }
        Decision { replacement, warnings }
    }

    /// It was carried out.
    pub(crate) fn done(&mut self) {
        self.failures = 0;
        if let Some(Replacement::One {
            slot,
            why: TooMuch::Memory { .. },
            ..
        }) = self.under_way.take()
            && let Some(large) = self.large.get_mut(&slot)
        {
            large.left_alone_ms = if large.when_ms < YOUNG_MS {
                large.left_alone_ms.saturating_mul(2).min(MAX_LEFT_ALONE_MS)
            } else {
                YOUNG_MS
            };
        }
    }

    /// It was tried. Returns in how many milliseconds it is tried again; absent: not before something changes.
    pub(crate) fn failed(&mut self, now: Millis) -> Option<u64> {
        let doublings = self.failures.min(32);
        let pause_ms = PAUSE_MS.0.saturating_mul(1 << doublings).min(PAUSE_MS.1);
        self.failures += 1;
        self.paused_until = now.plus(pause_ms);
        match self.under_way.take() {
            Some(Replacement::All(_)) => None,
            Some(Replacement::One { .. }) | None => Some(pause_ms),
        }
    }

    /// Something else is under way that it has to wait for.
    pub(crate) fn not_now(&mut self) {
        if let Some(Replacement::All(occasion)) = self.under_way.take() {
            // What came meanwhile is newer.
            self.waiting.get_or_insert(occasion);
        }
    }

    /// What there are limits for: memory first, which may be short.
    fn causes(&self) -> impl Iterator<Item = Cause> + use<> {
        // Each field by its name: a new limit that is not among the causes would never be looked for.
        let Self {
            max_memory,
            max_age_ms,
            max_connections,
            seed: _,
            under_way: _,
            waiting: _,
            failures: _,
            paused_until: _,
            large: _,
        } = self;
        let causes: [(bool, Cause); 3] = [
            (max_memory.is_some(), Self::too_large),
            (max_age_ms.is_some(), Self::too_old),
            (max_connections.is_some(), Self::too_many_connections),
        ];
        causes
            .into_iter()
            .filter_map(|(is_limited, cause)| is_limited.then_some(cause))
    }

    /// Remembers when each worker was first too large.
    fn note_large(&mut self, workers: &[Seen]) -> Vec<(SlotId, String)> {
        let Some(limit) = self.max_memory else {
            return Vec::new();
        };
        let mut warnings = Vec::new();
        for seen in workers {
            let Some(bytes) = seen.memory_bytes.filter(|bytes| *bytes > limit) else {
                continue;
            };
            let before = self.large.get(&seen.slot);
            if before.is_some_and(|large| large.instance == seen.instance) {
                continue;
            }
            let left_alone_ms = before.map_or(YOUNG_MS, |large| large.left_alone_ms);
            let large = Large {
                instance: seen.instance,
                when_ms: seen.active_ms,
                left_alone_ms,
            };
            self.large.insert(seen.slot, large);
            if seen.active_ms < left_alone_ms {
                let why = TooMuch::Memory { bytes, limit };
                let (age, left_alone) = (whole_seconds(seen.active_ms), whole_seconds(left_alone_ms));
                warnings.push((
                    seen.slot,
                    format!("{why}, {age} after it was ready: it is replaced when it has served for {left_alone}"),
                ));
            }
        }
        warnings
    }

    fn too_large(&self, seen: &Seen) -> Option<(u64, TooMuch)> {
        let limit = self.max_memory?;
        let bytes = seen.memory_bytes.filter(|bytes| *bytes > limit)?;
        let left_alone_ms = self.large.get(&seen.slot).map_or(YOUNG_MS, |large| large.left_alone_ms);
        (seen.active_ms >= left_alone_ms).then_some((bytes - limit, TooMuch::Memory { bytes, limit }))
    }

    fn too_old(&self, seen: &Seen) -> Option<(u64, TooMuch)> {
        let limit_ms = self.scattered(self.max_age_ms?, seen.instance);
        let ms = seen.age_ms;
        (ms > limit_ms).then(|| (ms - limit_ms, TooMuch::Age { ms, limit_ms }))
    }

    fn too_many_connections(&self, seen: &Seen) -> Option<(u64, TooMuch)> {
        let limit = self.scattered(self.max_connections?, seen.instance);
        let count = seen.connections;
        (count > limit).then(|| (count - limit, TooMuch::Connections { count, limit }))
    }

    /// The limit of this instance: a tenth more or less, the same at every look.
    fn scattered(&self, limit: u64, instance: InstanceId) -> u64 {
        let chance = mix(self.seed.wrapping_add(u64::from(instance.0))) % (2 * SCATTER_PER_MILLE + 1);
        let per_mille = u128::from(1000 - SCATTER_PER_MILLE + chance);
        u64::try_from(u128::from(limit) * per_mille / 1000).unwrap_or(u64::MAX)
    }
}

/// By the first cause there is; then who is furthest beyond its limit.
fn worst(causes: impl IntoIterator<Item = Cause>, rules: &RecycleRules, workers: &[Seen]) -> Option<Replacement> {
    causes.into_iter().find_map(|cause| {
        let found = workers.iter().filter_map(|seen| Some((seen, cause(rules, seen)?)));
        let (seen, (_, why)) = found.max_by_key(|(_, (excess, _))| *excess)?;
        Some(Replacement::One {
            slot: seen.slot,
            instance: seen.instance,
            why,
        })
    })
}

#[cfg(test)]
#[path = "recycle_rules_tests.rs"]
mod tests;
