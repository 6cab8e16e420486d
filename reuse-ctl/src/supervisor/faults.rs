//! What is done for a worker that does not accept: its queue is moved to others, and a connection shows when it accepts again.

use super::live::Live;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::base::{InstanceId, Millis};

/// How long an instance may take to stand still. On a busy machine with two cores it took 29 ms at most; what does not within this time sleeps
/// in the kernel, where it can't look at its listener.
pub(crate) const FREEZE_PATIENCE: Duration = Duration::from_millis(100);

/// Who gets wake-up probes: a connection of the controller's own is kept in the queue of each of these, so that it is seen when they accept.
#[derive(Debug, Default)]
pub(crate) struct WakeProbes {
    pub(crate) wanted: BTreeSet<InstanceId>,
    /// What people were told already, of the fault that began then.
    told: BTreeMap<(InstanceId, Trouble), Option<Millis>>,
}

/// What can't be done for a faulty worker. It is tried again and again, but told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    Rescue,
    WakeProbe,
}

impl WakeProbes {
    /// Whether anybody is.
    pub(crate) fn any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Nobody needs one there any more.
    pub(crate) fn forget(&mut self, id: InstanceId) {
        self.wanted.remove(&id);
    }

    /// The instance has ended.
    pub(crate) fn bury(&mut self, id: InstanceId) {
        self.forget(id);
        self.told.retain(|(of, _), _| *of != id);
    }

    /// Whether people don't know of this trouble yet, in the fault that began then.
    pub(crate) fn is_news(&mut self, id: InstanceId, trouble: Trouble, fault: Option<Millis>) -> bool {
        self.told.insert((id, trouble), fault) != Some(fault)
    }
}

/// `worker 2 (pid 411)`.
pub(crate) fn name_of(live: &Live) -> String {
    match live.pid() {
        Some(pid) => format!("worker {} (pid {pid})", live.slot),
        None => format!("worker {}", live.slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_for_each_fault() {
        let mut probes = WakeProbes::default();
        let (one, other) = (InstanceId(1), InstanceId(2));
        assert!(probes.is_news(one, Trouble::Rescue, Some(Millis(5))));
        assert!(!probes.is_news(one, Trouble::Rescue, Some(Millis(5))));
        assert!(probes.is_news(one, Trouble::WakeProbe, Some(Millis(5))));
        assert!(probes.is_news(other, Trouble::Rescue, Some(Millis(5))));
        assert!(probes.is_news(one, Trouble::Rescue, Some(Millis(9))), "another fault");
        probes.bury(one);
        assert!(probes.is_news(one, Trouble::WakeProbe, None));
        assert!(
            !probes.is_news(one, Trouble::WakeProbe, None),
            "of no fault that is known"
        );
    }
}
