use std::ffi::OsString;

use proptest::prelude::*;

use super::*;
use crate::app::{AppSpec, keys::Keys};

fn options(arguments: &str) -> RunOptions {
    // An underscore stands for a space within an argument.
    let arguments = arguments
        .split_whitespace()
        .map(|word| OsString::from(word.replace('_', " ")));
    let spec = AppSpec {
        arguments: arguments.chain(["--".into(), "server".into()]).collect(),
        variables: Vec::new(),
    };
    spec.resolve().unwrap_or_else(|failure| panic!("{spec:?}: {failure:?}"))
}

/// An option, a value other than its default, and how a change of it takes effect.
const OPTIONS: &[(&str, &str, TakesEffect)] = &[
    ("name", "--name other", TakesEffect::NewStart),
    ("workers", "--workers 3", TakesEffect::Scale),
    ("policy", "--policy hash", TakesEffect::Policy),
    ("port", "--port 81", TakesEffect::Reload),
    ("listen", "--listen 127.0.0.1:81", TakesEffect::NewStart),
    ("when-empty", "--when-empty refuse", TakesEffect::Live),
    ("user", "--user www", TakesEffect::NewStart),
    ("ready", "--ready ipc", TakesEffect::Reload),
    ("ready-timeout", "--ready-timeout 1s", TakesEffect::Live),
    ("settle", "--settle 5s", TakesEffect::Live),
    ("surge", "--surge 3", TakesEffect::Live),
    ("drain-timeout", "--drain-timeout 1s", TakesEffect::Live),
    ("stop-signal", "--stop-signal INT", TakesEffect::Live),
    ("kill-mode", "--kill-mode mixed", TakesEffect::Live),
    ("stop-message", "--stop-message", TakesEffect::Live),
    ("stop-when", "--stop-when closed", TakesEffect::Live),
    ("stop-timeout", "--stop-timeout 1s", TakesEffect::Live),
    ("hung-after", "--hung-after 1s", TakesEffect::Live),
    ("rescue-after", "--rescue-after 1s", TakesEffect::Live),
    ("replace-hung-after", "--replace-hung-after 1s", TakesEffect::Live),
    ("max-hung", "--max-hung 10", TakesEffect::Live),
    ("health", "--health /up", TakesEffect::Live),
    ("max-memory", "--max-memory 300M", TakesEffect::Live),
    ("max-age", "--max-age 1h", TakesEffect::Live),
    ("max-connections", "--max-connections 9", TakesEffect::Live),
    ("cron", "--cron 0_3_*_*_*", TakesEffect::Live),
    ("watch", "--watch src", TakesEffect::Live),
    ("memory-limit", "--memory-limit 1G", TakesEffect::Reload),
    ("cpu-limit", "--cpu-limit 0.5", TakesEffect::Reload),
    ("log", "--log journald", TakesEffect::NewStart),
    ("log-size", "--log-size 1M", TakesEffect::Live),
    ("log-keep", "--log-keep 7", TakesEffect::Live),
    ("env-file", "--env-file app.env", TakesEffect::Reload),
    ("increment-var", "--increment-var N=1", TakesEffect::Reload),
    ("port-step", "--port-step 1", TakesEffect::Reload),
    ("control-group", "--control-group ops", TakesEffect::NewStart),
    ("sticky-prefix4", "--sticky-prefix4 24", TakesEffect::NewStart),
    ("sticky-prefix6", "--sticky-prefix6 56", TakesEffect::NewStart),
    ("sticky-ttl", "--sticky-ttl 1s", TakesEffect::Live),
    ("sticky-capacity", "--sticky-capacity 9", TakesEffect::NewStart),
    ("cwd", "--cwd /srv", TakesEffect::Reload),
];

