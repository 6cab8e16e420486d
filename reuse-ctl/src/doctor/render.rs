//! The checks as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Check, CheckOutcome, is_fit};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// One line for each check; for what does not work also what is lost and how to get it; and finally whether `run` can work.
pub fn render(checks: &[Check], colour: bool) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        line(
            &mut text,
            format_args!(
                "{} {:width$}  {}",
                mark(check.outcome, colour),
                check.name,
                check.detail
            ),
        );
        // A feature that could not be tried is explained by the one it depends on.
        if check.outcome != CheckOutcome::Works && !check.remedy.is_empty() {
            line(
                &mut text,
                format_args!("  {:width$}  lost without it: {}", "", check.lost),
            );
            line(
                &mut text,
                format_args!("  {:width$}  how to get it: {}", "", check.remedy),
            );
        }
    }
    let last = match checks.iter().find(|check| check.outcome == CheckOutcome::Missing) {
        None => "`reuse-ctl run` has all that it needs.".to_owned(),
        Some(missing) => format!("`reuse-ctl run` does not work here; first missing: {}.", missing.name),
    };
    line(&mut text, format_args!("\n{last}"));
    text
}

/// `{"ok", "error"?, "checks": [{"name", "outcome", "detail", "lost", "remedy"}]}`; `outcome` is works, missing or warning.
pub fn to_json(checks: &[Check]) -> Value {
    let mut object = json!({ "ok": is_fit(checks), "checks": checks });
    if let Some(missing) = checks.iter().find(|check| check.outcome == CheckOutcome::Missing) {
        object["error"] = format!("{}: {}", missing.name, missing.detail).into();
    }
    object
}

fn mark(outcome: CheckOutcome, colour: bool) -> String {
    let (mark, paint) = match outcome {
        CheckOutcome::Works => ("✓", GREEN),
        CheckOutcome::Missing => ("✗", RED),
        CheckOutcome::Warning => ("!", YELLOW),
    };
    if colour {
        format!("{paint}{mark}{PLAIN}")
    } else {
        mark.to_owned()
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::feature::{BTF, KERNEL, MIGRATE, ROOT};

    fn checks() -> Vec<Check> {
        vec![
            ROOT.tried(Ok("with every capability that is needed".into())),
            KERNEL.tried(Err("Linux 5.10.0 is older than 5.14".into())),
            BTF.tried(Err("there is no /sys/kernel/btf/vmlinux".into())),
            MIGRATE.untried("the programs could not be loaded"),
        ]
    }

    #[test]
    fn what_is_missing_is_explained() {
        insta::assert_snapshot!(render(&checks(), false), @"
        ✓ root     with every capability that is needed
        ✗ kernel   Linux 5.10.0 is older than 5.14
                   lost without it: connections in the queue of a worker that ends are reset instead of moved, and cgroups can't be killed at once
                   how to get it: Linux 6.1 or newer (5.14 is the least, but was not tried): Debian 12, Ubuntu 24.04, RHEL 10, Amazon Linux 2023 or later have it
        ! BTF      there is no /sys/kernel/btf/vmlinux
                   lost without it: requests in flight can't be seen: the stop signal of a worker waits until all of its connections are closed, or for --drain-timeout
                   how to get it: a kernel built with CONFIG_DEBUG_INFO_BTF
        ✗ migrate  not tried: the programs could not be loaded

        `reuse-ctl run` does not work here; first missing: kernel.
        ");
        insta::assert_snapshot!(render(&checks()[..1], false), @"
        ✓ root  with every capability that is needed

        `reuse-ctl run` has all that it needs.
        ");
    }

    #[test]
    fn colour_changes_the_marks_only() {
        let coloured = render(&checks(), true);
        assert!(coloured.contains("\x1b[32m✓\x1b[0m root") && coloured.contains("\x1b[31m✗\x1b[0m kernel"));
        let stripped = [GREEN, RED, YELLOW, PLAIN]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(stripped, render(&checks(), false));
    }

    #[test]
    fn json_says_whether_run_can_work() {
        let checks = checks();
        let bad = to_json(&checks);
        assert_eq!(
            (&bad["ok"], &bad["error"]),
            (&json!(false), &json!("kernel: Linux 5.10.0 is older than 5.14"))
        );
        assert_eq!(bad["checks"][2]["outcome"], "warning");
        let good = to_json(&[checks[0].clone(), checks[2].clone()]);
        assert_eq!((&good["ok"], good.get("error")), (&json!(true), None));
    }
}
