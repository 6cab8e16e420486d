//! Texts for users, one line each.

use std::fmt;

use super::left::{Left, Next};
use crate::ids::{InstanceId, SlotId};
use crate::interface::MAX_WORKERS;
use crate::interface::{Cut, Exit, Load, Refusal};
use crate::states::{ErrorKind, FaultKind};
use crate::text::{Text, Verb};

/// Why an instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Another instance of its slot replaces it.
    Replaced,
    /// Its slot is removed.
    ScaledDown,
    /// Its slot was a canary's.
    CanaryOver,
    /// The instance that it was to replace gets another request.
    GivenUp,
    /// The app stops.
    Stop,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "it is replaced",
            Self::ScaledDown => "its slot is removed",
            Self::CanaryOver => "it was a canary",
            Self::GivenUp => "the replacement is given up",
            Self::Stop => "the app stops",
        })
    }
}

/// "worker 2 (pid 411)", or "worker 2" if there is no process yet.
pub(super) fn worker(slot: SlotId, pid: Option<u32>) -> String {
    pid.map_or_else(|| format!("worker {slot}"), |pid| format!("worker {slot} (pid {pid})"))
}

/// "30 s", "0.4 s".
pub(super) fn seconds(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    match tenths % 10 {
        0 => format!("{} s", tenths / 10),
        tenth => format!("{}.{tenth} s", tenths / 10),
    }
}

/// "60 ms", "30 s".
pub(super) fn lasting(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { seconds(ms) }
}

/// Follows a worker's name.
pub(super) fn hung(stall_ms: u64, queue: Option<u32>) -> String {
    format!(
        "accepted nothing for {} with {} in its queue",
        lasting(stall_ms),
        count(queue.unwrap_or(0), "connection")
    )
}

/// Follows a worker's name.
pub(super) fn unhealthy(checks: u32, why: &str) -> String {
    match checks {
        0 | 1 => format!("failed its health check: {why}"),
        _ => format!("failed {checks} health checks in a row: {why}"),
    }
}

/// "hung", "unhealthy".
pub(super) fn fault(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Hung => "hung",
        FaultKind::Unhealthy => "unhealthy",
    }
}

/// "exited with code 1", which follows a worker's name.
pub(super) fn exited(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(_) => format!("was {exit}"),
    }
}

/// "3 connections are left (1 not accepted yet)".
pub(super) fn left(seen: Option<Load>) -> String {
    let Some(load) = seen else {
        return "what is left could not be seen yet".into();
    };
    match (load.connections, load.queue) {
        (0, 0) => format!("{} left", are(load.handshakes, "handshake")),
        (0, queue) => format!("{} left in the queue", are(queue, "connection")),
        (connections, 0) => format!("{} left", are(connections, "connection")),
        (connections, queue) => format!("{} left ({queue} not accepted yet)", are(connections, "connection")),
    }
}

/// "1 worker", "4 workers".
pub fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let s = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// "2 connections were cut with a request in flight", if any were.
pub(super) fn cut(cut: Cut) -> Option<String> {
    cost(cut, "")
}

/// "2 connections of worker 1 were cut with a request in flight", if any were.
pub(super) fn cut_of(slot: SlotId, cut: Cut) -> Option<String> {
    cost(cut, &format!(" of worker {slot}"))
}

fn cost(cut: Cut, whose: &str) -> Option<String> {
    let all = cut.connections();
    let were = if all == 1 { "was" } else { "were" };
    let connections = format!("{}{whose} {were} cut", count(all, "connection"));
    match (cut.in_flight, cut.open) {
        (0, 0) => None,
        (_, 0) => Some(format!("{connections} with a request in flight")),
        (0, _) => Some(connections),
        (in_flight, _) => Some(format!("{connections}, {in_flight} with a request in flight")),
    }
}

pub(super) fn there_are(workers: u16) -> String {
    let are = if workers == 1 { "is" } else { "are" };
    format!("there {are} {} already", count(workers, "worker"))
}

