//! What one run shows.

use crate::agenda::MILLISECOND;

/// Requests that wait longer than this are counted.
pub(crate) const LONG_WAIT_NS: u64 = 100 * MILLISECOND;
/// One point of the timeline.
pub(crate) const TIMELINE_STEP_NS: u64 = 200 * MILLISECOND;

/// Why a client that had been with one worker came to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Its worker is as it was.
    pub(crate) stayed: u64,
    /// Its worker was withdrawn.
    pub(crate) withdrawn: u64,
    /// Its new worker has come (back) since.
    pub(crate) returned: u64,
    /// Neither.
    pub(crate) needless: u64,
}

/// How often something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) arrived: u64,
    pub(crate) ended: u64,
    pub(crate) refused: u64,
    pub(crate) flooded: u64,
    pub(crate) moves: Moves,
    pub(crate) calls: u64,
    pub(crate) false_calls: u64,
    pub(crate) rescued: u64,
}

/// Counted while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Of each request: from when it could have been served until it was, nanoseconds.
    pub(crate) waits_ns: Vec<u64>,
    /// Of each sample: the most open connections of a worker over the mean.
    pub(crate) balance: Vec<f64>,
    /// The longest wait of the requests of each step.
    pub(crate) timeline_ns: Vec<u64>,
    pub(crate) counts: Counts,
}

impl Tally {
    /// A request that came at `since_ns` is served now.
    pub(crate) fn wait(&mut self, since_ns: u64, now_ns: u64, timeline: bool) {
        let wait_ns = now_ns - since_ns;
        self.waits_ns.push(wait_ns);
        if timeline {
            let step = (since_ns / TIMELINE_STEP_NS) as usize;
            if self.timeline_ns.len() <= step {
                self.timeline_ns.resize(step + 1, 0);
            }
            self.timeline_ns[step] = self.timeline_ns[step].max(wait_ns);
        }
    }
}

/// The quantiles of the waits that are kept.
pub(crate) const QUANTILES: [f64; 8] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];

/// The result. Waits are in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunOutcome {
    pub(crate) wait_mean: f64,
    /// At [`QUANTILES`].
    pub(crate) waits: [f64; QUANTILES.len()],
    pub(crate) wait_max: f64,
    /// Requests that waited for more than 100 ms, of 1.
    pub(crate) long_waits: f64,
    /// Open connections, max/mean, over time: the mean.
    pub(crate) balance: f64,
    /// The worst hundredth.
    pub(crate) balance_p99: f64,
    /// Connections in all, max/mean.
    pub(crate) totals: f64,
    /// The last slot's part of all connections, of 1.
    pub(crate) last_share: f64,
    pub(crate) timeline_ms: Vec<f64>,
    pub(crate) counts: Counts,
    pub(crate) evicted: u64,
    /// Of the times that a sticky client was placed, those away from its bucket's owner.
    pub(crate) away_from_home: f64,
}

impl RunOutcome {
    /// Half of the requests waited no longer.
    pub(crate) const fn p50(&self) -> f64 {
        self.waits[0]
    }

    /// 99 % waited no longer.
    pub(crate) const fn p99(&self) -> f64 {
        self.waits[4]
    }

    /// 99.9 % waited no longer.
    pub(crate) const fn p999(&self) -> f64 {
        self.waits[6]
    }

    /// `totals` are the connections of each worker.
    pub(crate) fn new(mut tally: Tally, totals: &[u64], evicted: u64, away_from_home: f64) -> Self {
        let waits = &mut tally.waits_ns;
        let count = waits.len().max(1) as f64;
        let milliseconds = |ns: u64| ns as f64 / MILLISECOND as f64;
        let long = waits.iter().filter(|&&wait| wait > LONG_WAIT_NS).count();
        tally.balance.sort_by(f64::total_cmp);
        let samples = tally.balance.len();
        Self {
            wait_mean: waits.iter().map(|&wait| milliseconds(wait)).sum::<f64>() / count,
            waits: QUANTILES.map(|share| milliseconds(quantile(waits, share))),
            wait_max: milliseconds(waits.iter().copied().max().unwrap_or(0)),
            long_waits: long as f64 / count,
            balance: tally.balance.iter().sum::<f64>() / samples.max(1) as f64,
            balance_p99: tally.balance.get(samples * 99 / 100).copied().unwrap_or(0.0),
            totals: max_over_mean(totals.iter().copied()).unwrap_or(0.0),
            last_share: totals
                .last()
                .map_or(0.0, |&last| last as f64 / totals.iter().sum::<u64>().max(1) as f64),
            timeline_ms: tally.timeline_ns.iter().map(|&wait| milliseconds(wait)).collect(),
            counts: tally.counts,
            evicted,
            away_from_home,
        }
    }
}

/// The least value that this share of all is not above; 0 without any.
#[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
fn quantile(values: &mut [u64], share: f64) -> u64 {
    if values.is_empty() {
        return 0;
    }
    // A hair less, lest rounding take the next.
    let rank = (values.len() as f64 * share - 1e-6).ceil() as usize;
    *values.select_nth_unstable(rank.clamp(1, values.len()) - 1).1
}

/// `None` when all are 0.
pub(crate) fn max_over_mean(counts: impl Iterator<Item = u64>) -> Option<f64> {
    let (mut most, mut sum, mut len) = (0, 0, 0_u64);
    for count in counts {
        most = most.max(count);
        sum += count;
        len += 1;
    }
    (sum > 0).then(|| most as f64 * len as f64 / sum as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values() {
        let mut values: Vec<u64> = (1..=1000).rev().collect();
        assert_eq!(quantile(&mut values, 0.5), 500);
        assert_eq!(quantile(&mut values, 0.99), 990);
        assert_eq!(quantile(&mut values, 0.999), 999);
        assert_eq!(quantile(&mut [7], 0.999), 7);
        assert_eq!(quantile(&mut [], 0.5), 0);
    }

    #[test]
    fn balance_is_one_when_all_are_alike() {
        assert_eq!(max_over_mean([5, 5, 5].into_iter()), Some(1.0));
        assert_eq!(max_over_mean([0, 8].into_iter()), Some(2.0));
        assert_eq!(max_over_mean([0, 0].into_iter()), None);
    }
}
