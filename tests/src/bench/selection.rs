//! The samples of `reuse-ctl`'s bench `selection`.

use anyhow::Context as _;
use serde::Deserialize;

/// What it prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Selection {
    pub(crate) rounds: usize,
    /// Per case and round.
    pub(crate) connections: usize,
    cells: Vec<Cell>,
}

/// One case in a group of one size.
#[derive(Debug, Deserialize)]
struct Cell {
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
        sizes.dedup();
        sizes
    }

    /// Nanoseconds per run in each round.
    pub(crate) fn ns(&self, case: &str, workers: u16) -> Option<&[f64]> {
        self.cells
            .iter()
            .find(|cell| cell.case == case && cell.workers == workers)
            .map(|cell| cell.ns.as_slice())
    }

    /// The program that does nothing, in groups of this size.
    pub(crate) fn empty_ns(&self, workers: u16) -> Option<&[f64]> {
        self.ns("empty", workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_case_and_size() {
        let text = r#"{"rounds":2,"connections":9,"cells":[{"workers":4,"case":"empty","ns":[30,31]},
            {"workers":4,"case":"hash","ns":[80,81]},{"workers":16,"case":"hash","ns":[90,91]}]}"#;
        let selection = Selection::parse(text).expect("it parses");
        assert_eq!(selection.sizes(), [4, 16]);
        assert_eq!(selection.ns("hash", 16), Some(&[90.0, 91.0][..]));
        assert_eq!(selection.empty_ns(4), Some(&[30.0, 31.0][..]));
        assert_eq!(selection.empty_ns(16), None);
    }
}
