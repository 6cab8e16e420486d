//! The meaning of a plain YAML scalar in js-yaml 4, which PM2 uses: the core schema of YAML 1.2, and timestamps.
//!
//! So `on`, `yes` and `1_000` are strings, and `007` is seven.

use chrono::{Datelike as _, Months, NaiveDate, NaiveDateTime, TimeDelta};

use super::value::Value;

/// A scalar without quotes or a tag.
pub(super) fn plain(text: &str) -> Value {
    null(text)
        .or_else(|| truth(text))
        .or_else(|| integer(text))
        .or_else(|| float(text))
        .or_else(|| time(text))
        .unwrap_or_else(|| Value::Text(text.to_owned()))
}

/// Parses null.
pub(super) fn null(text: &str) -> Option<Value> {
    matches!(text, "" | "~" | "null" | "Null" | "NULL").then_some(Value::Null)
}

/// Parses true or false.
pub(super) fn truth(text: &str) -> Option<Value> {
    match text {
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// Parses an integer: decimal, `0b`, `0o` or `0x`.
pub(super) fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = signed(text);
    let prefixed = [("0b", 2), ("0o", 8), ("0x", 16)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, radix)));
    let number = match prefixed {
        Some((digits, radix)) => whole(digits, radix)?,
        None if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    number.is_finite().then(|| Value::number(sign * number))
}

/// Rounded like a JavaScript number.
fn whole(digits: &str, radix: u32) -> Option<f64> {
    let mut number = 0.0;
    for digit in digits.chars() {
        number = number * f64::from(radix) + f64::from(digit.to_digit(radix)?);
    }
    (!digits.is_empty()).then_some(number)
}

/// Parses any other number.
pub(super) fn float(text: &str) -> Option<Value> {
    let (sign, rest) = signed(text);
    let is_signed = rest.len() < text.len();
    match rest {
        ".inf" | ".Inf" | ".INF" if sign < 0.0 => return Some(Value::Text("-Infinity".into())),
        ".inf" | ".Inf" | ".INF" => return Some(Value::Text("Infinity".into())),
        ".nan" | ".NaN" | ".NAN" if !is_signed => return Some(Value::Text("NaN".into())),
        _ => {}
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(signed(exponent).1)),
        None => (rest, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // A number that begins with the decimal point can't have a sign.
    let has_digits = !before.is_empty() || (!after.is_empty() && !is_signed);
    let is_number = has_digits
        && all_digits(before)
        && all_digits(after)
        && exponent.is_none_or(|digits| !digits.is_empty() && all_digits(digits));
    let number: f64 = if is_number { rest.parse().ok()? } else { return None };
    number.is_finite().then(|| Value::number(sign * number))
}

fn signed(text: &str) -> (f64, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Parses a date, or a date with a time. The result is the string that JavaScript writes in JSON, which is what PM2 passes on.
pub(super) fn time(text: &str) -> Option<Value> {
    let mut rest = Rest(text);
    let year = rest.digits(4, 4)?;
    let month = rest.after('-')?.digits(1, 2)?;
    let day = rest.after('-')?.digits(1, 2)?;
    if rest.0.is_empty() {
        // A date without a time must have all its digits.
        return (text.len() == 10).then(|| Value::Text(iso(midnight(year, month, day))));
    }
    if rest.after('T').is_none() && rest.after('t').is_none() && rest.blanks() == 0 {
        return None;
    }
    let hour = rest.digits(1, 2)?;
    let minute = rest.after(':')?.digits(2, 2)?;
    let second = rest.after(':')?.digits(2, 2)?;
    let thousandths = rest.after('.').map_or(0, Rest::thousandths);
    rest.blanks();
    let mut offset = TimeDelta::zero();
    if rest.after('Z').is_none() {
        let sign = if rest.after('+').is_some() {
            1
        } else if rest.after('-').is_some() {
            -1
        } else {
            0
        };
        if sign != 0 {
            let hours = rest.digits(1, 2)?;
            let minutes = match rest.after(':') {
                Some(rest) => rest.digits(2, 2)?,
                None => 0,
            };
            offset = (TimeDelta::hours(hours.into()) + TimeDelta::minutes(minutes.into())) * sign;
        }
    }
    if !rest.0.is_empty() || text.ends_with([' ', '\t']) {
        return None;
    }
    let since_midnight = TimeDelta::hours(hour.into())
        + TimeDelta::minutes(minute.into())
        + TimeDelta::seconds(second.into())
        + TimeDelta::milliseconds(thousandths);
    Some(Value::Text(iso(midnight(year, month, day) + since_midnight - offset)))
}

/// The rest of a text that is being parsed.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn after(&mut self, letter: char) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(letter)?;
        Some(self)
    }

    /// Reads as many digits as there are, from `least` to `most`.
    fn digits(&mut self, least: usize, most: usize) -> Option<u16> {
        let count = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        (count >= least).then(|| digits.parse().ok()).flatten()
    }

    fn blanks(&mut self) -> usize {
        let rest = self.0.trim_start_matches([' ', '\t']);
        let count = self.0.len() - rest.len();
        self.0 = rest;
        count
    }

    fn thousandths(&mut self) -> i64 {
        let count = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        let three: String = digits.chars().chain("000".chars()).take(3).collect();
        three.parse().expect("three digits")
    }
}

