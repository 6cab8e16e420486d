//! Many runs: every case with every seed, on all processors, and what the seeds make of a number.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::outcome::RunOutcome;
use crate::setup::Setup;
use crate::world;

/// How thoroughly to simulate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) seeds: u64,
    /// The numbers of connections are divided by this.
    pub(crate) divisor: u64,
}

impl Effort {
    pub(crate) const WHOLE: Self = Self { seeds: 5, divisor: 1 };
    pub(crate) const QUICK: Self = Self { seeds: 2, divisor: 10 };

    /// So many connections, or fewer.
    pub(crate) const fn connections(self, whole: u64) -> u64 {
        whole / self.divisor
    }
}

/// The outcomes of one case, a seed each.
pub(crate) type RunOutcomes = Vec<RunOutcome>;

/// Runs every setup with every seed. What comes out depends on the setups alone, not on the processors.
pub(crate) fn run_all(setups: &[Setup], effort: Effort) -> Vec<RunOutcomes> {
    let seeds = effort.seeds as usize;
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<RunOutcome>>> = (0..setups.len() * seeds).map(|_| Mutex::new(None)).collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(result) = results.get(nth) else { return };
                    let mut setup = setups[nth / seeds].clone();
                    setup.seed = 1 + (nth % seeds) as u64;
                    let outcome = world::run(&setup);
                    *result.lock().expect("no run panics with the lock held") = Some(outcome);
                }
            });
        }
    });
    let mut outcomes = results.into_iter().map(|result| {
        let outcome = result.into_inner().expect("no run panics with the lock held");
        outcome.expect("every run has come to its end")
    });
    setups.iter().map(|_| outcomes.by_ref().take(seeds).collect()).collect()
}

/// A number's middle over the seeds, and its extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// Of this number of each outcome.
    pub(crate) fn of(outcomes: &[RunOutcome], number: impl Fn(&RunOutcome) -> f64) -> Self {
        let mut values: Vec<f64> = outcomes.iter().map(number).collect();
        values.sort_by(f64::total_cmp);
        Self {
            least: values[0],
            median: f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]),
            most: values[values.len() - 1],
        }
    }

    /// As [`shown`](Self::shown), of counts.
    pub(crate) fn whole(&self) -> String {
        let [least, median, most] = [self.least, self.median, self.most].map(|count| format!("{count:.0}"));
        if least == most {
            median
        } else {
            format!("{median} ({least} … {most})")
        }
    }

    /// `median (least … most)`; only the median when all agree at this precision.
    pub(crate) fn shown(&self) -> String {
        let [least, median, most] = [self.least, self.median, self.most].map(short);
        if least == most {
            median
        } else {
            format!("{median} ({least} … {most})")
        }
    }
}

/// Three digits that say something.
pub(crate) fn short(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.0995 {
        format!("{value:.2}")
    } else if magnitude >= 0.000_995 {
        format!("{value:.4}")
    } else {
        format!("{value:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.0, 1234.5, 99.96, 12.34, 1.234, 0.1234, 0.001234, 0.00001]
            .map(short)
            .into();
        assert_eq!(shown, ["0", "1234", "100", "12.3", "1.23", "0.12", "0.0012", "1e-5"]);
    }
}
