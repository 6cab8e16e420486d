//! Listeners of workers that get no connection through the app's program, and why. Their workers go on: what else they serve is not at fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    base::{InstanceId, SlotId, count},
    group::GroupError,
    wire::LeftOutStatus,
};

/// Why a listener gets no connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Its worker, or the app, has as many listeners on the address as are steered. It joins when another one closes.
    TooMany(String),
    /// Another app serves the address. It joins when that app has left.
    OtherApp(String),
}

impl Why {
    /// Why a listener was not taken in, and where it listens. `None`: for a reason that its worker does not get over.
    pub(crate) fn of(error: &GroupError) -> Option<(SocketAddr, Self)> {
        match error {
            GroupError::TooManyOfWorker { addr } | GroupError::TooManyOfApp { addr } => {
                Some((*addr, Self::TooMany(error.to_string())))
            }
            GroupError::Taken { addr, app } => Some((*addr, Self::OtherApp(app.clone()))),
            GroupError::Backstop { .. }
            | GroupError::Foreign(_)
            | GroupError::Unlisted(_)
            | GroupError::Reopen { .. }
            | GroupError::Bpf(_)
            | GroupError::Socket { .. } => None,
        }
    }

    /// What to do, if the listener should get connections.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::TooMany(_) => "start more workers with fewer listeners each".to_owned(),
            Self::OtherApp(app) => {
                format!("listen on another port, or end that app with `reuse-ctl stop --app {app}`")
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(limit) => f.write_str(limit),
            Self::OtherApp(app) => write!(f, "it is served by the app {app}, and an address can have only one"),
        }
    }
}

#[derive(Debug)]
struct LeftOut {
    instance: InstanceId,
    addr: SocketAddr,
    why: Why,
    since: Instant,
}

/// A start has failed if its worker has had nothing but listeners on the addresses of other apps for so long: most servers open theirs at
/// once, and a person who starts an app on a port that is taken wants to know it now.
const ONLY_OTHERS: Duration = Duration::from_secs(2);

/// All of them, by the listener's cookie.
#[derive(Debug, Default)]
pub(crate) struct LeftOutListeners(BTreeMap<u64, LeftOut>);

impl LeftOutListeners {
    /// Adds a listener. Returns what to tell people, once for each instance, address and reason.
    pub(crate) fn add(
        &mut self,
        cookie: u64,
        (instance, slot): (InstanceId, SlotId),
        addr: SocketAddr,
        why: Why,
    ) -> Option<String> {
        let is_known = |other: &LeftOut| other.instance == instance && other.addr == addr && other.why == why;
        let message = (!self.0.values().any(is_known)).then(|| {
            format!(
                "worker {slot} has a listener on {addr} that gets no connection: {why}; {}",
                why.remedy()
            )
        });
        let since = self.0.get(&cookie).map_or_else(Instant::now, |known| known.since);
        self.0.insert(
            cookie,
            LeftOut {
                instance,
                addr,
                why,
                since,
            },
        );
        message
    }

    /// Removes a listener that has closed, or that gets connections now.
    pub(crate) fn remove(&mut self, cookie: u64) {
        self.0.remove(&cookie);
    }

    /// Removes those of an instance that has ended.
    pub(crate) fn forget(&mut self, instance: InstanceId) {
        self.0.retain(|_, left_out| left_out.instance != instance);
    }

    /// Whether nothing has changed for this listener, so that it is of no use to try again.
    pub(crate) fn waits(&self, cookie: u64) -> bool {
        self.0
            .get(&cookie)
            .is_some_and(|left_out| matches!(left_out.why, Why::TooMany(_)))
    }