/// Midnight of a day in JavaScript's calendar: two-digit years are 1900 to 1999, and a month or day that is too large counts on into the next
/// year or month.
fn midnight(year: u16, month: u16, day: u16) -> NaiveDateTime {
    let year = if year < 100 { 1900 + year } else { year };
    let december_before = NaiveDate::from_ymd_opt(i32::from(year) - 1, 12, 1).expect("every year has a December");
    let first = december_before + Months::new(month.into());
    (first + TimeDelta::days(i64::from(day) - 1)).into()
}

fn iso(time: NaiveDateTime) -> String {
    let year = match time.year() {
        year @ 0..=9999 => format!("{year:04}"),
        year => format!("{year:+07}"),
    };
    format!("{year}{}", time.format("-%m-%dT%H:%M:%S%.3fZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_core_schema_has() {
        for text in [
            "on", "Off", "yes", "NO", "y", "n", "1_000", "0X1F", "+.5", "-.nan", "0b12", "08:30", "2001-1-1", "1e",
        ] {
            assert_eq!(plain(text), Value::Text(text.into()));
        }
        for (text, number) in [
            ("007", 7),
            ("-0x1F", -31),
            ("+12", 12),
            ("0o17", 15),
            ("0b101", 5),
            ("1e3", 1000),
            ("4.0", 4),
            ("-0", 0),
            ("-0.0", 0),
        ] {
            assert_eq!(plain(text), Value::Integer(number), "{text}");
        }
        assert_eq!(plain("9007199254740993"), Value::Float(9_007_199_254_740_992.0));
        assert_eq!(plain("-.inf"), Value::Text("-Infinity".into()));
        assert_eq!(plain(".5"), Value::Float(0.5));
        assert_eq!(plain("~"), Value::Null);
        assert_eq!(plain("TRUE"), Value::Bool(true));
    }

    #[test]
    fn times_are_those_of_javascript() {
        for (text, iso) in [
            ("2024-02-29", "2024-02-29T00:00:00.000Z"),
            ("2023-02-30", "2023-03-02T00:00:00.000Z"),
            ("1969-12-31", "1969-12-31T00:00:00.000Z"),
            ("0001-01-01", "1901-01-01T00:00:00.000Z"),
            ("2001-12-14t21:59:43.10-05:00", "2001-12-15T02:59:43.100Z"),
            ("2001-1-4 1:59:43 Z", "2001-01-04T01:59:43.000Z"),
            ("9999-99-99", "+010007-06-07T00:00:00.000Z"),
        ] {
            assert_eq!(plain(text), Value::Text(iso.into()), "{text}");
        }
    }
}
