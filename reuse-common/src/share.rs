//! A fixed share of new connections, whatever the policy: what `weight` or a canary gets.

use core::fmt;

/// A share in hundredths of a percent, 1…9,999 (0.01 % to 99.99 %). Slots without a share divide the rest by the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// All connections, in hundredths of a percent.
    pub const WHOLE: u16 = 10_000;

    /// `None` unless the number is 1…9,999.
    pub const fn from_hundredths_of_a_percent(hundredths: u16) -> Option<Self> {
        if hundredths == 0 || hundredths >= Self::WHOLE {
            None
        } else {
            Some(Self(hundredths))
        }
    }

    /// Hundredths of a percent, 1…9,999.
    pub const fn hundredths_of_a_percent(self) -> u16 {
        self.0
    }
}

/// Writes `5%`, `0.5%`, `12.25%`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_people_do() {
        let text = |hundredths| Share::from_hundredths_of_a_percent(hundredths).map(|share| share.to_string());
        assert_eq!(text(500).as_deref(), Some("5%"));
        assert_eq!(text(50).as_deref(), Some("0.5%"));
        assert_eq!(text(1225).as_deref(), Some("12.25%"));
        assert_eq!(text(1).as_deref(), Some("0.01%"));
        assert_eq!((text(0), text(10_000)), (None, None));
    }
}
