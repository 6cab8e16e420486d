//! The options of one app: which of several names counts, and values of the right kind or an error with their place.

use super::apps::Entry;
use super::command;
use super::error::ImportError;
use super::table::{self, Place, Row};
use super::toml::Variables;
use super::value::Value;
use super::watch;

/// An app of the file, as it is written there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) file: &'a str,
    pub(super) entry: Entry<'a>,
}

impl<'a> Options<'a> {
    /// Whether of all names of an option this is the one that counts: its own before the others.
    pub(super) fn is_the_one(&self, row: &Row, written: &str) -> bool {
        let found = self.found(row.option);
        found.is_none_or(|(name, _)| name == written)
    }

    /// An option by its name in the table, with the name and value that count.
    pub(super) fn found(&self, option: &str) -> Option<(&'a str, &'a Value)> {
        let row = table::TABLE
            .iter()
            .find(|row| row.place == Place::App && row.option == option)?;
        let named = || {
            let called = |(name, value): &&'a (String, Value)| row.is_called(name) && *value != Value::Null;
            self.entry.options.iter().filter(called)
        };
        let own = named().find(|(name, _)| name == option);
        own.or_else(|| named().next())
            .map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn value(&self, option: &str) -> Option<&'a Value> {
        self.found(option).map(|(_, value)| value)
    }

    /// A variable of `env`, as it is in the file.
    pub(super) fn text_variable(&self, name: &str) -> Option<String> {
        self.value("env")?.get(name)?.word()
    }

    pub(super) fn wrong(&self, option: &str, reason: impl Into<String>) -> ImportError {
        ImportError::Wrong {
            place: format!("{}: {}", self.file, self.entry.place(option)),
            reason: reason.into(),
            hint: "PM2 would not take it either: mend it in the file",
        }
    }

    pub(super) fn wrong_kind(&self, option: &str, value: &Value, wanted: &str) -> ImportError {
        let shown = match value.word() {
            Some(word) => format!("{:?}", word.chars().take(60).collect::<String>()),
            None => value.kind().to_owned(),
        };
        self.wrong(option, format!("it is {shown}, and should be {wanted}"))
    }

    pub(super) fn text(&self, option: &str, value: &Value) -> Result<String, ImportError> {
        match value {
            Value::Text(text) if !text.is_empty() => Ok(text.clone()),
            other => Err(self.wrong_kind(option, other, "a text")),
        }
    }

    pub(super) fn word(&self, option: &str, value: &Value) -> Result<String, ImportError> {
        match value {
            Value::Text(_) => self.text(option, value),
            Value::Integer(number) => Ok(number.to_string()),
            other => Err(self.wrong_kind(option, other, "a text or a number")),
        }
    }

    pub(super) fn whole(&self, option: &str, value: &Value, least: i64, most: i64) -> Result<i64, ImportError> {
        match value.whole() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.wrong_kind(option, value, &format!("a whole number from {least} to {most}"))),
        }
    }

    /// A list of words, or a text that is split into them.
    pub(super) fn words(&self, option: &str) -> Result<Vec<String>, ImportError> {
        match self.found(option) {
            None => Ok(Vec::new()),
            Some((_, Value::Text(text))) => Ok(command::split(text)),
            Some((written, value @ Value::List(items))) => {
                let words: Option<Vec<String>> = items.iter().map(Value::word).collect();
                words.ok_or_else(|| self.wrong_kind(written, value, "a list of texts"))
            }
            // `args: false` is how some leave them out.
            Some((_, Value::Bool(false))) => Ok(Vec::new()),
            Some((_, value @ (Value::Integer(_) | Value::Float(_)))) => Ok(value.word().into_iter().collect()),
            Some((written, value)) => Err(self.wrong_kind(written, value, "a text or a list of texts")),
        }
    }

    pub(super) fn size(&self, written: &str, value: &Value) -> Result<String, ImportError> {
        let is_size = |text: &str| {
            let number = text.strip_suffix(['G', 'M', 'K']).unwrap_or(text);
            !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && !number.bytes().all(|byte| byte == b'0')
        };
        match value {
            Value::Text(text) if is_size(text) => Ok(text.clone()),
            Value::Integer(bytes @ 1..) => Ok(bytes.to_string()),
            other => Err(self.wrong_kind(written, other, "a number of bytes, or one with K, M or G: \"300M\"")),
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.value("watch")
            .and_then(watch::paths)
            .is_some_and(|paths| !paths.is_empty())
    }

    /// Objects in it are passed on as JSON, as PM2 does.
    pub(super) fn variables(&self, written: &str, value: &Value) -> Result<Variables, ImportError> {
        let Value::Map(entries) = value else {
            return Err(self.wrong_kind(written, value, "an object of variables"));
        };
        let mut variables = Variables::new();
        for (name, value) in entries {
            let place = || format!("{written}.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(self.wrong(&place(), "no variable can have this name"));
            }
            let text = match value.kind() {
                kind @ ("a function" | "a regular expression") => {
                    return Err(self.wrong(&place(), format!("it is {kind}, and should be a text")));
                }
                _ => value.word().unwrap_or_else(|| value.to_json()),
            };
            if text.contains('\0') {
                return Err(self.wrong(&place(), "no variable can have a byte 0 in it"));
            }
            variables.retain(|(other, _)| other != name);
            variables.push((name.clone(), text));
        }
        Ok(variables)
    }
}
