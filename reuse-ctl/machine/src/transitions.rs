//! The transition tables. Every change of an instance's phase or a slot's state is checked against them in debug builds, and so in every test. A test compares
//! them with the tables in the documentation of [`super`].

type Table = [(&'static str, &'static [&'static str])];

/// The phases of an instance.
const PHASES: &Table = &[
    ("requested", &["starting", "terminated", "killed", "gone"]),
    (
        "starting",
        &[
            "settling",
            "active",
            "drained",
            "emptying",
            "terminated",
            "killed",
            "gone",
        ],
    ),
    ("settling", &["active", "starting", "drained", "terminated", "gone"]),
    ("active", &["starting", "draining", "emptying", "gone"]),
    ("draining", &["active", "starting", "drained", "emptying", "gone"]),
    ("drained", &["active", "starting", "terminated", "gone"]),
    ("emptying", &["active", "terminated", "killed", "gone"]),
    ("terminated", &["terminated", "killed", "gone"]),
    ("killed", &["gone"]),
];

/// The states of a slot.
const SLOTS: &Table = &[
    (
        "held",
        &[
            "held",
            "replacing",
            "vacating",
            "failing",
            "backing off",
            "failed",
            "leaving",
        ],
    ),
    ("replacing", &["held", "leaving"]),
    ("vacating", &["held", "leaving"]),
    ("failing", &["held", "vacating", "backing off", "failed", "leaving"]),
    ("backing off", &["held", "leaving"]),
    ("failed", &["held", "leaving"]),
];

/// Whether an instance may go from one phase to the other.
pub(super) fn phase_may_follow(from: &str, to: &str) -> bool {
    lists(PHASES, from, to)
}

/// Whether a slot's state may change from one to the other.
pub(super) fn slot_may_become(from: &str, to: &str) -> bool {
    lists(SLOTS, from, to)
}

fn lists(table: &Table, from: &str, to: &str) -> bool {
    table.iter().any(|(name, next)| *name == from && next.contains(&to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words in backticks of every table row in the documentation: the first word of a row, and the others.
    fn documented() -> Vec<(&'static str, Vec<&'static str>)> {
        let rows = include_str!("lib.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"));
        rows.map(|row| {
            let mut words = row.split('`').step_by(2);
            (
                words.next().expect("split yields at least one part"),
                words.filter(|word| *word != " |").collect(),
            )
        })
        .collect()
    }

    #[test]
    fn the_documentation_shows_the_tables_of_the_code() {
        let in_code: Vec<_> = PHASES
            .iter()
            .chain(SLOTS)
            .map(|(from, to)| (*from, to.to_vec()))
            .collect();
        assert_eq!(documented(), in_code);
    }

    #[test]
    fn the_last_states_are_reachable_from_everywhere() {
        for (table, last) in [(PHASES, "gone"), (SLOTS, "leaving")] {
            for (from, to) in table {
                assert!(to.contains(&last), "{from} must be able to end");
            }
        }
    }

    #[test]
    fn a_choosable_instance_hears_no_signal() {
        for signalled in ["terminated", "killed"] {
            assert!(!phase_may_follow("active", signalled));
        }
    }
}
