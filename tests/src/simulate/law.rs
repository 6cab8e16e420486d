//! The distributions that times and counts are drawn from.

use fastrand::Rng;

use crate::agenda::SECOND;

/// A distribution of times, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Law {
    /// Always this.
    Constant(f64),
    /// Memoryless, with this mean.
    Exponential(f64),
    /// Bounded Pareto: heavy-tailed from `low` up to `high`.
    Pareto { shape: f64, low: f64, high: f64 },
    /// The logarithm is normal, with this standard deviation.
    Lognormal { mean: f64, sigma: f64 },
    /// `usual`, but with the probability `share` it is `rare`.
    Mixed { usual: f64, rare: f64, share: f64 },
}

impl Law {
    /// The mean, seconds.
    pub(crate) fn mean(self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) | Self::Lognormal { mean, .. } => mean,
            Self::Pareto { shape, low, high } => {
                let tail = 1.0 - (low / high).powf(shape);
                low.powf(shape) / tail * shape / (shape - 1.0) * (low.powf(1.0 - shape) - high.powf(1.0 - shape))
            }
            Self::Mixed { usual, rare, share } => usual * (1.0 - share) + rare * share,
        }
    }

    /// A sample, nanoseconds.
    pub(crate) fn draw_ns(self, random: &mut Rng) -> u64 {
        nanoseconds(self.draw(random))
    }

    fn draw(self, random: &mut Rng) -> f64 {
        match self {
            Self::Constant(value) => value,
            Self::Exponential(mean) => -mean * positive(random).ln(),
            Self::Pareto { shape, low, high } => {
                let tail = 1.0 - (low / high).powf(shape);
                low / (1.0 - random.f64() * tail).powf(1.0 / shape)
            }
            Self::Lognormal { mean, sigma } => {
                let normal = (-2.0 * positive(random).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
                mean * (sigma * normal - sigma * sigma / 2.0).exp()
            }
            Self::Mixed { usual, rare, share } => {
                if random.f64() < share {
                    rare
                } else {
                    usual
                }
            }
        }
    }
}

/// In (0, 1], so that its logarithm exists.
fn positive(random: &mut Rng) -> f64 {
    1.0 - random.f64()
}

/// Seconds as nanoseconds.
#[expect(
    clippy::cast_sign_loss,
    reason = "no time here is negative, and the conversion saturates"
)]
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND as f64
}

/// How connections arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Arrivals {
    /// Independently, so many per second.
    Poisson(f64),
    /// The same on average, but with bursts: for exponential times around `burst` seconds, a tenth of all time, `factor` times the rate of
    /// the time between.
    Bursty { rate: f64, burst: f64, factor: f64 },
}

/// The share of time that bursts take.
const BURST_SHARE: f64 = 0.1;

/// Draws the times between arrivals.
#[derive(Debug)]
pub(crate) struct Gaps {
    arrivals: Arrivals,
    in_burst: bool,
    /// What is left of this burst, or of the time until the next, seconds.
    phase_left: f64,
}

impl Gaps {
    pub(crate) fn new(arrivals: Arrivals) -> Self {
        Self {
            arrivals,
            in_burst: true,
            phase_left: 0.0,
        }
    }

    /// Nanoseconds until the next arrival.
    pub(crate) fn draw_ns(&mut self, random: &mut Rng) -> u64 {
        let (rate, burst, factor) = match self.arrivals {
            Arrivals::Poisson(rate) => return Law::Exponential(1.0 / rate).draw_ns(random),
            Arrivals::Bursty { rate, burst, factor } => (rate, burst, factor),
        };
        let calm_rate = rate / (1.0 - BURST_SHARE + BURST_SHARE * factor);
        let mut gap = 0.0;
        loop {
            let (rate, next_phase) = if self.in_burst {
                (calm_rate * factor, burst * (1.0 - BURST_SHARE) / BURST_SHARE)
            } else {
                (calm_rate, burst)
            };
            let candidate = Law::Exponential(1.0 / rate).draw(random);
            if candidate <= self.phase_left {
                self.phase_left -= candidate;
                return nanoseconds(gap + candidate);
            }
            // Arrivals have no memory: what was drawn beyond the phase's end is drawn anew at the next phase's rate.
            gap += self.phase_left;
            self.in_burst = !self.in_burst;
            self.phase_left = Law::Exponential(next_phase).draw(random);
        }
    }
}

impl Arrivals {
    /// Per second, on average.
    pub(crate) const fn rate(self) -> f64 {
        match self {
            Self::Poisson(rate) | Self::Bursty { rate, .. } => rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_mean(law: Law) -> f64 {
        let mut random = Rng::with_seed(1);
        (0..400_000).map(|_| seconds(law.draw_ns(&mut random))).sum::<f64>() / 400_000.0
    }

    #[test]
    fn samples_have_the_mean_that_the_law_says() {
        for law in [
            Law::Constant(0.01),
            Law::Exponential(0.02),
            Law::Lognormal { mean: 0.01, sigma: 1.0 },
            Law::Pareto {
                shape: 1.5,
                low: 0.001,
                high: 1.0,
            },
            Law::Mixed {
                usual: 0.001,
                rare: 0.1,
                share: 0.1,
            },
        ] {
            let ratio = sample_mean(law) / law.mean();
            assert!((0.97..1.03).contains(&ratio), "{law:?}: {ratio}");
        }
    }

    #[test]
    fn pareto_stays_within_its_bounds() {
        let law = Law::Pareto {
            shape: 1.1,
            low: 0.5,
            high: 8.0,
        };
        let mut random = Rng::with_seed(2);
        assert!((0..10_000).all(|_| (0.5..=8.0).contains(&law.draw(&mut random))));
    }

    #[test]
    fn bursts_keep_the_mean_rate() {
        for arrivals in [
            Arrivals::Poisson(500.0),
            Arrivals::Bursty {
                rate: 500.0,
                burst: 0.1,
                factor: 10.0,
            },
        ] {
            let (mut gaps, mut random) = (Gaps::new(arrivals), Rng::with_seed(3));
            let total: u64 = (0..500_000).map(|_| gaps.draw_ns(&mut random)).sum();
            let ratio = 500_000.0 / seconds(total) / arrivals.rate();
            assert!((0.95..1.05).contains(&ratio), "{arrivals:?}: {ratio}");
        }
    }
}
