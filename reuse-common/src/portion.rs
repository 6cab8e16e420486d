//! Scales the fixed shares of the published slots, so that every published slot gets some connections.

use crate::share::Share;

/// At most this many slots of a group can have a fixed share; others are treated as if they had none.
pub const MAX_SHARES: usize = 32;

/// What the slots without a share keep together when the shares add up to 100 % or more: 1 %.
const KEPT_PERCENT: u64 = 1;

/// The factor from a configured share to its portion of new connections.
///
/// - If some slots have no share and the shares add up to less than 100 %, each share is taken as it is.
/// - If some slots have no share and the shares add up to 100 % or more, the shares are scaled down to 99 % together.
/// - If every slot has a share, the shares are scaled to 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    numerator: u64,
    denominator: u64,
}

impl Scale {
    /// The scale for shares that add up to `sum` (hundredths of a percent). `any_free`: some slots have no share.
    pub const fn new(sum: u64, any_free: bool) -> Self {
        let whole = Share::WHOLE as u64;
        let (numerator, denominator) = match (any_free, sum) {
            (_, 0) => (0, 1),
            (true, sum) if sum < whole => (1, whole),
            (true, sum) => (100 - KEPT_PERCENT, 100 * sum),
            (false, sum) => (1, sum),
        };
        Self { numerator, denominator }
    }

    /// The portion of `whole` (at most 2^32) for this share in hundredths of a percent, rounded to the nearest.
    pub const fn part(self, hundredths: u64, whole: u64) -> u64 {
        let part = hundredths as u128 * self.numerator as u128 * whole as u128;
        ((part + self.denominator as u128 / 2) / self.denominator as u128) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit() {
        let parts = |shares: &[u64], any_free| {
            let scale = Scale::new(shares.iter().sum(), any_free);
            shares
                .iter()
                .map(|&share| scale.part(share, 100_000))
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(&[500, 9000], true), [5_000, 90_000], "as they say");
        assert_eq!(parts(&[9_999], true), [99_990]);
        assert_eq!(parts(&[5_000, 5_000], true), [49_500, 49_500], "1 % is kept");
        assert_eq!(parts(&[9_000, 9_000, 2_000], true), [44_550, 44_550, 9_900]);
        assert_eq!(parts(&[500], false), [100_000], "the whole");
        assert_eq!(parts(&[500, 1_500], false), [25_000, 75_000]);
        assert_eq!(parts(&[9_000, 9_000], false), [50_000, 50_000]);
        assert_eq!(parts(&[], true), [0; 0]);
    }
}
