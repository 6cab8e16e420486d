//! What workers write, on the bus: read from their logs while somebody listens.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::packets::Process;
use crate::{
    api::bus::Bus,
    process::logs::{self, Follower},
    supervisor::interface::SlotId,
};

/// So often a log is read (64 KiB each time) before the next one's turn.
const READS_IN_A_ROW: usize = 16;

/// The logs of all slots.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    paths: BTreeMap<Source, PathBuf>,
    /// Not followed yet.
    fresh: Vec<(Source, Follower)>,
    is_following: bool,
}

/// Who writes, and the name of the packets: `log:out`, `log:err`.
type Source = (SlotId, &'static str);

impl Outputs {
    /// A worker is about to write there.
    pub(super) fn add(&self, source: Source, log: &Path) {
        let mut state = self.state();
        if state.paths.insert(source, log.to_owned()).is_none() && state.is_following {
            state.fresh.push((source, from_here(log)));
        }
    }

    /// Publishes what is written from now on, until nobody listens any more.
    pub(super) fn follow(&self, bus: &Bus, app: &Arc<str>) {
        let mut state = self.state();
        if state.is_following {
            return;
        }
        state.is_following = true;
        state.fresh = state
            .paths
            .iter()
            .map(|(&source, log)| (source, from_here(log)))
            .collect();
        drop(state);
        tokio::spawn(publish(self.clone(), bus.clone(), Arc::clone(app)));
    }

    /// Those that are to be followed as well; `None` when nobody listens any more.
    fn fresh(&self, bus: &Bus) -> Option<Vec<(Source, Follower)>> {
        let mut state = self.state();
        state.is_following = bus.is_heard();
        let fresh = std::mem::take(&mut state.fresh);
        state.is_following.then_some(fresh)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn from_here(log: &Path) -> Follower {
    Follower::new(log, logs::len(log))
}

async fn publish(outputs: Outputs, bus: Bus, app: Arc<str>) {
    let mut followed = Vec::new();
    while let Some(mut fresh) = outputs.fresh(&bus) {
        followed.append(&mut fresh);
        followed.retain_mut(|(source, log)| publish_new(*source, log, &bus, &app));
        tokio::time::sleep(logs::POLL).await;
    }
}

/// Returns false if it can't be read.
fn publish_new((slot, name): Source, log: &mut Follower, bus: &Bus, app: &str) -> bool {
    let process = Process::new(slot, app);
    for _ in 0..READS_IN_A_ROW {
        let Ok(lines) = log.poll() else { return false };
        if lines.is_empty() {
            break;
        }
        for line in lines {
            bus.publish(process.wrote(name, &line));
        }
    }
    true
}
