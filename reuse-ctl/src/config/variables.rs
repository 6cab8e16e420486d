//! `env` and `[env.NAME]`: variables for the workers.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::command::checked;
use super::source::Problem;
use super::value::{a_kind, text};

/// The variables of one app.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Variables for every environment.
    always: Said,
    /// Variables of each named environment, which override the others.
    environments: BTreeMap<String, Said>,
}

/// Values by name, with their places.
type Said = BTreeMap<String, (String, Range<usize>)>;

impl Variables {
    /// Reads the value of `env`. Invalid entries are left out and added to `problems`.
    pub(super) fn read(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) -> Self {
        let DeValue::Table(table) = value.get_ref() else {
            let error = format!("`env` is a table, not {}", a_kind(value.get_ref()));
            problems.push(Problem::new(
                value.span(),
                error,
                "write env = { NAME = \"value\" }, or [env] above NAME = \"value\"",
            ));
            return Self::default();
        };
        let mut variables = Self::default();
        for (name, value) in table {
            if let DeValue::Table(more) = value.get_ref() {
                let flat = flat(more, problems);
                variables.environments.insert(name.get_ref().clone().into_owned(), flat);
            } else {
                one(name, value, &mut variables.always, problems);
            }
        }
        variables
    }

    pub(super) fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().map(String::as_str)
    }

    /// Names and values, alternating, each name once.
    pub(super) fn of(&self, environment: Option<&str>) -> impl Iterator<Item = String> {
        let mut variables = self.always.clone();
        if let Some(more) = environment.and_then(|name| self.environments.get(name)) {
            variables.extend(more.clone());
        }
        variables.into_iter().flat_map(|(name, (value, _))| [name, value])
    }

    /// The place of the value that applies.
    pub(super) fn place(&self, environment: Option<&str>, name: &str) -> Option<&Range<usize>> {
        let more = environment.and_then(|environment| self.environments.get(environment));
        let said = more.and_then(|more| more.get(name)).or_else(|| self.always.get(name));
        said.map(|(_, place)| place)
    }
}

fn flat(table: &DeTable<'_>, problems: &mut Vec<Problem>) -> Said {
    let mut variables = BTreeMap::new();
    for (name, value) in table {
        one(name, value, &mut variables, problems);
    }
    variables
}

fn one(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    variables: &mut Said,
    problems: &mut Vec<Problem>,
) {
    let key = name.get_ref();
    if key.is_empty() || key.contains(['=', '\0']) {
        problems.push(Problem::new(
            name.span(),
            format!("{key:?} can't be a variable's name"),
            "a name is not empty and has no = in it",
        ));
        return;
    }
    let text = match value.get_ref() {
        DeValue::Boolean(value) => Some(value.to_string()),
        other => text(other),
    };
    match text.map(|text| checked(&text, value.span())) {
        Some(Ok(text)) => {
            variables.insert(key.clone().into_owned(), (text, value.span()));
        }
        Some(Err(problem)) => problems.push(problem),
        None => {
            let error = format!(
                "the variable {key} is a string, a number, true or false, not {}",
                a_kind(value.get_ref())
            );
            problems.push(Problem::new(value.span(), error, "put it in quotes"));
        }
    }
}
