//! One parsed app of the file: its checked values, and the place of each.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    NamedSpec, command,
    source::Problem,
    value::{a_kind, text},
    variables::Variables,
};
use crate::app::{
    AppSpec,
    key_numbers::Numbers,
    keys::{CWD, Folders, Key, Keys, Kind, NAME, Values},
    options::RunOptions,
};

/// Keys that are no options.
const COMMAND: &str = "command";
const ENV: &str = "env";

/// Maximum number of values of one key; more can only be a mistake.
const MAX_ITEMS: usize = 1000;

/// Beyond this many problems, unknown keys are no longer reported.
const MANY: usize = 10_000;

/// An app, and the places of its values.
#[derive(Debug)]
pub(super) struct ParsedApp {
    values: Values,
    command: Option<Vec<OsString>>,
    /// The place of the program.
    pub(super) program_span: Range<usize>,
    pub(super) variables: Variables,
    /// The place of each value in [`Self::values`].
    spans: Vec<Vec<Range<usize>>>,
    /// Where the app itself begins.
    pub(super) span: Range<usize>,
    /// Whether the file gives a name, valid or not.
    pub(super) is_named: bool,
}

impl ParsedApp {
    pub(super) fn read(
        table: &DeTable<'_>,
        span: Range<usize>,
        folder: &Path,
        keys: &Keys,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut parsed = Self {
            values: keys.nothing(),
            command: None,
            program_span: span.clone(),
            variables: Variables::default(),
            spans: vec![Vec::new(); keys.all().len()],
            span,
            is_named: table.contains_key(NAME),
        };
        let cwd = table.get(CWD).and_then(|cwd| cwd.get_ref().as_str());
        let folders = Folders::new(folder, cwd.map(OsStr::new));
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            match name.get_ref().as_ref() {
                COMMAND => match command::words(value, &folders.working) {
                    Ok(words) => {
                        parsed.command = Some(words);
                        parsed.program_span = command::program_span(value);
                    }
                    Err(problem) => problems.push(problem),
                },
                ENV => parsed.variables = Variables::read(value, problems),
                other => match keys.find(other) {
                    Some(at) => parsed.value(at, value, &folders, keys, problems),
                    None if problems.len() > MANY => {}
                    None => problems.push(unknown(name.span(), other, keys)),
                },
            }
        }
        if !table.contains_key(COMMAND) {
            let hint = "add one like command = \"node server.js\"";
            problems.push(Problem::new(parsed.span.clone(), "the app has no `command`", hint));
        }
        parsed
    }

    fn value(
        &mut self,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        folders: &Folders,
        keys: &Keys,
        problems: &mut Vec<Problem>,
    ) {
        let key = &keys.all()[at];
        let items: Vec<&Spanned<DeValue<'_>>> = match (key.kind, value.get_ref()) {
            (Kind::Many, DeValue::Array(array)) => array.iter().collect(),
            _ => vec![value],
        };
        if items.len() > MAX_ITEMS {
            let error = format!("`{}` has {} values", key.name, items.len());
            problems.push(Problem::new(
                value.span(),
                error,
                format!("at most {MAX_ITEMS} are taken"),
            ));
            return;
        }
        for item in items {
            match judged(key, item, folders, keys) {
                Ok(Some(text)) => {
                    self.values[at].push(text);
                    self.spans[at].push(item.span());
                }
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
    }

    /// The names of its environments.
    pub(super) fn environments(&self) -> impl Iterator<Item = &str> {
        self.variables.environments()
    }

    /// The app's specification and options in an environment.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub(super) fn spec(
        &self,
        keys: &Keys,
        folder: &Path,
        environment: Option<&str>,
    ) -> Result<(NamedSpec, RunOptions), Problem> {
        let mut values = self.values.clone();
        let cwd = keys.find(CWD).expect("an option of run");
        if values[cwd].is_empty() {
            values[cwd].push(folder.into());
        }
        let command = self.command.clone().expect("an app without one was refused");
        let mut spec = AppSpec {
            arguments: keys.arguments(&values, &command),
            variables: self.variables.of(environment).map(OsString::from).collect(),
        };
        let options = spec.resolve().map_err(|failure| {
            // Each option is valid by itself, so the error is placed at the options that its text names.
            let spoken_of = keys.spoken_of(&format!("{} {}", failure.error, failure.hint));
            let span = spoken_of.iter().find_map(|key| self.spans[*key].first());
            let error = keys.in_words_of_the_file(&failure.error);
            let hint = match failure.hint.starts_with("usage:") {
                true => "`reuse-ctl run --help` describes it".to_owned(),
                false => keys.in_words_of_the_file(&failure.hint),
            };
            Problem::new(span.unwrap_or(&self.span).clone(), error, hint)
        })?;
        // Named explicitly: otherwise another command would make it another app.
        let name = keys.find(NAME).expect("an option of run");
        if values[name].is_empty() {
            values[name].push((&options.name).into());
            spec.arguments = keys.arguments(&values, &command);
        }
        let name = options.name.clone();
        Ok((NamedSpec { name, spec }, options))
    }

    /// Where the `PORT` of its workers is given: the variable itself, else the env files, else the app.
    pub(super) fn place_of_port(&self, keys: &Keys, environment: Option<&str>) -> &Range<usize> {
        let files = || self.said(keys, "env_file").last().map(|(_, span)| span);
        let counted = || self.said(keys, "increment_var").next().map(|(_, span)| span);
        let variable = self.variables.place(environment, "PORT");
        variable.or_else(files).or_else(counted).unwrap_or(&self.span)
    }

    /// The place of a key's value with this index, from 0.
    pub(super) fn place_of(&self, keys: &Keys, name: &str, number: usize) -> Option<&Range<usize>> {
        self.spans[keys.find(name)?].get(number)
    }

    /// A key's values that are text, with their places.
    pub(super) fn said<'a>(&'a self, keys: &Keys, name: &str) -> impl Iterator<Item = (&'a str, &'a Range<usize>)> {
        let at = keys.find(name).expect("an option of run");
        self.values[at]
            .iter()
            .zip(&self.spans[at])
            .filter_map(|(value, span)| Some((value.to_str()?, span)))
    }
}

