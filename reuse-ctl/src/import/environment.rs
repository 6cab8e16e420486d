//! `env`, `env_NAME` and `env_file`.

use super::command;
use super::error::ImportError;
use super::options::Options;
use super::pm2;
use super::table::{self, OptionRow};
use super::toml::Item;
use super::translate::Draft;
use super::translated::{OFF, Translated};
use super::value::Value;

impl Draft<'_> {
    /// Translates `env`, or `env_NAME` with its name.
    pub(super) fn environment(
        &mut self,
        row: &OptionRow,
        written: &str,
        value: &Value,
        name: Option<&str>,
    ) -> Result<Translated, ImportError> {
        const TEXT: &str =
            "it is a string, which PM2 does not turn into variables: use an object, or a file with `env_file`";
        let (variables, lost) = match value {
            Value::Map(entries) if value.kind() == "an object" => Options::variables(entries),
            Value::Text(_) => return Ok(Translated::nothing(TEXT)),
            _ if name.is_none() && pm2::is_falsy(value) => return Ok(Translated::nothing(OFF)),
            _ => return self.options.strange(row, written, value, "an object of variables"),
        };
        let key = name.map_or_else(|| "env".to_owned(), |name| format!("env.{name}"));
        match name {
            Some(name) if self.has_variable(name) => {
                let why =
                    format!("`env` has a variable {name:?} already, and both can't be `{key}`: give one another name");
                return Ok(Translated::nothing(why));
            }
            Some(name) => self.app.environments.push((name.to_owned(), variables)),
            None => {
                for (name, text) in variables {
                    if name != "PORT" || self.options.port().is_none() {
                        self.app.set_variable(&name, text);
                    }
                }
            }
        }
        Ok(match lost.is_empty() {
            true => Translated::kept(&key),
            false => Translated::changed(&key, lost.join("; ")),
        })
    }

    /// Whether there is, or will be, a variable with that name.
    fn has_variable(&self, name: &str) -> bool {
        let is_made = match name {
            "PORT" => self.options.port().is_some(),
            "PYTHONUNBUFFERED" => command::is_python(&self.made.words),
            _ => false,
        };
        is_made || self.options.value("env").is_some_and(|env| env.get(name).is_some())
    }

    /// `env_file`, which PM2 doesn't have: it takes it for an environment named "file".
    pub(super) fn env_file(
        &mut self,
        row: &OptionRow,
        written: &str,
        value: &Value,
    ) -> Result<Translated, ImportError> {
        let files = match value {
            Value::Text(file) => vec![file.clone()],
            Value::List(items)
                if !items.is_empty()
                    && items
                        .iter()
                        .all(|item| matches!(item, Value::Text(text) if !text.is_empty())) =>
            {
                items.iter().filter_map(Value::word).collect()
            }
            _ => {
                let row = table::of_app("env_x").expect("it is in the table");
                return self.environment(row, written, value, Some("file"));
            }
        };
        self.app.set("env_file", Item::List(files));
        Ok(Translated::usual(row))
    }
}
