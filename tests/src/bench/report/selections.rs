//! The section about selections: how long each takes, and how large the programs are.

use std::fmt::{self, Display, Formatter};

use super::reasons::Reasons;
use crate::document;
use crate::predictions::{self, CASES, TIME_TOLERANCE};
use crate::selection::{BLIND, EMPTY, Selection, Traffic};
use crate::spread::Spread;

/// A case with a target. The largest group that there is a target for stands for it; all of them are in the table.
pub(super) struct Cost {
    pub(super) case: &'static str,
    pub(super) workers: u16,
    pub(super) target_ns: f64,
    /// Nanoseconds above an empty program.
    pub(super) above: Spread,
}

impl Cost {
    /// All of them.
    pub(super) fn all(selection: &Selection) -> Vec<Self> {
        let of = |&case| {
            let (workers, target_ns) = selection
                .sizes()
                .into_iter()
                .rev()
                .find_map(|workers| Some((workers, predictions::selection_target_ns(case, workers)?)))?;
            Some(Self {
                case,
                workers,
                target_ns,
                above: selection.above(EMPTY, Traffic::Connections, case, workers)?,
            })
        };
        CASES.iter().filter_map(of).collect()
    }

    pub(super) fn is_reached(&self) -> bool {
        self.above.median <= self.target_ns
    }
}

/// The section, as Markdown.
pub(super) struct Selections<'a>(pub(super) &'a Selection);

impl Display for Selections<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Selection {
            rounds, connections, ..
        } = self.0;
        writeln!(f, "\n## Nanoseconds per selection\n")?;
        writeln!(
            f,
            "The kernel's run-time statistics of `select`, {rounds} rounds of {connections} real connections per case, the cases taking \
             turns. *Above empty* is less a program of two instructions in a group of the same size in the same round; *above a blind choice* is less \
             one that selects one of four members by two bits of the kernel's hash and looks at nothing: the floor. Between two selections \
             the processor does all that a connection costs, so code and data are as cold as in service. *Warm* is above empty again, for UDP \
             datagrams sent in a row: about the program's own work, and the rest of the time is waiting for memory. *Executed* are the instructions \
             of one selection, counted and not measured: the bench executes the program itself, and every machine gets the same number. (The kernel \
             replaces look-ups in arrays by a few instructions more, before it compiles the program.)\n"
        )?;
        writeln!(
            f,
            "| workers | case | ns per run | above empty, ns | above a blind choice, ns | predicted | | target | | warm, ns | executed |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        for workers in self.0.sizes() {
            for case in [EMPTY, BLIND].into_iter().chain(CASES) {
                self.write_row(f, case, workers)?;
            }
        }
        writeln!(
            f,
            "\nA prediction is missed when the median is off by more than {:.0} % of it.",
            100.0 * TIME_TOLERANCE
        )?;
        write!(f, "{}", Reasons(self.0))?;
        self.write_sizes(f)
    }
}