/// "0, 2, 3".
pub(super) fn list(slots: &[SlotId]) -> String {
    slots.iter().map(SlotId::to_string).collect::<Vec<_>>().join(", ")
}

/// "1 worker is", "4 workers are".
pub(super) fn are<N: Copy + fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let are = if number == N::from(1) { "is" } else { "are" };
    format!("{} {are}", count(number, noun))
}

pub(super) fn refusal(kind: ErrorKind, error: impl Into<String>, hint: impl Into<Text>) -> Refusal {
    Refusal {
        kind,
        error: error.into(),
        hint: hint.into(),
        slots: Vec::new(),
        culprit: None,
    }
}

pub(super) fn failed(error: impl Into<String>, hint: impl Into<Text>) -> Refusal {
    refusal(ErrorKind::Failed, error, hint)
}

pub(super) fn no_such_worker(slot: SlotId, workers: usize) -> Refusal {
    let there_are = match workers {
        0 => "has no workers".to_owned(),
        1 => "has only worker 0".to_owned(),
        _ => format!("has workers 0…{}", workers - 1),
    };
    refusal(
        ErrorKind::NotFound,
        format!("no worker {slot}; this app {there_are}"),
        Verb::Status.run() + " lists them",
    )
}

pub(super) fn drain_timed_out(slot: SlotId, seen: Option<Load>) -> Refusal {
    refusal(
        ErrorKind::Timeout,
        format!("worker {slot}: {}", left(seen)),
        "it stays withdrawn: "
            + Verb::Undrain.with(slot)
            + " publishes it again, "
            + Verb::Restart.with(slot)
            + " replaces it",
    )
}

pub(super) fn last_active(slot: SlotId) -> Refusal {
    failed(
        format!("worker {slot} is the last active one: nobody would serve new connections"),
        Verb::Scale.with("+1")
            + " adds a worker; --force drains it all the same, and new connections wait until one is active",
    )
}

pub(super) fn too_many_workers(workers: u16) -> Refusal {
    refusal(
        ErrorKind::Usage,
        format!("an app has 1 to {MAX_WORKERS} workers; this one has {workers}"),
        Verb::Scale.with(4) + " sets the number, `scale +1` and `scale -1` change it",
    )
}

pub(super) fn canary_first(canary: SlotId) -> Refusal {
    failed(
        format!("worker {canary} is a canary: promote or abort the canary first"),
        Verb::Promote.run() + " rolls it to all workers, " + Verb::Abort.run() + " removes it",
    )
}

pub(super) fn being_removed(slot: SlotId) -> Refusal {
    failed(
        format!("worker {slot} is being removed"),
        Verb::Status.run() + " lists the workers",
    )
}

pub(super) fn stopping() -> Refusal {
    failed("the app is stopping", "start it again with `reuse-ctl run`")
}

pub(super) fn stopped_meanwhile() -> Refusal {
    failed("the app was stopped meanwhile", "start it again with `reuse-ctl run`")
}

pub(super) fn under_way(what: impl fmt::Display) -> Refusal {
    failed(
        format!("{what} is under way"),
        "try again when it is done; " + Verb::Status.run() + " shows how far it is",
    )
}

pub(super) fn undrained_meanwhile(slot: SlotId) -> Refusal {
    failed(
        format!("worker {slot} was undrained meanwhile"),
        Verb::Drain.with(slot) + " withdraws it again",
    )
}

pub(super) fn drain_cut_short(slot: SlotId, why: Why) -> Refusal {
    match why {
        Why::Stop => stopped_meanwhile(),
        Why::Replaced | Why::ScaledDown | Why::CanaryOver | Why::GivenUp => failed(
            format!("worker {slot} was not drained: {why}"),
            "its connections get the usual grace to end",
        ),
    }
}

pub(super) fn removed_meanwhile(slot: SlotId) -> Refusal {
    failed(
        format!("worker {slot} was removed meanwhile"),
        Verb::Status.run() + " lists the workers that are left",
    )
}

