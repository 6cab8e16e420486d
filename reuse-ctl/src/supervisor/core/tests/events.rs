//! What may happen, sensible or not, for the properties.

use proptest::prelude::*;
use reuse_common::Policy;

use super::world::config;
use crate::supervisor::interface::{Command, Config, Exit, Load, ScaleTarget, SlotId};

/// One thing that happens. Instances are picked among those that were ever spawned, the dead ones included.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Ask(Command),
    Pass(u64),
    Spawned(usize),
    SpawnFailed(usize),
    Ready(usize),
    Unready(usize),
    Exited(usize, Exit),
    Observed(Vec<(usize, Load)>),
    Interrupt,
    Start,
}

pub(super) fn slot() -> impl Strategy<Value = SlotId> {
    (0..6_u16).prop_map(SlotId)
}

pub(super) fn load() -> impl Strategy<Value = Load> {
    (0..3_u32, 0..2_u32, 0..2_u32, any::<bool>()).prop_map(|(connections, queue, handshakes, catches_stop_signal)| {
        Load {
            connections,
            queue,
            handshakes,
            catches_stop_signal,
        }
    })
}

pub(super) fn drain() -> impl Strategy<Value = Command> {
    (slot(), proptest::option::of(0..5_000_u64), any::<bool>(), any::<bool>()).prop_map(
        |(slot, timeout_ms, no_wait, force)| Command::Drain {
            slot,
            timeout_ms,
            no_wait,
            force,
        },
    )
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let policy = prop_oneof![Just(Policy::Hash), Just(Policy::Sticky)];
    prop_oneof![
        4 => drain(),
        3 => slot().prop_map(|slot| Command::Undrain { slot }),
        4 => (slot(), any::<bool>()).prop_map(|(slot, stop_first)| Command::Restart { slot, stop_first }),
        2 => any::<bool>().prop_map(|stop_first| Command::Reload { stop_first }),
        1 => (0..7_u16).prop_map(|workers| Command::Scale(ScaleTarget::To(workers))),
        1 => (0..3_u16).prop_map(|more| Command::Scale(ScaleTarget::Up(more))),
        1 => (0..3_u16).prop_map(|fewer| Command::Scale(ScaleTarget::Down(fewer))),
        1 => policy.prop_map(Command::SetPolicy),
    ]
}

pub(super) fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![(0..3).prop_map(Exit::Code), Just(Exit::Signal(9))]
}

/// Counted from the newest, so that most picks are alive.
pub(super) fn pick() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..6_usize, 1 => 0..40_usize]
}

/// What happens to processes, and to the clock.
pub(super) fn fate() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![0..1_500_u64, 0..40_000_u64].prop_map(Event::Pass),
        1 => pick().prop_map(Event::Spawned),
        1 => pick().prop_map(Event::SpawnFailed),
        8 => pick().prop_map(Event::Ready),
        2 => pick().prop_map(Event::Unready),
        5 => (pick(), exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
        5 => proptest::collection::vec((pick(), load()), 0..5).prop_map(Event::Observed),
    ]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => fate(),
        8 => command().prop_map(Event::Ask),
        1 => Just(Event::Start),
    ]
}

pub(super) fn ending() -> impl Strategy<Value = Event> {
    let stop = proptest::option::of(0..40_000_u64).prop_map(|timeout_ms| Event::Ask(Command::Stop { timeout_ms }));
    prop_oneof![2 => stop, 1 => Just(Event::Interrupt)]
}

/// From sensible to all zeros.
pub(super) fn any_config() -> impl Strategy<Value = Config> {
    let timeout = || prop_oneof![Just(0_u64), 1..40_000_u64];
    (
        1..5_u16,
        timeout(),
        timeout(),
        timeout(),
        timeout(),
        0..4_u32,
        any::<u64>(),
    )
        .prop_map(
            |(workers, ready_timeout_ms, drain_timeout_ms, stop_timeout_ms, backoff_min_ms, crash_limit, seed)| {
                Config {
                    workers,
                    ready_timeout_ms,
                    drain_timeout_ms,
                    stop_timeout_ms,
                    backoff_min_ms,
                    crash_limit,
                    seed,
                    ..config()
                }
            },
        )
}