impl Selections<'_> {
    fn write_row(&self, f: &mut Formatter<'_>, case: &str, workers: u16) -> fmt::Result {
        let Some(ns) = self.0.ns(Traffic::Connections, case, workers) else {
            return Ok(());
        };
        let above = |base, traffic| self.0.above(base, traffic, case, workers);
        let shown = |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), |spread| spread.shown(0));
        let name = match case {
            EMPTY => "*empty program*",
            BLIND => "*a blind choice*",
            case => case,
        };
        let above_empty = above(EMPTY, Traffic::Connections).filter(|_| case != EMPTY);
        let above_blind = above(BLIND, Traffic::Connections).filter(|_| ![EMPTY, BLIND].contains(&case));
        let warm = above(EMPTY, Traffic::Datagrams).filter(|_| case != EMPTY);
        let predicted = predictions::selection_ns(case, workers);
        let hit = above_empty.zip(predicted).map(|(above, predicted)| {
            let is_hit = (above.median - predicted).abs() <= TIME_TOLERANCE * predicted;
            document::foretold(is_hit)
        });
        let goal = predictions::selection_target_ns(case, workers);
        let reached = above_empty.zip(goal).map(|(above, goal)| above.median <= goal);
        writeln!(
            f,
            "| {workers} | {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            Spread::of(ns).shown(0),
            shown(above_empty),
            shown(above_blind),
            predicted.map_or_else(|| "–".to_owned(), |predicted| format!("{predicted:.0}")),
            hit.unwrap_or_default(),
            goal.map_or_else(|| "–".to_owned(), |goal| format!("≤ {goal:.0}")),
            reached.map_or("", |reached| document::reached(Some(reached))),
            shown(warm),
            self.0
                .executed(case, workers)
                .map_or_else(|| "–".to_owned(), |executed| executed.instructions.to_string()),
        )
    }

    fn write_sizes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n### Sizes of the programs\n")?;
        writeln!(
            f,
            "All paths together, as the kernel has them. The verifier follows every path, and gives up after a million instructions.\n"
        )?;
        writeln!(
            f,
            "| program | instructions | bytes of machine code | instructions followed by the verifier |"
        )?;
        writeln!(f, "|---|---|---|---|")?;
        for (name, size) in &self.0.programs {
            let verified = size
                .verified
                .map_or_else(|| "–".to_owned(), |verified| verified.to_string());
            writeln!(
                f,
                "| `{name}` | {} | {} | {verified} |",
                size.instructions, size.machine_code
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `hash` in a group of four, so many nanoseconds per run.
    fn selection(ns: u32) -> Selection {
        let text = format!(
            r#"{{"rounds":1,"connections":9,"steps":[],"programs":{{"select":{{"instructions":5000,"machine_code":20000,"verified":null}}}},
            "cells":[{{"traffic":"connections","workers":4,"case":"empty","ns":[70]}},{{"traffic":"connections","workers":4,"case":"a blind choice","ns":[110]}},
            {{"traffic":"connections","workers":4,"case":"hash","ns":[{ns}]}},{{"traffic":"datagrams","workers":4,"case":"empty","ns":[60]}},
            {{"traffic":"datagrams","workers":4,"case":"a blind choice","ns":[85]}},{{"traffic":"datagrams","workers":4,"case":"hash","ns":[135]}}],
            "executed":[{{"case":"a blind choice","workers":4,"instructions":11,"atomics":0,"helpers":1,"inlined":0}},
            {{"case":"hash","workers":4,"instructions":111,"atomics":2,"helpers":3,"inlined":2}}]}}"#
        );
        Selection::parse(&text).expect("it parses")
    }

    #[test]
    fn a_missed_target_is_taken_apart() {
        let report = Selections(&selection(230)).to_string();
        let row = "| 4 | hash | 230 (230 … 230) | 160 (160 … 160) | 120 (120 … 120) | 60 | **prediction missed** | ≤ 30 | **not reached** | 75 (75 … 75) | 111 |";
        assert!(report.contains(row), "{report}");
        let floor = "| 4 | *a blind choice* | 110 (110 … 110) | 40 (40 … 40) | – | – |  | – |  | 25 (25 … 25) | 11 |";
        assert!(report.contains(floor), "{report}");
        for part in [
            "**hash**, 4 workers: 160 ns above empty. The target is 30, and the floor 40 (25 warm): no program that selects reaches that here.",
            "Of the other 120 ns, 50 are left warm, and 70 are waiting for memory.",
            "111 instructions (11 the floor), 2 atomic operations and 3 helpers (2 of them look-ups in arrays): 0.50 ns, warm, for each",
            "Where nothing else weighs, an instruction takes 0.50 ns: so much it is in hash with 4 workers, which executes the most, 111.",
        ] {
            assert!(report.contains(part), "{part} in {report}");
        }
        assert!(report.contains("| `select` | 5000 | 20000 | – |"), "{report}");
    }

    #[test]
    fn what_is_reached_needs_no_reason() {
        let report = Selections(&selection(100)).to_string();
        assert!(report.contains("| ≤ 30 | reached |"), "{report}");
        assert!(!report.contains("Why the targets"), "{report}");
    }
}