/// Every worker has failed: the text of the event, and the first line of `status`.
pub(super) fn all_failed(workers: usize, reason: Option<&str>) -> Text {
    let (who, how) = match workers {
        1 => ("the only worker has failed", String::new()),
        _ => ("every worker has failed", "the last one ".to_owned()),
    };
    let how = reason.map(|reason| format!(" ({how}{reason})")).unwrap_or_default();
    Text::from(format!("{who}{how}: nobody serves; "))
        + Verb::Reload.run()
        + " starts the app anew, "
        + Verb::Stop.run()
        + " ends it"
}

pub(super) fn nobody_to_add_to() -> Refusal {
    failed(
        "every worker has failed: the app can't be scaled",
        Verb::Reload.run() + " starts them again; scale the app when they serve",
    )
}

/// Follows the command that shows the logs of a slot with two instances.
const NEW_ONE: &str = " shows what the new one wrote";

/// The refusal for a start that failed, with what is left in its slot.
pub(super) fn start_failed(slot: SlotId, culprit: InstanceId, reason: &str, left: Left) -> Refusal {
    let error = format!("the new instance of worker {slot} {reason}");
    let (logs, its_logs) = (Verb::Logs.with(slot), Verb::Logs.with(slot) + " shows what it wrote");
    let (error, hint) = match left {
        Left::Survivor(pid) => (
            error,
            Text::from(format!("the old instance (pid {pid}) goes on, untouched; ")) + logs + NEW_ONE,
        ),
        Left::Restored(pid) => (
            error,
            Text::from(format!("the old instance (pid {pid}) serves again; ")) + logs + NEW_ONE,
        ),
        Left::Removed => (error, its_logs),
        Left::Nobody { next, others_serve } => {
            let whom = if others_serve { "" } else { ", and nobody else serves" };
            let next: Text = match next {
                Next::Starts => format!("worker {slot} is being started again").into(),
                Next::StartsIn { ms } => format!("worker {slot} is started again in {}", lasting(ms)).into(),
                Next::StartsWhenGone => format!("worker {slot} is started again when that one is gone").into(),
                Next::IsLeftAlone => {
                    Text::from(format!("worker {slot} is left alone until ")) + Verb::Restart.with(slot)
                }
            };
            (
                format!("{error}; nothing serves in its place{whom}"),
                next + "; " + its_logs,
            )
        }
    };
    Refusal {
        culprit: Some(culprit),
        ..failed(error, hint)
    }
}

/// A new version has failed, and these slots have the old one again. `still` says what all slots run now.
pub(super) fn taken_back(failure: Refusal, brought_back: &[SlotId], still: &str) -> Refusal {
    let so_far = match brought_back {
        [] => "no worker was changed".to_owned(),
        [one] => format!("worker {one} had it and was brought back"),
        several => format!("workers {} had it and were brought back", list(several)),
    };
    Refusal {
        error: format!("{}; {so_far}: {still}", failure.error),
        slots: Vec::new(),
        ..failure
    }
}

/// A new version has failed, and so has going back: some slots still have the new version, others fail with the old one too.
pub(super) fn not_brought_back(failure: Refusal, again: &Refusal, stuck: Vec<SlotId>, failing: &[SlotId]) -> Refusal {
    let mut error = failure.error;
    if !stuck.is_empty() {
        let workers = count(stuck.len(), "worker");
        error = format!(
            "{error}; and it could not be taken back on {workers} ({})",
            list(&stuck)
        );
    }
    if !failing.is_empty() {
        let fail = if failing.len() == 1 { "fails" } else { "fail" };
        error = format!("{error}; and {} {fail} with the old version, too", named(failing));
    }
    Refusal {
        error: format!("{error}: {}", again.error),
        hint: if stuck.is_empty() {
            Verb::Status.run() + " shows which workers serve, " + Verb::Logs.run() + " what they wrote"
        } else {
            Verb::Abort.run() + " brings every worker back to the old version"
        },
        slots: stuck,
        ..failure
    }
}

