//! A log that the keeper maintains.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::Shown;
use crate::{
    process::logs::{Follower, KeptLog, Limits, Looked, POLL},
    supervisor::console::WorkerLines,
};

/// Number of reads (64 KiB each) of one log before the next log's turn.
const READS_IN_A_ROW: usize = 16;

/// A maintained log.
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    /// `None` while it is being rotated.
    pub(crate) log: Option<Box<KeptLog>>,
    shown: Option<(Shown, Follower)>,
    /// The time of the next look; `None`: when something is written.
    pub(crate) due: Option<Instant>,
    pub(crate) rotation: Rotation,
}

/// Whether the log should be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    NotNeeded,
    /// It should be, but a rotation has failed: not before that time.
    Needed {
        everything: bool,
        after: Option<Instant>,
    },
}

/// Delay after a failed rotation (usually because the disk is full).
const RETRY: Duration = Duration::from_secs(10);

impl Kept {
    /// Schedules the next attempt after a failed rotation.
    pub(crate) fn retry(&mut self, everything: bool, now: Instant) {
        self.rotation = Rotation::Needed {
            everything,
            after: Some(now + RETRY),
        };
    }

    /// A log that is looked at immediately.
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

    /// Marks and shows what is new. Returns whether anything is new, or another look is needed for other reasons.
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
                // Without a mark lines get the time of a later one; nothing is lost. The next look tries again.
                Err(error) => {
                    tracing::debug!("{}: {error}", self.path.display());
                    changed = true;
                }
            }
        }
        if let (Some((shown, follower)), Some(console)) = (&mut self.shown, console) {
            // A log that grows faster than it can be read must not block the others.
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
