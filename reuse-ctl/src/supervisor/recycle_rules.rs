//! When healthy workers are replaced: pure rules, with the clock and the measurements as arguments.
//!
//! At most one such replacement is in progress. After a failed one there is a pause that grows. A worker that uses too much memory right
//! after its start is replaced more and more rarely, because its successor will be no better.

use std::collections::BTreeMap;

use reuse_common::rendezvous::mix;

use crate::{
    app::options::RecycleOptions,
    base::{InstanceId, Millis, SlotId, durations::whole_seconds, whole_ms::whole_ms},
};

/// A worker that exceeds its memory limit at a younger age than this has done so from the start. No worker younger than this is replaced
/// for memory.
const YOUNG_MS: u64 = 10_000;

/// Longest time for which a worker that is too large from the start is left alone.
const MAX_LEFT_ALONE_MS: u64 = 10 * 60_000;

/// The pause after a failed replacement, and the limit up to which it doubles.
const PAUSE_MS: (u64, u64) = (30_000, 30 * 60_000);

/// By how much the limits of age and connections vary from worker to worker, in per mille, so that workers are not all replaced at once.
const SCATTER_PER_MILLE: u64 = 100;

/// A worker that is active, has no fault, and is the only instance of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) slot: SlotId,
    pub(crate) instance: InstanceId,
    /// Time since it was started.
    pub(crate) age_ms: u64,
    /// Time since it became ready.
    pub(crate) active_ms: u64,
    /// Its memory, if that was measured.
    pub(crate) memory_bytes: Option<u64>,
    /// Number of connections that it has accepted.
    pub(crate) connections: u64,
}

/// A replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// Of this worker.
    One {
        slot: SlotId,
        instance: InstanceId,
        why: TooMuch,
    },
    /// Of all workers, as by `reload`.
    All(Occasion),
}

/// The limit that a worker exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMuch {
    Memory { bytes: u64, limit: u64 },
    Age { ms: u64, limit_ms: u64 },
    Connections { count: u64, limit: u64 },
}

/// Why all workers are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A time of `--cron` has come.
    Cron,
    /// Files have changed; in words: "server.js has changed".
    Changed(String),
}

/// The result of a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The replacement to begin now.
    pub(crate) replacement: Option<Replacement>,
    /// Warnings that follow a worker's name. Given once per instance.
    pub(crate) warnings: Vec<(SlotId, String)>,
}

/// Finds whether a worker exceeds a limit, and by how much.
type Cause = fn(&RecycleRules, &Seen) -> Option<(u64, TooMuch)>;

#[derive(Debug)]
pub(crate) struct RecycleRules {
    max_memory: Option<u64>,
    max_age_ms: Option<u64>,
    max_connections: Option<u64>,
    seed: u64,
    under_way: Option<Replacement>,
    waiting: Option<Occasion>,
    /// Number of failures in a row, and the end of the pause after the last one.
    failures: u32,
    paused_until: Millis,
    large: BTreeMap<SlotId, Large>,
}

/// State of a slot whose workers need too much memory.
#[derive(Debug, Clone, Copy)]
struct Large {
    instance: InstanceId,
    /// How long its worker had been active when it was first seen to be too large.
    when_ms: u64,
    /// Workers younger than this are not replaced.
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

    /// Sets new limits. A replacement in progress continues; a waiting one, and the pause after a failure, stay. But a waiting reason that
    /// no longer exists (no `--cron`, nothing watched) is dropped.
    pub(crate) fn change(&mut self, options: &RecycleOptions) {
        let max_memory = options.max_memory_bytes;
        if self.max_memory != max_memory {
            // A worker that was too large for the old limit may be within the new one.
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

    /// The last decision, if it has not ended yet.
    pub(crate) fn under_way(&self) -> Option<&Replacement> {
        self.under_way.as_ref()
    }

    /// Whether workers must be looked at.
    pub(crate) fn looks_at_workers(&self) -> bool {
        self.causes().next().is_some()
    }

    /// Whether memory must be measured.
    pub(crate) fn measures(&self) -> bool {
        self.max_memory.is_some()
    }

    /// Whether all workers are to be replaced as soon as possible.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// A time of `--cron` has come. Does nothing if a replacement of all workers is in progress or waiting.
    pub(crate) fn on_time(&mut self) {
        if !matches!(self.under_way, Some(Replacement::All(_))) && self.waiting.is_none() {
            self.waiting = Some(Occasion::Cron);
        }
    }

    /// Files have changed, possibly also those from which a replacement in progress has already started.
    pub(crate) fn on_change(&mut self, what: String) {
        self.waiting = Some(Occasion::Changed(what));
    }

    /// Decides what to do now. The decision counts as in progress until [`done`](Self::done), [`failed`](Self::failed) or
    /// [`not_now`](Self::not_now).
    ///
    /// `can_replace_all`: whether all workers can be replaced now. If not, a worker that is too large is replaced before them; one that
    /// exceeds its age or number of connections waits, because it is replaced together with the others anyway.
    pub(crate) fn look(&mut self, now: Millis, workers: &[Seen], can_replace_all: bool) -> Decision {
        let warnings = self.note_large(workers);
        let replacement = match (&self.under_way, &self.waiting) {
            (Some(_), _) => None,
            // The user has probably just fixed the cause of a failure, so its pause is ignored.
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

    /// The replacement was carried out.
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

    /// The replacement failed. Returns the delay of the next attempt in milliseconds; `None`: not before something changes.
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

    /// The replacement has to wait for something else.
    pub(crate) fn not_now(&mut self) {
        if let Some(Replacement::All(occasion)) = self.under_way.take() {
            // A reason that came meanwhile is newer.
            self.waiting.get_or_insert(occasion);
        }
    }

    /// The limits that are set: memory first, which may be scarce.
    fn causes(&self) -> impl Iterator<Item = Cause> + use<> {
        // Destructured, so that a new limit can't be forgotten here.
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

    /// Records when each worker was first too large, and returns new warnings.
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

    /// The limit of this instance: up to a tenth more or less, always the same for one instance.
    fn scattered(&self, limit: u64, instance: InstanceId) -> u64 {
        let chance = mix(self.seed.wrapping_add(u64::from(instance.0))) % (2 * SCATTER_PER_MILLE + 1);
        let per_mille = u128::from(1000 - SCATTER_PER_MILLE + chance);
        u64::try_from(u128::from(limit) * per_mille / 1000).unwrap_or(u64::MAX)
    }
}

/// The worst worker: by the first cause that applies, then by how far it exceeds the limit.
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