    /// A listener on this address for which there may be room, since another one has closed.
    pub(crate) fn next_on(&self, addr: SocketAddr) -> Vec<(InstanceId, u64)> {
        let mut instances = BTreeSet::new();
        let waiting = self.0.iter().filter(|(_, left_out)| left_out.addr == addr);
        waiting
            .filter(|(_, left_out)| matches!(left_out.why, Why::TooMany(_)) && instances.insert(left_out.instance))
            .map(|(&cookie, left_out)| (left_out.instance, cookie))
            .collect()
    }

    /// For an instance that has no other listener and was never ready: what is wrong, if that will not change any more.
    pub(crate) fn hopeless(&self, instance: InstanceId, now: Instant) -> Option<String> {
        let own = || self.0.values().filter(|left_out| left_out.instance == instance);
        let is_old = |left_out: &LeftOut| now.saturating_duration_since(left_out.since) >= ONLY_OTHERS;
        let first = own().next()?;
        let Why::OtherApp(app) = &first.why else { return None };
        own().all(is_old).then(|| {
            format!(
                "{} is served by the app {app}, and an address can have only one: serve on another port, name the ports of this app with \
                 --port, or end that one with `reuse-ctl stop --app {app}`",
                first.addr
            )
        })
    }

    /// For `status`: those of an instance.
    pub(crate) fn of(&self, instance: InstanceId) -> Vec<LeftOutStatus> {
        let mut counts: BTreeMap<(SocketAddr, &Why), u32> = BTreeMap::new();
        for left_out in self.0.values().filter(|left_out| left_out.instance == instance) {
            *counts.entry((left_out.addr, &left_out.why)).or_default() += 1;
        }
        let statuses = counts.into_iter().map(|((addr, why), listeners)| LeftOutStatus {
            addr: addr.to_string(),
            listeners,
            reason: why.to_string(),
        });
        statuses.collect()
    }

    /// For an instance that was not ready in time: one line about what it has that gets no connection.
    pub(crate) fn explain(&self, instance: InstanceId) -> Option<String> {
        let all = self.of(instance);
        let first = all.first()?;
        Some(format!(
            "{} on {} got no connection: {}",
            count(first.listeners, "listener"),
            first.addr,
            first.reason
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_many() -> Why {
        Why::TooMany("0.0.0.0:80: at most 128".into())
    }

    #[test]
    fn each_reason_is_told_once() {
        let addr: SocketAddr = "0.0.0.0:80".parse().expect("an address");
        let mut left_out = LeftOutListeners::default();
        let (one, two) = ((InstanceId(1), SlotId(0)), (InstanceId(2), SlotId(1)));
        let message = left_out.add(7, one, addr, too_many()).expect("the first");
        assert!(
            message.starts_with("worker 0 has a listener on 0.0.0.0:80 that gets no connection: "),
            "{message}"
        );
        assert_eq!(left_out.add(8, one, addr, too_many()), None);
        assert!(left_out.add(9, two, addr, Why::OtherApp("shop".into())).is_some());
        assert!(left_out.add(10, one, addr, Why::OtherApp("shop".into())).is_some());
        assert_eq!(
            left_out
                .of(InstanceId(1))
                .iter()
                .map(|of| of.listeners)
                .collect::<Vec<_>>(),
            [2, 1]
        );
        assert!(left_out.waits(7) && !left_out.waits(9) && !left_out.waits(11));
        assert_eq!(left_out.next_on(addr), [(InstanceId(1), 7)]);
        left_out.remove(7);
        assert_eq!(left_out.next_on(addr), [(InstanceId(1), 8)]);
        let now = Instant::now();
        assert_eq!(left_out.hopeless(InstanceId(2), now), None, "not yet");
        let later = left_out.hopeless(InstanceId(2), now + ONLY_OTHERS).expect("by then");
        assert!(later.starts_with("0.0.0.0:80 is served by the app shop, "), "{later}");
        left_out.forget(InstanceId(1));
        assert!(left_out.next_on(addr).is_empty() && left_out.of(InstanceId(1)).is_empty());
        assert_eq!(left_out.of(InstanceId(2)).len(), 1);
    }
}
