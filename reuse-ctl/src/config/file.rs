//! From the text of a `reuse.toml` to its apps. Everything that is wrong in it is found in one go, each thing at its place.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::command;
use super::keys::{CWD, Key, Keys, Kind, NAME, Values};
use super::ports::Port;
use super::source::{Problem, Source, SourceError, check_text};
use super::value::{a_kind, text};
use super::variables::Variables;
use super::{AppSpec, NamedSpec};

/// The table of an app, where there are several.
const APP: &str = "app";

/// Keys that are no options.
const COMMAND: &str = "command";
const ENV: &str = "env";

/// An app, and where things are said of it.
#[derive(Debug)]
pub(super) struct Described {
    values: Values,
    command: Option<Vec<OsString>>,
    variables: Variables,
    /// Where each value of [`Self::values`] is.
    spans: Vec<Vec<Range<usize>>>,
    /// Where the app itself begins.
    span: Range<usize>,
}

/// What is in a file.
pub(super) struct Content {
    pub(super) apps: Vec<Described>,
    keys: Keys,
}

/// Reads the apps of a file.
///
/// # Errors
/// All that is wrong in it.
pub(super) fn read(source: &Source) -> Result<Content, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    // What comes after the first mistake in the grammar is guesswork.
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(0..0);
        let hint = match error.message() {
            "duplicate key" => "say it once",
            message if message.starts_with("string values must be quoted") => "put it in quotes",
            _ => "see https://toml.io for how TOML is written",
        };
        return Err(vec![Problem::new(span, error.message(), hint)]);
    }
    let keys = Keys::new();
    let mut problems = Vec::new();
    let tables = tables(document.get_ref(), &mut problems);
    let apps: Vec<Described> = tables
        .into_iter()
        .map(|(table, span)| Described::read(table, span, &source.folder, &keys, &mut problems))
        .collect();
    names(&apps, &keys, source, &mut problems);
    ports(&apps, &keys, source, &mut problems);
    if problems.is_empty() {
        Ok(Content { apps, keys })
    } else {
        Err(problems)
    }
}

impl Content {
    /// The names of all environments.
    pub(super) fn environments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.apps.iter().flat_map(|app| app.variables.environments()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What each app is in an environment.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub(super) fn specs(&self, folder: &Path, environment: Option<&str>) -> Result<Vec<NamedSpec>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut specs = Vec::new();
        for app in &self.apps {
            match app.spec(&self.keys, folder, environment) {
                Ok(spec) => specs.push(spec),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(specs) } else { Err(problems) }
    }
}

/// The tables that describe an app: the document itself, or each `[[app]]`.
fn tables<'a, 'i>(document: &'a DeTable<'i>, problems: &mut Vec<Problem>) -> Vec<(&'a DeTable<'i>, Range<usize>)> {
    let Some((_, apps)) = document.get_key_value(APP) else {
        return vec![(document, 0..0)];
    };
    for (key, _) in document.iter().filter(|(key, _)| key.get_ref() != APP) {
        problems.push(Problem::new(
            key.span(),
            format!("`{}` stands above the apps, and belongs to none", key.get_ref()),
            "write it below the [[app]] that it is for",
        ));
    }
    let DeValue::Array(array) = apps.get_ref() else {
        problems.push(Problem::new(
            apps.span(),
            format!("`app` is a list of tables, not {}", a_kind(apps.get_ref())),
            "write [[app]] above the keys of each",
        ));
        return Vec::new();
    };
    if array.is_empty() {
        problems.push(Problem::new(
            apps.span(),
            "there is no app",
            "write [[app]] above the keys of each",
        ));
    }
    let mut tables = Vec::new();
    for app in array {
        match app.get_ref() {
            DeValue::Table(table) => tables.push((table, app.span())),
            other => problems.push(Problem::new(
                app.span(),
                format!("an app is a table, not {}", a_kind(other)),
                "write [[app]] above its keys",
            )),
        }
    }
    tables
}

impl Described {
    fn read(table: &DeTable<'_>, span: Range<usize>, folder: &Path, keys: &Keys, problems: &mut Vec<Problem>) -> Self {
        let mut described = Self {
            values: keys.nothing(),
            command: None,
            variables: Variables::default(),
            spans: vec![Vec::new(); keys.all().len()],
            span,
        };
        let mut says_command = false;
        for (name, value) in table {
            match name.get_ref().as_ref() {
                COMMAND => {
                    says_command = true;
                    match command::words(value, folder) {
                        Ok(words) => described.command = Some(words),
                        Err(problem) => problems.push(problem),
                    }
                }
                ENV => described.variables = Variables::read(value, problems),
                other => match keys.find(other) {
                    Some(at) => described.value(at, &keys.all()[at], value, folder, keys, problems),
                    None => problems.push(unknown(name.span(), other, keys)),
                },
            }
        }
        if !says_command {
            let hint = "say one like command = \"node server.js\"";
            problems.push(Problem::new(described.span.clone(), "there is no `command`", hint));
        }
        described
    }

