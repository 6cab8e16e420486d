//! The controller's look at the accept queues, judged by the very functions of `reuse-common`.

use reuse_common::stall::{self, Norm};
use reuse_common::withhold::{self, Candidate};

use crate::agenda::MILLISECOND;

/// How the controller watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueWatch {
    /// From one look to the next.
    pub(crate) look_ms: u64,
    /// See `--hung-after`.
    pub(crate) hung_after_ms: u64,
    /// See `--rescue-after`.
    pub(crate) rescue_after_ms: u64,
    /// At most so many percent of the workers are withdrawn at once.
    pub(crate) at_most_percent: u8,
}

impl QueueWatch {
    /// What the controller does unless told otherwise.
    pub(crate) const USUAL: Self = Self {
        look_ms: 5,
        hung_after_ms: 50,
        rescue_after_ms: 10,
        at_most_percent: 50,
    };

    /// The controller looks, for the load table, and calls nobody hung.
    pub(crate) const LOOKS_ONLY: Self = Self {
        hung_after_ms: 0,
        ..Self::USUAL
    };

    /// From one look to the next.
    pub(crate) const fn look_ns(&self) -> u64 {
        self.look_ms * MILLISECOND
    }
}

/// What a look shows of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) slot: u16,
    pub(crate) queue: u32,
    pub(crate) accepted: u64,
}

/// What is to be done about a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is called hung.
    Call(u16),
    /// Let it not be chosen.
    Withdraw(u16),
    /// Move what is queued on it to others.
    Rescue(u16),
    /// Open a connection of the controller's own to it, to see when it accepts again.
    WakeProbe(u16),
    /// Let it be chosen again.
    Publish(u16),
}

/// Handshakes that were under way at a rescue complete within a round trip: no use to rescue more often.
const RESCUE_AT_MOST_EVERY_MS: u64 = 10;

#[derive(Debug, Clone, Copy)]
struct Withdrawn {
    since_ms: u64,
    rescued_ms: Option<u64>,
    probed: bool,
}

#[derive(Debug, Clone)]
struct Guarded {
    watch: stall::Watch,
    called_ms: Option<u64>,
    withdrawn: Option<Withdrawn>,
}

/// What the controller remembers from look to look.
#[derive(Debug)]
pub(crate) struct QueueWatcher {
    watch: QueueWatch,
    norm: Norm,
    /// By slot.
    guarded: Vec<Guarded>,
    changes: Vec<Change>,
}

impl QueueWatcher {
    pub(crate) fn new(watch: QueueWatch, slots: usize) -> Self {
        let guarded = Guarded {
            watch: stall::Watch::new(),
            called_ms: None,
            withdrawn: None,
        };
        Self {
            watch,
            norm: Norm::new(watch.hung_after_ms),
            guarded: vec![guarded; slots],
            changes: Vec::with_capacity(4 * slots),
        }
    }

    /// One look, at all workers in the order of their slots.
    pub(crate) fn look(&mut self, now_ms: u64, seen: &[Seen]) -> &[Change] {
        self.changes.clear();
        if self.watch.hung_after_ms > 0 {
            self.judge(now_ms, seen);
            self.withhold(now_ms, seen);
            for (guarded, seen) in self.guarded.iter_mut().zip(seen) {
                tend(self.watch.rescue_after_ms, guarded, seen, now_ms, &mut self.changes);
            }
        }
        &self.changes
    }

    fn judge(&mut self, now_ms: u64, seen: &[Seen]) {
        for (guarded, seen) in self.guarded.iter_mut().zip(seen) {
            let look = stall::Look {
                at_ms: now_ms,
                queue: seen.queue,
                accepted_at_least: seen.accepted,
                accepted_at_most: seen.accepted,
            };
            guarded.watch.look(look, &mut self.norm);
            if !guarded.watch.is_hung() {
                guarded.called_ms = None;
            }
        }
        let published = self.guarded.iter_mut().filter(|guarded| guarded.withdrawn.is_none());
        let mut watches: Vec<&mut stall::Watch> = published.map(|guarded| &mut guarded.watch).collect();
        self.norm.judge(now_ms, &mut watches);
        for (guarded, seen) in self.guarded.iter_mut().zip(seen) {
            if guarded.watch.is_hung() && guarded.called_ms.is_none() {
                guarded.called_ms = Some(now_ms);
                self.changes.push(Change::Call(seen.slot));
            }
        }
    }

    fn withhold(&mut self, now_ms: u64, seen: &[Seen]) {
        let candidate = |guarded: &Guarded| Candidate {
            faulty_since_ms: guarded.called_ms,
            withdrawn: false,
        };
        let mut candidates: Vec<Candidate> = self.guarded.iter().map(candidate).collect();
        withhold::decide(&mut candidates, self.watch.at_most_percent);
        for ((guarded, candidate), seen) in self.guarded.iter_mut().zip(candidates).zip(seen) {
            match (guarded.withdrawn, candidate.withdrawn) {
                (None, true) => {
                    guarded.withdrawn = Some(Withdrawn {
                        since_ms: now_ms,
                        rescued_ms: None,
                        probed: false,
                    });
                    self.changes.push(Change::Withdraw(seen.slot));
                }
                (Some(_), false) => {
                    guarded.withdrawn = None;
                    self.changes.push(Change::Publish(seen.slot));
                }
                _ => {}
            }
        }
    }
}

/// Rescues and probes a withdrawn worker, if it is time.
fn tend(rescue_after_ms: u64, guarded: &mut Guarded, seen: &Seen, now_ms: u64, changes: &mut Vec<Change>) {
    let Some(withdrawn) = &mut guarded.withdrawn else {
        return;
    };
    let rescue_ms = withdrawn
        .rescued_ms
        .map_or(withdrawn.since_ms + rescue_after_ms, |rescued_ms| {
            rescued_ms + rescue_after_ms.max(RESCUE_AT_MOST_EVERY_MS)
        });
    if seen.queue > u32::from(withdrawn.probed) && now_ms >= rescue_ms {
        withdrawn.rescued_ms = Some(now_ms);
        changes.push(Change::Rescue(seen.slot));
    }
    if !withdrawn.probed && now_ms >= withdrawn.since_ms + rescue_after_ms {
        withdrawn.probed = true;
        changes.push(Change::WakeProbe(seen.slot));
    }
}
