//! Parses a share of new connections: `10%`, `0.5%`, `auto`. Pure, and exact to a hundredth of a percent.

use reuse_common::Share;

use crate::base::{Failure, Verb};

/// Parses `10%`, or `auto` (`None`): no fixed share.
///
/// # Errors
/// Usage, with an example that would be right.
pub fn weight_of(text: &str) -> Result<Option<Share>, Failure> {
    if text == "auto" {
        return Ok(None);
    }
    share_of(text)
        .map(Some)
        .map_err(|refusal| refusal.into_request(text, "give a percentage like 10%, or auto"))
}

/// Parses the share of a canary, `5%`. `auto` is not allowed.
///
/// # Errors
/// Usage, with an example that would be right.
pub fn canary_share(text: &str) -> Result<Share, Failure> {
    share_of(text).map_err(|refusal| refusal.into_request(text, "give a percentage like 5%"))
}

/// Why a text is not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoShare {
    NoPercentSign,
    NoNumber,
    TooFine,
    Nothing,
    TooMuch,
}

impl NoShare {
    fn into_request(self, text: &str, say: &str) -> Failure {
        match self {
            Self::NoPercentSign => Failure::usage(
                format!("the weight \"{text}\" has no percent sign"),
                format!("did you mean {text}%?"),
            ),
            Self::NoNumber => Failure::usage(format!("\"{text}\" is not a weight"), say),
            Self::TooFine => Failure::usage(
                format!("the weight {text} is finer than a hundredth of a percent"),
                "give at most two decimals, like 0.25%",
            ),
            Self::Nothing => Failure::usage(
                format!("the weight {text} would leave the worker nothing"),
                Verb::Drain.run() + " withdraws a worker",
            ),
            Self::TooMuch => Failure::usage(
                format!("the weight {text} would leave the others nothing"),
                "give at most 99.99%; " + Verb::Drain.run() + " withdraws the others",
            ),
        }
    }
}

fn share_of(text: &str) -> Result<Share, NoShare> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(match hundredths_of(text) {
            Err(NoShare::NoNumber) => NoShare::NoNumber,
            Ok(_) | Err(_) => NoShare::NoPercentSign,
        });
    };
    match hundredths_of(number)? {
        0 => Err(NoShare::Nothing),
        hundredths => Share::from_hundredths_of_a_percent(hundredths).ok_or(NoShare::TooMuch),
    }
}

/// Converts `12.5` to 1,250. No floating point: 0.29 would become 28 hundredths.
fn hundredths_of(number: &str) -> Result<u16, NoShare> {
    let (whole, decimals) = match number.split_once('.') {
        Some((_, "")) => return Err(NoShare::NoNumber),
        Some(parts) => parts,
        None => (number, ""),
    };
    let is_number = !whole.is_empty() && whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(NoShare::NoNumber);
    }
    let decimals = match decimals.trim_end_matches('0').as_bytes() {
        [] => 0,
        [tenths] => 10 * u16::from(tenths - b'0'),
        [tenths, hundredths] => 10 * u16::from(tenths - b'0') + u16::from(hundredths - b'0'),
        [_, _, _, ..] => return Err(NoShare::TooFine),
    };
    // Digits that don't fit mean a large number.
    let whole: u16 = whole.parse().unwrap_or(u16::MAX);
    Ok(whole.saturating_mul(100).saturating_add(decimals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    #[test]
    fn every_share_is_read_as_it_is_written() {
        for hundredths in 1..Share::WHOLE {
            let share = Share::from_hundredths_of_a_percent(hundredths).expect("in range");
            assert_eq!(weight_of(&share.to_string()), Ok(Some(share)), "{share}");
        }
        assert_eq!(weight_of("auto"), Ok(None));
    }

    #[test]
    fn other_ways_to_write_it() {
        for (text, hundredths) in [
            ("5.0%", 500),
            ("05%", 500),
            ("0.50%", 50),
            ("0.29%", 29),
            ("99.9900%", 9999),
        ] {
            let share = canary_share(text).expect(text);
            assert_eq!(share.hundredths_of_a_percent(), hundredths, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_a_way_out() {
        for (text, error, hint) in [
            ("10", "the weight \"10\" has no percent sign", "did you mean 10%?"),
            ("0", "the weight \"0\" has no percent sign", "did you mean 0%?"),
            (
                "0%",
                "the weight 0% would leave the worker nothing",
                "`reuse-ctl drain` withdraws a worker",
            ),
            (
                "100%",
                "the weight 100% would leave the others nothing",
                "give at most 99.99%; `reuse-ctl drain` withdraws the others",
            ),
            (
                "99999999999%",
                "the weight 99999999999% would leave the others nothing",
                "give at most 99.99%; `reuse-ctl drain` withdraws the others",
            ),
            (
                "0.125%",
                "the weight 0.125% is finer than a hundredth of a percent",
                "give at most two decimals, like 0.25%",
            ),
            ("-5%", "\"-5%\" is not a weight", "give a percentage like 10%, or auto"),
        ] {
            let refusal = weight_of(text).expect_err(text);
            assert_eq!(
                (refusal.kind, &*refusal.error, &*refusal.hint),
                (ErrorKind::Usage, error, hint),
                "{text}"
            );
        }
        for text in [
            "", "%", ".5%", "5.%", "+5%", "1e1%", "5 %", " 5%", "5%%", "five", "Auto", "٥%", "1.-5%",
        ] {
            assert_eq!(weight_of(text).expect_err(text).kind, ErrorKind::Usage, "{text}");
        }
        let refusal = canary_share("auto").expect_err("a canary's share is fixed");
        assert_eq!(refusal.hint, "give a percentage like 5%");
    }
}
