//! One log that the keeper looks after.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::Shown;
use crate::{
    process::logs::{Follower, KeptLog, Limits, Looked, POLL},
    supervisor::console::WorkerLines,
};

/// So often a log is read (64 KiB each time) before the next one's turn.
const READS_IN_A_ROW: usize = 16;

/// A log that is looked after.
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    /// Absent while it is being rotated.
    pub(crate) log: Option<Box<KeptLog>>,
    shown: Option<(Shown, Follower)>,
    /// When it is looked at next; absent: when something is written.
    pub(crate) due: Option<Instant>,
    pub(crate) rotation: Rotation,
}

/// Whether it should be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    NotNeeded,
    /// It has failed before: not before that time.
    Needed {
        everything: bool,
        after: Option<Instant>,
    },
}

/// After a failure (a full disk, most likely) it is tried again so much later.
const RETRY: Duration = Duration::from_secs(10);

impl Kept {
    /// A rotation has failed.
    pub(crate) fn retry(&mut self, everything: bool, now: Instant) {
        self.rotation = Rotation::Needed {
            everything,
            after: Some(now + RETRY),
        };
    }

    /// It is looked at at once.
    pub(crate) fn new(path: PathBuf, shown: Option<Shown>, limits: Limits) -> Self {
        let mut log = KeptLog::new(path.clone(), limits);
        if let Err(error) = log.prepare() {
            tracing::debug!("{}: {error}", path.display());
        }
        Self {
            shown: shown.map(|shown| (shown, Follower::new(&path, shown.from))),
            log: Some(Box::new(log)),
            path,
            due: Some(Instant::now()),
            rotation: Rotation::NotNeeded,
        }
    }

    /// Marks and shows what is new. Returns whether anything is, or it should be looked at again for other reasons.
    pub(crate) fn changed(&mut self, console: Option<&WorkerLines>, now: Instant) -> bool {
        let mut changed = false;
        if let Some(log) = &mut self.log {
            match log.look() {
                Ok(Looked::Absent) => return true,
                Ok(Looked::Same) => {}
                Ok(Looked::Changed { too_large }) => {
                    changed = true;
                    if too_large && self.rotation == Rotation::NotNeeded {
                        self.rotation = Rotation::Needed {
                            everything: false,
                            after: None,
                        };
                    }
                }
                // Without marks lines have the time of later ones, and nothing is lost. It is tried again.
                Err(error) => {
                    tracing::debug!("{}: {error}", self.path.display());
                    changed = true;
                }
            }
        }
        if let (Some((shown, follower)), Some(console)) = (&mut self.shown, console) {
            // A log that grows faster than it can be read must not keep the others waiting.
            for _ in 0..READS_IN_A_ROW {
                match follower.poll() {
                    Ok(lines) if lines.is_empty() => break,
                    Ok(lines) => {
                        changed = true;
                        lines
                            .iter()
                            .for_each(|line| console.show(shown.slot, shown.stream, line));
                    }
                    Err(error) => {
                        tracing::debug!("{}: {error}", self.path.display());
                        break;
                    }
                }
            }
        }
        let waits_for_rotation = match self.rotation {
            Rotation::NotNeeded => false,
            Rotation::Needed { after, .. } => after.is_none_or(|after| after <= now + POLL),
        };
        changed || waits_for_rotation || self.log.is_none()
    }
}
