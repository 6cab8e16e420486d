//! Random events, sensible or not, for the property tests.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reuse_common::{Policy, Share};

use super::world::{KILLED, config};
use crate::ids::{SlotId, VersionId};
use crate::interface::{
    ApplyPlan, Backlog, Command, Config, Exit, HealthRules, HungRules, Load, PlannedRollout, Rules, ScaleTarget, Surge,
    WhenAllFailed,
};

/// One event. Instances are picked among all that were ever spawned, including dead ones.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Ask(Command),
    Pass(u64),
    Spawned(usize),
    SpawnFailed(usize),
    Ready(usize),
    Unready(usize),
    Exited(usize, Exit),
    ServersEnded(usize, u32),
    Idle(bool),
    /// The clock advances while the controller is late: the next event comes before the tick that is due.
    Late(u64),
    Observed(Vec<(usize, Load)>),
    /// A number of looks at a fixed interval, during which these slots accept nothing and the others accept something.
    Serve {
        looks: u8,
        gap_ms: u64,
        hung: u8,
    },
    /// Readings as bad as they may come; not even true.
    Watched(Vec<(usize, Backlog)>),
    Checked(usize, bool),
    Interrupt,
    Start,
}

pub(super) fn slot() -> impl Strategy<Value = SlotId> {
    (0..6_u16).prop_map(SlotId)
}

pub(super) fn load() -> impl Strategy<Value = Load> {
    (0..3_u32, 0..2_u32, 0..2_u32, 0..2_u32).prop_map(|(connections, queue, handshakes, in_flight)| Load {
        connections,
        queue,
        handshakes,
        in_flight,
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

/// All commands except [`Command::Stop`], which [`ending`] generates.
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
        1 => (slot(), proptest::option::of(share())).prop_map(|(slot, share)| Command::Weigh { slot, share }),
        2 => (share(), 1..9_u32).prop_map(|(share, version)| Command::Canary { share, version: VersionId(version) }),
        2 => plan().prop_map(Command::Apply),
        2 => Just(Command::Promote),
        2 => Just(Command::Abort),
    ]
}

/// The number of the command's kind. A new kind does not compile until it is added here, and the test below fails until it is generated.
fn kind(command: &Command) -> usize {
    match command {
        Command::Drain { .. } => 0,
        Command::Undrain { .. } => 1,
        Command::Restart { .. } => 2,
        Command::Reload { .. } => 3,
        Command::Apply(_) => 4,
        Command::Scale(ScaleTarget::To(_)) => 5,
        Command::Scale(ScaleTarget::Up(_)) => 6,
        Command::Scale(ScaleTarget::Down(_)) => 7,
        Command::SetPolicy(_) => 8,
        Command::Weigh { .. } => 9,
        Command::Canary { .. } => 10,
        Command::Promote => 11,
        Command::Abort => 12,
        Command::Stop { .. } => 13,
    }
}

/// Number of kinds of commands.
const KINDS: usize = 14;

#[test]
fn every_kind_of_command_is_generated() {
    let mut runner = TestRunner::deterministic();
    let events = prop_oneof![20 => event(), 1 => ending()];
    let mut seen = [false; KINDS];
    for _ in 0..4_000 {
        if let Event::Ask(command) = events.new_tree(&mut runner).expect("nothing is filtered").current() {
            seen[kind(&command)] = true;
        }
    }
    assert_eq!(seen, [true; KINDS]);
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![3 => 1..4_000_u16, 1 => 1..10_000_u16]
        .prop_map(|share| Share::from_hundredths_of_a_percent(share).expect("1 to 9,999"))
}

fn backlog() -> impl Strategy<Value = Backlog> {
    (0..4_u32, 0..9_u64, 0..9_u64).prop_map(|(queue, accepted_at_least, accepted_at_most)| Backlog {
        queue,
        accepted_at_least,
        accepted_at_most,
    })
}

/// Events that make instances faulty, and well again.
pub(super) fn trouble() -> impl Strategy<Value = Event> {
    let looks = || (1..40_u8, 2..9_u64);
    // Usually one at a time, so that the others are fine.
    let hung = prop_oneof![4 => (0..5_u8).prop_map(|slot| 1 << slot), 2 => any::<u8>(), 1 => Just(u8::MAX)];
    let serve = (looks(), hung).prop_map(|((looks, gap_ms), hung)| Event::Serve { looks, gap_ms, hung });
    let well = looks().prop_map(|(looks, gap_ms)| Event::Serve { looks, gap_ms, hung: 0 });
    prop_oneof![
        4 => serve,
        4 => well,
        1 => proptest::collection::vec((pick(), backlog()), 0..5).prop_map(Event::Watched),
        8 => (pick(), prop_oneof![3 => Just(false), 1 => Just(true)]).prop_map(|(which, passed)| Event::Checked(which, passed)),
    ]
}

pub(super) fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![(0..3).prop_map(Exit::Code), Just(KILLED)]
}

