//! The texts of `apply`: what it would do, and what it has done.

use crate::{
    app::difference::{Change, Difference, TakesEffect},
    wire::{OptionChange, Reply},
};
use reuse_machine::count;

/// The answer to a dry run.
pub(crate) fn planned(difference: &Difference, workers: usize, starts_anew: bool) -> Reply {
    let mut would = Vec::new();
    let workers = count(workers, "worker");
    if difference.has(TakesEffect::Reload) {
        would.push(format!(
            "{} changed: would reload {workers}",
            names(difference.by(TakesEffect::Reload))
        ));
    } else if starts_anew {
        would.push(format!("every worker has failed: would start {workers} anew"));
    }
    if difference.has(TakesEffect::Live) {
        would.push(format!("would change {}", list(difference.by(TakesEffect::Live))));
    }
    if difference.has(TakesEffect::Policy) {
        would.push(format!("would change {}", list(difference.by(TakesEffect::Policy))));
    }
    if difference.has(TakesEffect::Scale) {
        would.push(scaled("would scale", difference));
    }
    Reply {
        starts_anew,
        changes: changes(difference, |_| false),
        ..said(&would)
    }
}

/// The text `every worker had failed: started 2 workers anew`.
pub(crate) fn started_anew(workers: usize) -> String {
    format!("every worker had failed: started {} anew", count(workers, "worker"))
}

/// The answer when everything was done, with a text for each step.
pub(crate) fn applied(difference: &Difference, done: &[String]) -> Reply {
    Reply {
        changes: changes(difference, |_| true),
        ..said(done)
    }
}

/// What the changes that take effect as `step` need was not done, for the reason that `refused` gives; those before were.
pub(crate) fn applied_in_part(difference: &Difference, done: &[String], step: TakesEffect, refused: Reply) -> Reply {
    let what = list(difference.by(step));
    let why = refused.error.as_deref().unwrap_or_default();
    let so_far = match done {
        [] => String::new(),
        done => format!("; done: {}", done.join("; ")),
    };
    Reply {
        error: Some(format!("{what} was not done: {why}{so_far}")),
        changes: changes(difference, |takes_effect| takes_effect < step),
        ..refused
    }
}

fn said(parts: &[String]) -> Reply {
    Reply {
        ok: true,
        message: Some(match parts {
            [] => "unchanged".into(),
            parts => parts.join("; "),
        }),
        ..Reply::default()
    }
}

/// The text `scaled 2 → 4`.
pub(crate) fn scaled(verb: &str, difference: &Difference) -> String {
    let values = difference
        .by(TakesEffect::Scale)
        .find_map(|change| change.values.as_ref());
    let (from, to) = values.map_or(("?", "?"), |(from, to)| (from, to));
    format!("{verb} {from} → {to}")
}

/// The text `drain-timeout 30s → 10s, command`.
pub(crate) fn list<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    changes.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// As [`list`], for use within a sentence: if there are many changes, only their names.
pub(crate) fn few<'a>(changes: impl Iterator<Item = &'a Change> + Clone) -> String {
    if changes.clone().count() > 3 {
        names(changes)
    } else {
        list(changes)
    }
}

/// The text `env-file, command`.
pub(crate) fn names<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    changes.map(|change| change.option).collect::<Vec<_>>().join(", ")
}

/// The changes for the JSON answer, one per option.
pub(crate) fn changes(difference: &Difference, is_done: impl Fn(TakesEffect) -> bool) -> Vec<OptionChange> {
    let changes = difference.changes.iter();
    changes
        .map(|change| OptionChange::new(change, is_done(change.takes_effect)))
        .collect()
}