    fn value(
        &mut self,
        at: usize,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        folder: &Path,
        keys: &Keys,
        problems: &mut Vec<Problem>,
    ) {
        let items: Vec<&Spanned<DeValue<'_>>> = match (key.kind, value.get_ref()) {
            (Kind::Many, DeValue::Array(array)) => array.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            match judged(key, item, folder, keys) {
                Ok(Some(text)) => {
                    self.values[at].push(text);
                    self.spans[at].push(item.span());
                }
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
    }

    fn spec(&self, keys: &Keys, folder: &Path, environment: Option<&str>) -> Result<NamedSpec, Problem> {
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
            // Each option is right for itself: it is about those that the text speaks of.
            let spoken_of = keys.spoken_of(&format!("{} {}", failure.error, failure.hint));
            let span = spoken_of.iter().find_map(|key| self.spans[*key].first());
            let error = keys.in_words_of_the_file(&failure.error);
            let hint = match failure.hint.starts_with("usage:") {
                true => "`reuse-ctl run --help` describes it".to_owned(),
                false => keys.in_words_of_the_file(&failure.hint),
            };
            Problem::new(span.unwrap_or(&self.span).clone(), error, hint)
        })?;
        // By name: another command would else be another app.
        let name = keys.find(NAME).expect("an option of run");
        if values[name].is_empty() {
            values[name].push((&options.name).into());
            spec.arguments = keys.arguments(&values, &command);
        }
        Ok(NamedSpec {
            name: options.name,
            spec,
        })
    }

    fn said<'a>(&'a self, keys: &Keys, name: &str) -> impl Iterator<Item = (&'a str, &'a Range<usize>)> {
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
fn judged(key: &Key, item: &Spanned<DeValue<'_>>, folder: &Path, keys: &Keys) -> Result<Option<OsString>, Problem> {
    let wrong_type = |wanted: &str| {
        let error = format!("`{}` is {wanted}, not {}", key.name, a_kind(item.get_ref()));
        Problem::new(item.span(), error, key.hint())
    };
    let value = match (key.kind, item.get_ref()) {
        (Kind::Flag, DeValue::Boolean(true)) => OsString::new(),
        (Kind::Flag, DeValue::Boolean(false)) => return Ok(None),
        (Kind::Flag, _) => return Err(wrong_type("true or false")),
        (Kind::One | Kind::Many, value) => {
            let wanted = if key.kind == Kind::One {
                "a string or a number"
            } else {
                "a string or a number, or a list of them"
            };
            let text = text(value).ok_or_else(|| wrong_type(wanted))?;
            command::checked(&text, item.span())?.into()
        }
    };
    keys.judge(key, &value)
        .map_err(|(error, hint)| Problem::new(item.span(), error, hint))?;
    let value = key.absolute(value, folder);
    on_disk(key, &value).map_err(|(error, hint)| Problem::new(item.span(), error, hint))?;
    Ok(Some(value))
}

/// What must be there before anything is started.
fn on_disk(key: &Key, path: &OsStr) -> Result<(), (String, String)> {
    match key.name.as_str() {
        "env_file" => check_text(Path::new(path)).map_err(|error| {
            let hint = match error {
                SourceError::Missing => "paths are relative to the folder of this file",
                _ => "it should be a text file with lines like NAME=VALUE",
            };
            (format!("{}: {error}", path.display()), hint.to_owned())
        }),
        CWD if !Path::new(path).is_dir() => Err((
            format!("there is no folder {}", path.display()),
            "paths are relative to the folder of this file".into(),
        )),
        _ => Ok(()),
    }
}

/// Several apps have a name each.
fn names(apps: &[Described], keys: &Keys, source: &Source, problems: &mut Vec<Problem>) {
    let mut seen: Vec<(&str, &Range<usize>)> = Vec::new();
    for app in apps {
        let Some((name, span)) = app.said(keys, NAME).next() else {
            let at = keys.find(NAME).expect("an option of run");
            if apps.len() > 1 && app.values[at].is_empty() {
                problems.push(Problem::new(
                    app.span.clone(),
                    "this app has no `name`",
                    "say one like name = \"web\": there are several apps",
                ));
            }
            continue;
        };
        match seen.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => {
                let hint = format!(
                    "the other is in line {}: give each a name of its own",
                    source.line(first.start)
                );
                problems.push(Problem::new(
                    span.clone(),
                    format!("two apps have the name {name:?}"),
                    hint,
                ));
            }
            None => seen.push((name, span)),
        }
    }
}

/// No two apps serve one port.
fn ports(apps: &[Described], keys: &Keys, source: &Source, problems: &mut Vec<Problem>) {
    let mut seen: Vec<(usize, Port, &Range<usize>)> = Vec::new();
    for (number, app) in apps.iter().enumerate() {
        let said = app.said(keys, "port").chain(app.said(keys, "listen"));
        for (port, span) in said.filter_map(|(text, span)| Some((Port::read(text)?, span))) {
            let taken = seen
                .iter()
                .find(|(owner, other, _)| *owner != number && other.clashes(port));
            match taken {
                Some((owner, _, first)) => {
                    let name = apps[*owner]
                        .said(keys, NAME)
                        .next()
                        .map_or_else(|| "another app".to_owned(), |(name, _)| format!("{name:?}"));
                    let error = format!(
                        "port {} is served by {name} already, in line {}",
                        port.number(),
                        source.line(first.start)
                    );
                    problems.push(Problem::new(span.clone(), error, "two apps can't share a port"));
                }
                None => seen.push((number, port, span)),
            }
        }
    }
}