/// Counted from the newest instance, so that most picks are alive.
pub(super) fn pick() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..6_usize, 1 => 0..40_usize]
}

/// Events of processes and of the clock.
pub(super) fn fate() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![0..1_500_u64, 0..40_000_u64].prop_map(Event::Pass),
        1 => pick().prop_map(Event::Spawned),
        1 => pick().prop_map(Event::SpawnFailed),
        8 => pick().prop_map(Event::Ready),
        2 => pick().prop_map(Event::Unready),
        5 => (pick(), exit()).prop_map(|(which, exit)| Event::Exited(which, exit)),
        1 => (pick(), 0..2_u32).prop_map(|(which, connections)| Event::ServersEnded(which, connections)),
        1 => any::<bool>().prop_map(Event::Idle),
        1 => prop_oneof![0..1_500_u64, 0..40_000_u64].prop_map(Event::Late),
        5 => proptest::collection::vec((pick(), load()), 0..5).prop_map(Event::Observed),
    ]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => fate(),
        8 => command().prop_map(Event::Ask),
        6 => trouble(),
        1 => Just(Event::Start),
    ]
}

pub(super) fn ending() -> impl Strategy<Value = Event> {
    let stop = proptest::option::of(0..40_000_u64).prop_map(|timeout_ms| Event::Ask(Command::Stop { timeout_ms }));
    prop_oneof![2 => stop, 1 => Just(Event::Interrupt)]
}

fn timeout() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0_u64), 1..40_000_u64]
}

pub(super) fn hung_rules() -> impl Strategy<Value = HungRules> {
    let replace_after_ms = proptest::option::of(0..2_000_u64);
    let percent = prop_oneof![2 => Just(50), 1 => 0..=100_u8];
    (0..60_u64, 0..200_u64, replace_after_ms, percent).prop_map(
        |(hung_after_ms, rescue_after_ms, replace_after_ms, at_most_percent)| HungRules {
            hung_after_ms,
            rescue_after_ms,
            replace_after_ms,
            at_most_percent,
        },
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    any_config().prop_map(|config| config.rules())
}

pub(super) fn plan() -> impl Strategy<Value = ApplyPlan> {
    let version = proptest::option::weighted(0.8, (1..9_u32).prop_map(VersionId));
    let rollout = (version, rules()).prop_map(|(version, rules)| PlannedRollout { version, rules });
    let policy = prop_oneof![Just(Policy::Hash), Just(Policy::Sticky)];
    (
        proptest::option::of(rollout),
        rules(),
        proptest::option::of(policy),
        proptest::option::of(1..7_u16),
    )
        .prop_map(|(rollout, rules, policy, workers)| ApplyPlan {
            rollout,
            rules,
            policy,
            workers,
        })
}

pub(super) fn surge() -> impl Strategy<Value = Surge> {
    prop_oneof![
        (1..5_u16).prop_map(Surge::Workers),
        (1..=100_u8).prop_map(Surge::Percent)
    ]
}

/// Configurations from sensible to all zeros.
pub(super) fn any_config() -> impl Strategy<Value = Config> {
    let health = (0..4_u32, 0..3_u32).prop_map(|(fails, passes)| HealthRules { fails, passes });
    let base = (
        1..5_u16,
        0..4_u32,
        any::<u64>(),
        hung_rules(),
        proptest::option::of(health),
    );
    let timeouts = (timeout(), timeout(), timeout(), timeout());
    let rollout = (prop_oneof![Just(0_u64), 1..3_000_u64], surge());
    (base, timeouts, rollout).prop_map(|((workers, crash_limit, seed, hung, health), timeouts, rollout)| {
        let (ready_timeout_ms, drain_timeout_ms, stop_timeout_ms, backoff_min_ms) = timeouts;
        let (settle_ms, surge) = rollout;
        Config {
            workers,
            ready_timeout_ms,
            drain_timeout_ms,
            stop_timeout_ms,
            rest_gets_signal: seed % 3 != 0,
            settle_ms,
            surge,
            backoff_min_ms,
            crash_limit,
            seed,
            hung,
            health,
            when_all_failed: if seed % 2 == 0 {
                WhenAllFailed::Stay
            } else {
                WhenAllFailed::Finish
            },
            ..config()
        }
    })
}
