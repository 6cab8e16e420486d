//! TOML values as text, and text as TOML values.

use toml::de::{DeInteger, DeValue};

/// The value as it would be typed: a string or a number, for variables also `true` and `false`.
pub(super) fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(integer) => Some(decimal(integer)),
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The decimal form of an integer, since options don't accept `0x1F`. A number that is too large is kept as it is, and the option refuses
/// it.
fn decimal(integer: &DeInteger<'_>) -> String {
    match integer.radix() {
        10 => integer.as_str().trim_start_matches('+').to_owned(),
        radix => {
            u64::from_str_radix(integer.as_str(), radix).map_or_else(|_| integer.to_string(), |value| value.to_string())
        }
    }
}

/// The kind of a value, for messages like "is a string, not …".
pub(super) fn a_kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::toml_text::quoted;

    fn of(source: &str) -> Option<String> {
        text(DeValue::parse(source).expect("TOML").get_ref())
    }

    #[test]
    fn numbers_are_what_one_would_type() {
        for (source, text) in [
            ("3", "3"),
            ("+3", "3"),
            ("-3", "-3"),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("0b11", "3"),
            ("0.5", "0.5"),
            ("'0.5s'", "0.5s"),
        ] {
            assert_eq!(of(source).as_deref(), Some(text), "{source}");
        }
        for source in ["true", "1979-05-27", "[1]", "{a=1}"] {
            assert_eq!(of(source), None, "{source}");
        }
    }

    proptest! {
        #[test]
        fn every_text_can_be_quoted(text in any::<String>()) {
            prop_assert_eq!(of(&quoted(&text)), Some(text));
        }
    }
}
