//! The samples of `reuse-ctl`'s bench `selection`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use crate::spread::Spread;

/// The case of a program that does nothing.
pub(crate) const EMPTY: &str = "empty";

/// The case of a program that selects without a look at anything: no steering takes less.
pub(crate) const BLIND: &str = "a blind choice";

/// What it prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Selection {
    pub(crate) rounds: usize,
    /// Per case and round.
    pub(crate) connections: usize,
    /// What a connection costs, one part of the steering after the other.
    pub(crate) steps: Vec<Step>,
    /// By name.
    pub(crate) programs: BTreeMap<String, Size>,
    cells: Vec<Cell>,
    executed: Vec<Executed>,
}

/// The step before, and one thing more.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) adds: String,
    /// CPU time per connection, the mean of each round.
    pub(crate) ns: Vec<f64>,
}

/// How large a program is, as the kernel has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Size {
    pub(crate) instructions: u32,
    /// In bytes.
    pub(crate) machine_code: u32,
    /// Instructions that the verifier followed; old kernels do not tell.
    pub(crate) verified: Option<u32>,
}

/// What one selection executes: counted, and not measured.
#[derive(Debug, Deserialize)]
pub(crate) struct Executed {
    case: String,
    workers: u16,
    pub(crate) instructions: u64,
    pub(crate) atomics: u64,
    pub(crate) helpers: u64,
    /// So many of the helpers are look-ups in arrays, which the kernel replaces by a few instructions.
    pub(crate) inlined: u64,
}

/// What made the program run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Traffic {
    /// Real connections.
    Connections,
    /// UDP datagrams, between which the processor does little else.
    Datagrams,
}

/// One case in a group of one size.
#[derive(Debug, Deserialize)]
struct Cell {
    traffic: Traffic,
    workers: u16,
    case: String,
    /// Per run, the mean of each round.
    ns: Vec<f64>,
}

impl Selection {
    pub(crate) fn parse(json: &str) -> anyhow::Result<Self> {
        serde_json::from_str(json.trim()).context("the samples of the bench `selection`")
    }

    /// The sizes of the groups.
    pub(crate) fn sizes(&self) -> Vec<u16> {
        let mut sizes: Vec<u16> = self.cells.iter().map(|cell| cell.workers).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Nanoseconds per run in each round.
    pub(crate) fn ns(&self, traffic: Traffic, case: &str, workers: u16) -> Option<&[f64]> {
        self.cells
            .iter()
            .find(|cell| cell.traffic == traffic && cell.case == case && cell.workers == workers)
            .map(|cell| cell.ns.as_slice())
    }

    /// Nanoseconds per run, less those of the case `base` in the same round.
    pub(crate) fn above(&self, base: &str, traffic: Traffic, case: &str, workers: u16) -> Option<Spread> {
        let base = self.ns(traffic, base, workers)?;
        Some(Spread::of_differences(self.ns(traffic, case, workers)?, base))
    }

    /// What a run executes.
    pub(crate) fn executed(&self, case: &str, workers: u16) -> Option<&Executed> {
        self.executed
            .iter()
            .find(|executed| executed.case == case && executed.workers == workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_case_and_size() {
        let text = r#"{"rounds":2,"connections":9,"steps":[{"adds":"nothing","ns":[9000]}],"cells":[{"traffic":"connections","workers":4,"case":"empty","ns":[30,31]},
            {"traffic":"connections","workers":4,"case":"hash","ns":[80,82]},{"traffic":"datagrams","workers":16,"case":"hash","ns":[90,91]}],
            "programs":{"select":{"instructions":5000,"machine_code":20000,"verified":70000}},
            "executed":[{"case":"hash","workers":16,"instructions":111,"atomics":2,"helpers":3,"inlined":2}]}"#;
        let selection = Selection::parse(text).expect("it parses");
        assert_eq!(selection.sizes(), [4, 16]);
        assert_eq!(selection.ns(Traffic::Connections, "hash", 4), Some(&[80.0, 82.0][..]));
        assert_eq!(selection.ns(Traffic::Datagrams, "hash", 16), Some(&[90.0, 91.0][..]));
        assert_eq!(selection.ns(Traffic::Connections, "hash", 16), None);
        let above = selection.above(EMPTY, Traffic::Connections, "hash", 4);
        assert_eq!(above.map(|above| above.median), Some(50.5));
        let executed = selection.executed("hash", 16).expect("it is there");
        assert_eq!((executed.instructions, executed.inlined), (111, 2));
        assert!(selection.executed("hash", 4).is_none());
    }
}