/// The changes as text.
fn texts(found: &Difference) -> Vec<String> {
    found.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn every_option_is_found_and_classified() {
    for &(option, argument, takes_effect) in OPTIONS {
        let found = difference(&options(""), &options(argument)).changes;
        let found: Vec<_> = found
            .iter()
            .map(|change| (change.option, change.takes_effect))
            .collect();
        assert_eq!(found, [(option, takes_effect)], "{argument}");
    }
}

/// Options that are not in [`OPTIONS`], with the reason.
const NOT_ALONE: &[(&str, &str)] = &[
    (
        "pm2-compat",
        "it changes others with it: `what_has_no_option_of_its_own`",
    ),
    ("health-interval", "a part of health: `the_parts_of_a_health_check`"),
    ("health-timeout", "a part of health: `the_parts_of_a_health_check`"),
    ("health-fails", "a part of health: `the_parts_of_a_health_check`"),
    ("health-passes", "a part of health: `the_parts_of_a_health_check`"),
    ("watch-ignore", "a part of watch: `the_parts_of_a_watch`"),
    ("watch-delay", "a part of watch: `the_parts_of_a_watch`"),
];

#[test]
fn no_option_is_forgotten_here() {
    let keys = Keys::new();
    let known: Vec<&str> = keys.all().iter().map(|key| key.long.as_str()).collect();
    let tried = OPTIONS.iter().map(|(option, ..)| *option);
    let mut listed: Vec<&str> = tried.chain(NOT_ALONE.iter().map(|(option, _)| *option)).collect();
    for option in &known {
        let times = listed.iter().filter(|listed| *listed == option).count();
        assert_eq!(
            times, 1,
            "--{option} belongs into OPTIONS, or with a reason into NOT_ALONE"
        );
    }
    listed.retain(|option| !known.contains(option));
    assert_eq!(listed, [""; 0], "there are no such options");
}

#[test]
fn what_has_no_option_of_its_own() {
    let old = options("");
    let mut new = old.clone();
    new.command.push("--fast".into());
    new.environment.variables.push(("TOKEN".into(), "hunter2".into()));
    let found = difference(&old, &new);
    assert_eq!(texts(&found), ["environment", "command"], "and no value is told");
    assert!(found.by(TakesEffect::Reload).count() == 2 && !found.has(TakesEffect::Live));
    assert_eq!(
        texts(&difference(&old, &options("--pm2-compat"))),
        [
            "stop-signal SIGTERM → SIGINT",
            "stop-timeout 10s → 1s 600ms",
            "pm2-compat no → yes"
        ]
    );
}

#[test]
fn the_parts_of_a_health_check() {
    let old = options("--health tcp");
    for (argument, shown) in [
        ("--health /up", "health tcp → /up"),
        ("--health tcp --health-interval 5s", "health-interval 2s → 5s"),
        ("--health tcp --health-timeout 5s", "health-timeout 1s → 5s"),
        ("--health tcp --health-fails 5", "health-fails 3 → 5"),
        ("--health tcp --health-passes 5", "health-passes 2 → 5"),
        ("", "health tcp → none"),
    ] {
        assert_eq!(texts(&difference(&old, &options(argument))), [shown]);
    }
}

#[test]
fn values_are_shown_as_they_are_typed() {
    let old = options("--watch src");
    for (argument, shown) in [
        ("--watch src --max-memory 300M", "max-memory none → 300M"),
        ("--watch src --memory-limit 1.5G", "memory-limit none → 1.5G"),
        ("--watch src --log-size 1M", "log-size 32M → 1M"),
        ("--watch src --log journald", "log file → journald"),
        (
            "--watch src --env-file a.env --env-file b.env",
            "env-file none → a.env,b.env",
        ),
        ("--watch src --increment-var N=1", "increment-var none → N=1"),
        ("--watch src --watch dist", "watch src → src,dist"),
        ("--watch src --watch-ignore *.log", "watch-ignore none → *.log"),
        ("", "watch src → none"),
    ] {
        assert_eq!(texts(&difference(&old, &options(argument))), [shown]);
    }
}

#[test]
fn how_a_controller_was_started_is_no_difference() {
    let mut new = options("-vv");
    new.detached = true;
    new.spec.arguments.push("x".into());
    assert_eq!(difference(&options(""), &new), Difference::default());
}

proptest! {
    /// Exactly the options that were changed are found, in both directions, whatever else differs.
    #[test]
    fn exactly_what_was_changed(picked in proptest::collection::vec(any::<bool>(), OPTIONS.len())) {
        let picked: Vec<_> = OPTIONS.iter().zip(picked).filter_map(|(option, picked)| picked.then_some(option)).collect();
        let arguments: Vec<_> = picked.iter().map(|(_, argument, _)| *argument).collect();
        let (old, new) = (options(""), options(&arguments.join(" ")));
        prop_assert_eq!(difference(&new, &new), Difference::default());
        for found in [difference(&old, &new), difference(&new, &old)] {
            let mut found: Vec<_> = found.changes.iter().map(|change| (change.option, change.takes_effect)).collect();
            let mut expected: Vec<_> = picked.iter().map(|(option, _, takes_effect)| (*option, *takes_effect)).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
