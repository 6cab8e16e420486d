//! What a set of samples says about latency.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::load::sample::{RequestOutcome, Sample};

/// Three digits of every latency up to two minutes, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// The percentiles of the plots: from the first to the last that some samples are above of.
const PLOTTED: [f64; 15] = [
    0.0, 0.1, 0.25, 0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999,
];

/// Latencies of requests that were answered, and of those that were given up; and every failure, by kind.
#[derive(Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    pub(crate) requests: usize,
    pub(crate) failures: BTreeMap<RequestOutcome, usize>,
}

impl Latencies {
    pub(crate) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut latencies = Self {
            histogram: Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constants within the library's bounds"),
            requests: 0,
            failures: BTreeMap::new(),
        };
        for sample in samples {
            latencies.requests += 1;
            // Who was given up on waited at least so long; a refusal is quick, and would make the rest look better.
            if sample.outcome.is_answer() || sample.outcome == RequestOutcome::TimedOut {
                latencies.histogram.saturating_record(sample.latency_us);
            }
            if !sample.outcome.is_answer() {
                *latencies.failures.entry(sample.outcome).or_default() += 1;
            }
        }
        latencies
    }

    /// The latency in milliseconds that this share of the requests stays below.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        self.histogram.value_at_quantile(share) as f64 / 1000.0
    }

    pub(crate) fn longest_ms(&self) -> f64 {
        self.histogram.max() as f64 / 1000.0
    }

    /// For a plot: share and milliseconds.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        PLOTTED.iter().map(|&share| (share, self.ms(share))).collect()
    }

    pub(crate) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// `0`, or `3 (2 reset, 1 refused)`.
    pub(crate) fn failures_shown(&self) -> String {
        if self.failures.is_empty() {
            return "0".to_owned();
        }
        let kinds: Vec<String> = self
            .failures
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        format!("**{}** ({})", self.failed(), kinds.join(", "))
    }
}

/// How many requests each process answered, the most first.
pub(crate) fn answers_by_worker<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Vec<usize> {
    let mut by_pid = BTreeMap::<u32, usize>::new();
    for sample in samples {
        if let RequestOutcome::Answered(pid) = sample.outcome {
            *by_pid.entry(pid).or_default() += 1;
        }
    }
    let mut counts: Vec<usize> = by_pid.into_values().collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    counts
}

/// Over time: what `sum` makes of the samples that were to be sent in each span, at the span's middle, in seconds.
pub(crate) fn over_time(samples: &[Sample], span_ms: u64, sum: impl Fn(&[&Sample]) -> f64) -> Vec<(f64, f64)> {
    let mut spans = BTreeMap::<u64, Vec<&Sample>>::new();
    for sample in samples {
        spans.entry(sample.at_us / 1000 / span_ms).or_default().push(sample);
    }
    spans
        .into_iter()
        .map(|(nth, samples)| ((nth as f64 + 0.5) * span_ms as f64 / 1000.0, sum(&samples)))
        .collect()
}

/// How late the generator itself was: the median, the 99th percentile and the most, in milliseconds.
pub(crate) fn lateness_ms<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> (f64, f64, f64) {
    let mut histogram: Histogram<u64> =
        Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constants within the library's bounds");
    for sample in samples {
        histogram.saturating_record(sample.late_us);
    }
    let ms = |us: u64| us as f64 / 1000.0;
    (
        ms(histogram.value_at_quantile(0.5)),
        ms(histogram.value_at_quantile(0.99)),
        ms(histogram.max()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, latency_us: u64, outcome: RequestOutcome) -> Sample {
        Sample {
            at_us,
            late_us: 5,
            latency_us,
            class: 0,
            outcome,
        }
    }

    #[test]
    fn a_quick_refusal_is_a_failure_and_no_latency() {
        let samples = [
            sample(0, 10_000, RequestOutcome::Answered(1)),
            sample(1, 10, RequestOutcome::Refused),
            sample(2, 5_000_000, RequestOutcome::TimedOut),
        ];
        let latencies = Latencies::of(&samples);
        assert_eq!((latencies.requests, latencies.failed()), (3, 2));
        assert!((9.9..10.1).contains(&latencies.ms(0.5)), "{}", latencies.ms(0.5));
        assert!((4990.0..5010.0).contains(&latencies.longest_ms()));
        assert_eq!(latencies.failures_shown(), "**2** (1 refused, 1 timed out)");
    }

    #[test]
    fn workers_are_told_apart_by_process() {
        let samples = [1, 2, 2].map(|pid| sample(0, 1, RequestOutcome::Answered(pid)));
        assert_eq!(answers_by_worker(&samples), [2, 1]);
    }

    #[test]
    fn a_span_is_of_when_requests_were_to_be_sent() {
        let samples = [
            sample(0, 9_000_000, RequestOutcome::Answered(1)),
            sample(99_999, 1, RequestOutcome::Answered(1)),
            sample(250_000, 1, RequestOutcome::Answered(1)),
        ];
        let counts = over_time(&samples, 100, |samples| samples.len() as f64);
        assert_eq!(counts, [(0.05, 2.0), (0.25, 1.0)]);
    }
}
