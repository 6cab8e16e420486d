//! The clock that this program and its load generator share.

use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    u64::try_from(Duration::from(time).as_nanos()).expect("centuries")
}

/// A moment soon, but not before a generator has been started.
pub(crate) fn soon_ns() -> u64 {
    now_ns() + 200_000_000
}

/// Of seconds that are not negative.
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_nanos()).expect("centuries")
}

/// Does nothing until then: the timetable of a scenario.
pub(crate) fn sleep_until(at_ns: u64) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a scenario happens at set times; nothing is waited for here"
    )]
    thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
}
