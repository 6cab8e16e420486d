//! A value of a configuration file, with objects in their original order.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// The key under which the runtime returns the source of a regular expression, for which JSON has no type.
pub(super) const REGULAR_EXPRESSION: &str = "\0regular expression";

/// The key under which the runtime returns a function's name.
pub(super) const FUNCTION: &str = "\0function";

/// A value of JSON, YAML or JavaScript.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// The largest number up to which JavaScript can represent every integer.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

impl Value {
    /// A number as in JavaScript: 4.0 is 4.
    pub(super) fn number(number: f64) -> Self {
        if number.fract() == 0.0 && number.abs() < MAX_EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
            return Self::Integer(number as i64);
        }
        Self::Float(number)
    }

    /// The value of a key. If the key occurs twice, the last one applies.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let Self::Map(entries) = self else { return None };
        entries
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The type, in words: `a list`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) if self.regular_expression().is_some() => "a regular expression",
            Self::Map(_) if self.get(FUNCTION).is_some() => "a function",
            Self::Map(_) => "an object",
        }
    }

    /// The text as Node would write it to an environment or a command line; `None` if it is more than one word.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Self::Null => Some("null".into()),
            Self::Bool(truth) => Some(truth.to_string()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Float(number) => Some(as_javascript(*number)),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// True or false, also if written as a string.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The source of a regular expression.
    pub(super) fn regular_expression(&self) -> Option<&str> {
        match self.get(REGULAR_EXPRESSION) {
            Some(Self::Text(source)) => Some(source),
            _ => None,
        }
    }

    /// The value as JSON, which is how PM2 passes an object in the environment.
    pub(super) fn to_json(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_json).collect();
                format!("[{}]", items.join(","))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Value)| format!("{}:{}", quoted(key), value.to_json());
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("{{{}}}", entries.join(","))
            }
            Self::Text(text) => quoted(text),
            plain => plain.word().expect("one word"),
        }
    }
}

/// The text of `String(number)`.
fn as_javascript(number: f64) -> String {
    if (1e-6..1e21).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
        _ => text,
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "as JavaScript has it")]
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_file_is_kept() {
        let value: Value = serde_json::from_str(r#"{"b":[1,2.5,null],"a":{"x":"y"},"c":true}"#).expect("JSON");
        assert_eq!(value.to_json(), r#"{"b":[1,2.5,null],"a":{"x":"y"},"c":true}"#);
        assert_eq!(value.get("c"), Some(&Value::Bool(true)));
        assert_eq!(value.get("a").map(Value::kind), Some("an object"));
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        let words = [4.0, 1e21, 1.5e-7, 0.25, 1e20].map(|number| Value::number(number).word().expect("one word"));
        assert_eq!(words, ["4", "1e+21", "1.5e-7", "0.25", "100000000000000000000"]);
        assert_eq!(Value::Text("true".into()).truth(), Some(true));
    }
}