fn unknown(span: Range<usize>, name: &str, keys: &Keys) -> Problem {
    let error = format!("there is no key `{name}`");
    let nearest = keys.nearest(name, &[COMMAND, ENV]);
    let hint = nearest.map_or_else(
        || "`reuse-ctl run --help` shows the options: each is a key, with _ for -".to_owned(),
        |nearest| format!("did you mean `{nearest}`?"),
    );
    Problem::new(span, error, hint)
}

/// The value as it would be typed; `None` for a flag that is not set.
fn judged(key: &Key, item: &Spanned<DeValue<'_>>, folders: &Folders, keys: &Keys) -> Result<Option<OsString>, Problem> {
    let wrong_type = |wanted: &str| {
        let error = format!("`{}` is {wanted}, not {}", key.name, a_kind(item.get_ref()));
        Problem::new(item.span(), error, key.hint())
    };
    let value = match (key.kind, item.get_ref()) {
        (Kind::Flag, DeValue::Boolean(true)) => OsString::new(),
        (Kind::Flag, DeValue::Boolean(false)) => return Ok(None),
        (Kind::Flag, _) => return Err(wrong_type("true or false")),
        (Kind::One | Kind::Many, value) => {
            let numbers = keys.numbers(key);
            let wanted = match (key.kind, numbers) {
                (Kind::Many, Numbers::None) => "a string, or a list of them",
                (Kind::Many, _) => "a string or a number, or a list of them",
                (_, Numbers::None) => "a string",
                _ => "a string or a number",
            };
            let can_be_meant = match value {
                DeValue::Integer(_) => numbers != Numbers::None,
                DeValue::Float(_) => numbers == Numbers::Any,
                _ => true,
            };
            let text = text(value).filter(|_| can_be_meant);
            let text = text.ok_or_else(|| wrong_type(wanted))?;
            command::checked(&text, item.span())?.into()
        }
    };
    keys.judge(key, &value)
        .map_err(|(error, hint)| Problem::new(item.span(), error, hint))?;
    Ok(Some(key.absolute(value, folders)))
}
