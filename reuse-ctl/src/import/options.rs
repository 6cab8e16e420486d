//! The options of one app: which of several names applies, and values of the right type or an error with their place.

use super::apps::Entry;
use super::command;
use super::error::ImportError;
use super::pm2;
use super::table::{self, OptionRow, WrittenIn};
use super::toml::Variables;
use super::translated::Translated;
use super::value::Value;
use super::watch;

/// An app of the file, as it is written there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) file: &'a str,
    pub(super) entry: Entry<'a>,
}

impl<'a> Options<'a> {
    /// Whether `written` is the name that applies if an option occurs under several names. The option's own name has priority.
    pub(super) fn is_the_one(&self, row: &OptionRow, written: &str) -> bool {
        let found = self.found(row.option);
        found.is_none_or(|(name, _)| name == written)
    }

    /// The name and value that apply for an option, by its name in the table.
    pub(super) fn found(&self, option: &str) -> Option<(&'a str, &'a Value)> {
        let row = table::TABLE
            .iter()
            .find(|row| row.place == WrittenIn::App && row.option == option)?;
        let named = || {
            let called = |(name, value): &&'a (String, Value)| row.is_called(name) && *value != Value::Null;
            self.entry.options.iter().filter(called)
        };
        // An empty or false value gives way to another name with a value, as in PM2.
        let says = |(_, value): &&'a (String, Value)| !pm2::is_falsy(value);
        let own = || named().filter(|(name, _)| name == option);
        let found = own().find(says).or_else(|| named().find(says));
        found
            .or_else(|| own().next())
            .or_else(|| named().next())
            .map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn value(&self, option: &str) -> Option<&'a Value> {
        self.found(option).map(|(_, value)| value)
    }

    /// A variable of `env`, as text.
    pub(super) fn text_variable(&self, name: &str) -> Option<String> {
        self.value("env")?.get(name)?.word()
    }

    /// An error at an option. Only for values that PM2 refuses as well.
    pub(super) fn wrong(&self, option: &str, reason: impl Into<String>) -> ImportError {
        ImportError::Wrong {
            place: format!("{}: {}", self.file, self.entry.place(option)),
            reason: reason.into(),
            hint: "PM2 would not take it either: correct it in the file",
        }
    }

    /// The result for an unusable value: an error if PM2 refuses it, else a finding.
    pub(super) fn strange(
        &self,
        row: &OptionRow,
        written: &str,
        value: &Value,
        wanted: &str,
    ) -> Result<Translated, ImportError> {
        let shown = match value {
            Value::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
            value => value.word().unwrap_or_else(|| value.kind().to_owned()),
        };
        let reason = format!("it is {shown}, and should be {wanted}");
        if pm2::takes(row.option, written, value) {
            Ok(Translated::nothing(reason))
        } else {
            Err(self.wrong(written, reason))
        }
    }

    /// A text; any other value is an error, as in PM2.
    pub(super) fn text(&self, option: &'static str, written: &str, value: &Value) -> Result<String, ImportError> {
        match value {
            Value::Text(text) if !text.is_empty() => Ok(text.clone()),
            other => Err(self.wrong(
                written,
                match other {
                    Value::Text(_) => format!("it is empty: `{option}` says nothing"),
                    other => format!(
                        "it is {}, and should be a text",
                        other.word().unwrap_or_else(|| other.kind().into())
                    ),
                },
            )),
        }
    }

    /// A list of words, or a string that is split into words.
    pub(super) fn words(&self, option: &str) -> Result<Vec<String>, ImportError> {
        match self.found(option) {
            None => Ok(Vec::new()),
            Some((_, Value::Text(text))) => Ok(command::split(text)),
            Some((_, Value::List(items))) => Ok(items
                .iter()
                .map(|item| item.word().unwrap_or_else(|| item.to_json()))
                .collect()),
            // Some write `args: false` for "no arguments".
            Some((_, Value::Bool(false))) => Ok(Vec::new()),
            Some((_, value @ (Value::Integer(_) | Value::Float(_)))) => Ok(value.word().into_iter().collect()),
            Some((written, value)) => Err(self.wrong(
                written,
                format!("it is {}, and should be a text or a list of texts", value.kind()),
            )),
        }
    }

    /// The value of the variable PORT, taken from the option `port`.
    pub(super) fn port(&self) -> Option<String> {
        let number = pm2::number(self.value("port")?)?;
        (number != 0.0 && !number.is_nan())
            .then(|| Value::number(number).word())
            .flatten()
    }

    /// Whether the app is a job that runs at certain times and ends.
    pub(super) fn is_job(&self) -> bool {
        let is_off = self.value("autorestart").and_then(Value::truth) == Some(false);
        let pattern = self.value("cron_restart");
        is_off && pattern.is_some_and(|value| !pm2::is_falsy(value) && *value != Value::Text("0".into()))
    }

    pub(super) fn is_watched(&self) -> bool {
        self.value("watch")
            .and_then(watch::paths)
            .is_some_and(|paths| !paths.is_empty())
    }

    /// The variables of an object, and the reasons why others were dropped. Nested objects are passed on as JSON, as in PM2.
    pub(super) fn variables(entries: &[(String, Value)]) -> (Variables, Vec<String>) {
        let (mut variables, mut lost) = (Variables::new(), Vec::new());
        for (name, value) in entries {
            let text = value.word().unwrap_or_else(|| value.to_json());
            let reason = match value.kind() {
                _ if name.is_empty() || name.contains(['=', '\0']) => "no variable can have this name",
                "a function" | "a regular expression" => "it is not a text",
                _ if text.contains('\0') => "no variable can have a byte 0 in it",
                _ => {
                    variables.retain(|(other, _)| other != name);
                    variables.push((name.clone(), text));
                    continue;
                }
            };
            lost.push(format!("without {name:?}: {reason}"));
        }
        (variables, lost)
    }
}
