//! The samples of `reuse-ctl`'s bench `selection`.

use anyhow::Context as _;
use serde::Deserialize;

/// What it prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Selection {
    pub(crate) rounds: usize,
    /// Per case and round.
    pub(crate) connections: usize,
    /// What a connection costs, one part of the steering after the other.
    pub(crate) steps: Vec<Step>,
    cells: Vec<Cell>,
}

/// The step before, and one thing more.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) adds: String,
    /// CPU time per connection, the mean of each round.
    pub(crate) ns: Vec<f64>,
}

/// One case in a group of one size.
#[derive(Debug, Deserialize)]
struct Cell {
    traffic: String,
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

    /// Nanoseconds per run in each round, with real connections.
    pub(crate) fn ns(&self, case: &str, workers: u16) -> Option<&[f64]> {
        self.cell("connections", case, workers)
    }

    /// The same with UDP datagrams, between which the processor does little else.
    pub(crate) fn warm_ns(&self, case: &str, workers: u16) -> Option<&[f64]> {
        self.cell("datagrams", case, workers)
    }

    fn cell(&self, traffic: &str, case: &str, workers: u16) -> Option<&[f64]> {
        self.cells
            .iter()
            .find(|cell| cell.traffic == traffic && cell.case == case && cell.workers == workers)
            .map(|cell| cell.ns.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_case_and_size() {
        let text = r#"{"rounds":2,"connections":9,"steps":[{"adds":"nothing","ns":[9000]}],"cells":[{"traffic":"connections","workers":4,"case":"empty","ns":[30,31]},
            {"traffic":"connections","workers":4,"case":"hash","ns":[80,81]},{"traffic":"datagrams","workers":16,"case":"hash","ns":[90,91]}]}"#;
        let selection = Selection::parse(text).expect("it parses");
        assert_eq!(selection.sizes(), [4, 16]);
        assert_eq!(selection.ns("hash", 4), Some(&[80.0, 81.0][..]));
        assert_eq!(selection.warm_ns("hash", 16), Some(&[90.0, 91.0][..]));
        assert_eq!(selection.ns("hash", 16), None);
    }
}
