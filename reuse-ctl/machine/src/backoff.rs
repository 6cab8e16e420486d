//! The delay before a slot is started again after a crash: it doubles up to a limit, and varies at random so that slots that crash together
//! don't restart together.

use reuse_common::rendezvous::mix;

use crate::interface::Config;

/// How much shorter or longer the delay may be, in per mille.
const SCATTER_PER_MILLE: u64 = 200;

/// The delay before the next start after `crashes` in a row, in milliseconds: `backoff_min_ms` after the first one (and after the crash of
/// a stable instance, which doesn't count), doubled for each further one up to `backoff_max_ms`, ±20 %.
pub(super) fn delay_ms(config: &Config, crashes: u32, jitter: &mut Jitter) -> u64 {
    let doublings = crashes.saturating_sub(1);
    let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
    let delay_ms = config.backoff_min_ms.saturating_mul(factor).min(config.backoff_max_ms);
    let per_mille = 1000 - SCATTER_PER_MILLE + jitter.below(2 * SCATTER_PER_MILLE + 1);
    delay_ms.saturating_mul(per_mille) / 1000
}

/// A splitmix64 generator. The same seed gives the same delays, so that tests are deterministic.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which must not be 0. Its bias (`bound` / 2⁶⁴) doesn't matter here.
    fn below(&mut self, bound: u64) -> u64 {
        let drawn = mix(self.0);
        // SplitMix64: the state advances by the constant that `mix` adds.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn % bound
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::world::config;
    use super::*;

    /// The shortest and longest delay over many seeds.
    fn extremes(crashes: u32) -> (u64, u64) {
        let delays = (0..2000).map(|seed| delay_ms(&config(), crashes, &mut Jitter::seeded(seed)));
        delays.fold((u64::MAX, 0), |(low, high), delay| (low.min(delay), high.max(delay)))
    }

    #[test]
    fn doubles_up_to_the_bound_and_scatters_by_a_fifth() {
        assert_eq!(extremes(0), (400, 600));
        assert_eq!(extremes(1), (400, 600));
        assert_eq!(extremes(2), (800, 1200));
        assert_eq!(extremes(3), (1600, 2400));
        assert_eq!(extremes(7), (24_000, 36_000), "500 · 2⁶ is above 30 s");
        assert_eq!(extremes(u32::MAX), (24_000, 36_000), "no overflow");
    }

    #[test]
    fn the_same_seed_gives_the_same_delays() {
        let run = |seed| {
            let mut jitter = Jitter::seeded(seed);
            (1..9)
                .map(|crashes| delay_ms(&config(), crashes, &mut jitter))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
