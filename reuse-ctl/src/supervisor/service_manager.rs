//! Notifications to the service manager that started the controller, if there is one (sd_notify): datagrams of `NAME=value` lines to the
//! socket that `NOTIFY_SOCKET` names.
//!
//! All are sent by the supervisor's own task: if it is stuck, `WATCHDOG=1` is not sent and the manager notices.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::{Duration, Instant},
};

use crate::base::WorkerState;
use reuse_machine::View;

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    manager: Option<Manager>,
    watchdog: Option<Watchdog>,
    stage: Stage,
    /// The last STATUS sent.
    status: String,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

#[derive(Debug, Clone, Copy)]
struct Watchdog {
    /// Half of the interval that the manager allows.
    every: Duration,
    due: Instant,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Starting,
    Ready,
    /// A reload by SIGHUP is in progress.
    Reloading,
    Stopping,
}

impl ServiceManager {
    /// Reads the variables that the manager has set.
    ///
    /// # Errors
    /// Fails if there is a manager that can't be reached.
    pub(crate) fn from_environment() -> io::Result<Self> {
        let text = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(path) = text("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let number = |name| text(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let pid = number("WATCHDOG_PID");
        let every = number("WATCHDOG_USEC").and_then(|allowed| watchdog_interval(allowed, pid, std::process::id()));
        let socket = UnixDatagram::unbound()?;
        // A manager that doesn't read must not block the controller.
        socket.set_nonblocking(true)?;
        let address = address_of(&path)?;
        Ok(Self {
            manager: Some(Manager { socket, address }),
            watchdog: every.map(|every| Watchdog {
                every,
                due: Instant::now(),
            }),
            ..Self::default()
        })
    }

    /// When the next `WATCHDOG=1` is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Sends `WATCHDOG=1` if it is due.
    pub(crate) fn watch(&mut self, now: Instant) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) {
            watchdog.due = now + watchdog.every;
            self.send("WATCHDOG=1");
        }
    }

    /// Reports what has changed.
    pub(crate) fn tell(&mut self, view: &View) {
        if self.manager.is_none() {
            return;
        }
        let mut lines = Vec::new();
        if view.stopping && self.stage != Stage::Stopping {
            self.stage = Stage::Stopping;
            lines.push("STOPPING=1".to_owned());
        } else if self.stage == Stage::Starting && is_up(view) {
            self.stage = Stage::Ready;
            lines.push("READY=1".into());
        }
        let status = status(view);
        if status != self.status {
            lines.push(format!("STATUS={status}"));
            self.status = status;
        }
        if !lines.is_empty() {
            self.send(&lines.join("\n"));
        }
    }

    /// Reports that a reload by signal begins. Until it ends, no other state is reported.
    pub(crate) fn reloading(&mut self) {
        if self.stage == Stage::Ready {
            self.stage = Stage::Reloading;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()));
        }
    }

    /// Reports that the reload has ended, successfully or not: the app serves as before.
    pub(crate) fn reloaded(&mut self) {
        if self.stage == Stage::Reloading {
            self.stage = Stage::Ready;
            self.send("READY=1");
        }
    }

    fn send(&self, text: &str) {
        let Some(Manager { socket, address }) = &self.manager else {
            return;
        };
        match socket.send_to_addr(text.as_bytes(), address) {
            Ok(_) => {}
            Err(error) => tracing::warn!("NOTIFY_SOCKET: {error}"),
        }
    }
}

/// The address of a path, or of an abstract socket whose name follows `@`.
fn address_of(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(path),
    }
}

/// The interval of the watchdog; `None` if the watchdog is for another process.
fn watchdog_interval(allowed_us: u64, pid: Option<u64>, own: u32) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid == u64::from(own));
    (is_ours && allowed_us > 1).then(|| Duration::from_micros(allowed_us / 2))
}

fn is_up(view: &View) -> bool {
    !view.slots.is_empty() && view.slots.iter().all(|slot| slot.state == WorkerState::Active)
}

/// `4/4 active, sticky`; `0/4 active, sticky: every worker has failed`.
fn status(view: &View) -> String {
    let active = view.slots.iter().filter(|slot| slot.state == WorkerState::Active);
    let stage = match (view.stopping, view.all_failed) {
        (_, true) => ": every worker has failed",
        (true, false) => ", stopping",
        (false, false) => "",
    };
    format!(
        "{}/{} active, {}{stage}",
        active.count(),
        view.slots.len(),
        view.policy.name()
    )
}

/// The time of the kernel's monotonic clock in microseconds, which the manager compares with its own.
fn monotonic_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and `now` is a timespec that outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    debug_assert_eq!(result, 0, "the monotonic clock is there");
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000 + nanoseconds / 1_000
}

#[cfg(test)]
mod tests {
    use reuse_common::Policy;

    use super::*;
    use crate::base::VersionId;

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_if_it_is_ours() {
        let half = Some(Duration::from_millis(500));
        assert_eq!(watchdog_interval(1_000_000, None, 7), half);
        assert_eq!(watchdog_interval(1_000_000, Some(7), 7), half);
        assert_eq!(watchdog_interval(1_000_000, Some(8), 7), None);
        assert_eq!(watchdog_interval(0, None, 7), None);
    }

    #[test]
    fn that_all_have_failed_is_for_the_machine_to_say() {
        let view = |stopping, all_failed| View {
            policy: Policy::Sticky,
            version: VersionId::default(),
            stopping,
            all_failed,
            slots: Vec::new(),
        };
        assert_eq!(status(&view(false, false)), "0/0 active, sticky");
        assert_eq!(status(&view(true, false)), "0/0 active, sticky, stopping");
        assert_eq!(status(&view(true, true)), "0/0 active, sticky: every worker has failed");
    }

    #[test]
    fn both_kinds_of_names_are_understood() {
        let by_path = address_of(OsStr::new("/run/x")).expect("a path");
        assert_eq!(by_path.as_pathname(), Some(std::path::Path::new("/run/x")));
        let abstract_one = address_of(OsStr::new("@x")).expect("a name");
        assert_eq!(abstract_one.as_abstract_name(), Some(&b"x"[..]));
    }
}
