//! Handling of a worker that doesn't accept: its queue is moved to others, and a connection shows when it accepts again.

use super::live::Live;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::base::{InstanceId, Millis};

/// How long an instance may take to stop when it is frozen. On a busy machine with two cores the maximum was 29 ms. A process that takes
/// longer sleeps in the kernel, where it can't look at its listener.
pub(crate) const FREEZE_PATIENCE: Duration = Duration::from_millis(100);

/// The instances that get wake-up probes: a connection of the controller's own is kept in the queue of each, which shows when it accepts.
#[derive(Debug, Default)]
pub(crate) struct WakeProbes {
    pub(crate) wanted: BTreeSet<InstanceId>,
    /// The troubles that users were told already, with the beginning of the fault.
    told: BTreeMap<(InstanceId, Trouble), Option<Millis>>,
}

/// An action for a faulty worker that failed. It is tried again and again, but reported once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    Rescue,
    WakeProbe,
}

impl WakeProbes {
    /// Whether any instance gets wake-up probes.
    pub(crate) fn any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Stops the wake-up probes for this instance.
    pub(crate) fn forget(&mut self, id: InstanceId) {
        self.wanted.remove(&id);
    }

    /// Forgets an instance that has ended.
    pub(crate) fn bury(&mut self, id: InstanceId) {
        self.forget(id);
        self.told.retain(|(of, _), _| *of != id);
    }

    /// Whether this trouble has not been reported yet for the fault that began at this time.
    pub(crate) fn is_news(&mut self, id: InstanceId, trouble: Trouble, fault: Option<Millis>) -> bool {
        self.told.insert((id, trouble), fault) != Some(fault)
    }
}

/// The name for messages: `worker 2 (pid 411)`.
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