/// The canary itself has failed while its version was rolled out to the others.
pub(super) fn canary_failed(canary: SlotId, culprit: InstanceId, reason: &str) -> Refusal {
    Refusal {
        culprit: Some(culprit),
        ..failed(format!("the canary, worker {canary}, {reason}"), "")
    }
}

/// A promotion has failed. `left` says who serves in the canary's slot.
pub(super) fn not_promoted(refusal: Refusal, canary: SlotId, left: Left) -> Refusal {
    let stays = match left {
        Left::Survivor(_) | Left::Restored(_) => "stays",
        Left::Nobody {
            next: Next::Starts | Next::StartsIn { .. } | Next::StartsWhenGone,
            ..
        } => "is started again",
        Left::Nobody {
            next: Next::IsLeftAlone,
            ..
        }
        | Left::Removed => "is left alone",
    };
    let abort = if refusal.slots.is_empty() {
        Verb::Abort.run() + " removes the canary"
    } else {
        Verb::Abort.run() + " brings every worker back"
    };
    let first = match left {
        Left::Survivor(_) | Left::Restored(_) => Verb::Promote.run() + " tries again",
        Left::Nobody { .. } | Left::Removed => Verb::Logs.with(canary) + " shows what it wrote",
    };
    Refusal {
        error: format!("{}; the canary {stays}", refusal.error),
        hint: first + ", " + abort,
        ..refusal
    }
}

/// "worker 2", "workers 0, 2".
fn named(slots: &[SlotId]) -> String {
    let noun = if slots.len() == 1 { "worker" } else { "workers" };
    format!("{noun} {}", list(slots))
}

/// "worker 2 is", "workers 0, 2 are".
pub(super) fn workers_are(slots: &[SlotId]) -> String {
    format!("{} {}", named(slots), if slots.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_whole_or_have_one_digit() {
        assert_eq!(seconds(0), "0 s");
        assert_eq!(seconds(380), "0.4 s");
        assert_eq!(seconds(980), "1 s");
        assert_eq!(seconds(30_000), "30 s");
        assert_eq!(seconds(61_500), "61.5 s");
        assert!(seconds(u64::MAX).ends_with(" s"), "no overflow");
    }

    #[test]
    fn what_is_left_is_counted_in_plain_words() {
        assert_eq!(
            (count(1_u64, "worker"), count(0_u64, "worker")),
            ("1 worker".into(), "0 workers".into())
        );
        let load = |connections, queue, handshakes| {
            Some(Load {
                connections,
                queue,
                handshakes,
                ..Load::default()
            })
        };
        assert_eq!(left(load(3, 1, 0)), "3 connections are left (1 not accepted yet)");
        assert_eq!(left(load(1, 0, 9)), "1 connection is left");
        assert_eq!(left(load(0, 0, 2)), "2 handshakes are left");
        assert_eq!(left(load(0, 2, 0)), "2 connections are left in the queue");
        assert_eq!(left(None), "what is left could not be seen yet");
    }

    #[test]
    fn what_was_cut_is_told_if_anything_was() {
        let said = |in_flight, open| cut_of(SlotId(1), Cut { in_flight, open });
        assert_eq!(said(0, 0), None);
        assert_eq!(
            said(2, 0).as_deref(),
            Some("2 connections of worker 1 were cut with a request in flight")
        );
        assert_eq!(said(0, 1).as_deref(), Some("1 connection of worker 1 was cut"));
        assert_eq!(
            cut(Cut { in_flight: 1, open: 2 }).as_deref(),
            Some("3 connections were cut, 1 with a request in flight")
        );
    }

    #[test]
    fn an_exit_follows_a_name() {
        assert_eq!(exited(Exit::Code(1)), "exited with code 1");
        assert_eq!(exited(crate::tests::world::KILLED), "was killed by SIGKILL");
    }

    #[test]
    fn an_unknown_worker_is_answered_with_the_known_ones() {
        assert_eq!(
            no_such_worker(SlotId(9), 4).error,
            "no worker 9; this app has workers 0…3"
        );
        assert_eq!(
            no_such_worker(SlotId(9), 1).error,
            "no worker 9; this app has only worker 0"
        );
    }
}
