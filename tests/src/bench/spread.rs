//! A sample's middle and its spread.

/// Median and quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
    /// The true median is between these two with 95 % confidence, whatever the distribution.
    pub(crate) confidence: (f64, f64),
}

impl Spread {
    /// Of these numbers.
    ///
    /// # Panics
    /// Without any.
    pub(crate) fn of(samples: &[f64]) -> Self {
        assert!(!samples.is_empty(), "a spread needs a sample");
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            lower: at(&sorted, 1),
            median: at(&sorted, 2),
            upper: at(&sorted, 3),
            confidence: confidence(&sorted),
        }
    }

    /// Of the numbers, each less its own `baseline`.
    pub(crate) fn of_differences(samples: &[f64], baseline: &[f64]) -> Self {
        let differences: Vec<f64> = samples
            .iter()
            .zip(baseline)
            .map(|(sample, base)| sample - base)
            .collect();
        Self::of(&differences)
    }

    /// Whether the median is at least `target`; `None` when the samples do not decide it.
    pub(crate) fn reaches(&self, target: f64) -> Option<bool> {
        let (low, high) = self.confidence;
        if low >= target {
            Some(true)
        } else if high < target {
            Some(false)
        } else {
            None
        }
    }

    /// `median (lower … upper)`, each with so many decimals.
    pub(crate) fn shown(&self, decimals: usize) -> String {
        let Self {
            lower, median, upper, ..
        } = self;
        format!("{median:.decimals$} ({lower:.decimals$} … {upper:.decimals$})")
    }
}

/// So many quarters of the way through, between the two neighbours of that place.
fn at(sorted: &[f64], quarters: usize) -> f64 {
    let place = quarters * (sorted.len() - 1);
    let (below, above) = (sorted[place / 4], sorted[place.div_ceil(4)]);
    below + (above - below) * (place % 4) as f64 / 4.0
}

/// By ranks: how many of n samples are below the true median is binomial, with a standard deviation of √n / 2.
fn confidence(sorted: &[f64]) -> (f64, f64) {
    // The rank below half n − 1.96 √n / 2, as 2 rank ≤ n − 1.96 √n.
    let below = (0..=sorted.len() / 2)
        .rev()
        .find(|&rank| (2 * rank) as f64 <= sorted.len() as f64 - 1.96 * (sorted.len() as f64).sqrt())
        .unwrap_or(0)
        .saturating_sub(1);
    (sorted[below], sorted[sorted.len() - 1 - below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.lower, spread.median, spread.upper), (1.75, 2.5, 3.25));
        assert_eq!(spread.shown(1), "2.5 (1.8 … 3.2)");
    }

    #[test]
    fn a_target_within_the_doubt_is_neither_reached_nor_missed() {
        let samples: Vec<f64> = (0..100).map(f64::from).collect();
        let spread = Spread::of(&samples);
        // The 40th to the 61st of a hundred: the textbook's interval for the median.
        assert_eq!(spread.confidence, (39.0, 60.0));
        assert_eq!(spread.reaches(39.0), Some(true));
        assert_eq!(spread.reaches(50.0), None);
        assert_eq!(spread.reaches(61.0), Some(false));
    }

    #[test]
    fn one_sample_has_no_spread() {
        let spread = Spread::of(&[7.0]);
        assert_eq!((spread.lower, spread.median, spread.upper), (7.0, 7.0, 7.0));
    }

    #[test]
    fn each_round_has_its_own_baseline() {
        let spread = Spread::of_differences(&[10.0, 20.0, 30.0], &[9.0, 18.0, 27.0]);
        assert_eq!(spread.median, 2.0);
    }
}
