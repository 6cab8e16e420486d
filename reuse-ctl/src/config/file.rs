//! Reads the apps from the text of a `reuse.toml`. All mistakes are found in one run, each with its place.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{
    NamedSpec, conflicts,
    parsed::ParsedApp,
    source::{Problem, Source},
    value::a_kind,
};
use crate::app::{keys::Keys, options::RunOptions};

/// The name of an app's table if there are several.
const APP: &str = "app";

/// Maximum number of apps; more can only be a mistake.
const MAX_APPS: usize = 1000;

/// The contents of a file.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) apps: Vec<ParsedApp>,
    pub(super) keys: Keys,
}

/// Reads the apps of a file.
///
/// # Errors
/// All mistakes in it.
pub(super) fn read(source: &Source) -> Result<Content, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    // Anything after the first syntax error is guesswork.
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(0..0);
        let hint = match error.message() {
            "duplicate key" => "keep one of them",
            message if message.starts_with("string values must be quoted") => "put it in quotes",
            _ => "see https://toml.io for how TOML is written",
        };
        return Err(vec![Problem::new(span, error.message(), hint)]);
    }
    let keys = Keys::new();
    let mut problems = Vec::new();
    let tables = tables(document.get_ref(), &mut problems);
    let apps: Vec<ParsedApp> = tables
        .into_iter()
        .map(|(table, span)| ParsedApp::read(table, span, &source.folder, &keys, &mut problems))
        .collect();
    conflicts::names(&apps, &keys, source, &mut problems);
    conflicts::ports(&apps, &keys, source, &mut problems);
    if problems.is_empty() {
        Ok(Content { apps, keys })
    } else {
        Err(problems)
    }
}

impl Content {
    /// The names of all environments.
    pub(super) fn environments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.apps.iter().flat_map(|app| app.environments()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The specification and the options of each app in an environment.
    ///
    /// # Errors
    /// Options that contradict each other, within one app or between apps.
    pub(super) fn specs(
        &self,
        source: &Source,
        environment: Option<&str>,
    ) -> Result<Vec<(NamedSpec, RunOptions)>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut specs = Vec::new();
        let mut given = Vec::new();
        for app in &self.apps {
            match app.spec(&self.keys, &source.folder, environment) {
                Ok((spec, options)) => {
                    given.push(conflicts::Ports::of(app, &self.keys, &options, environment));
                    specs.push((spec, options));
                }
                Err(problem) => problems.push(problem),
            }
        }
        conflicts::given_ports(&given, source, &mut problems);
        if problems.is_empty() { Ok(specs) } else { Err(problems) }
    }
}

/// The tables that describe apps: the document itself, or each `[[app]]`.
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
    if array.len() > MAX_APPS {
        let error = format!("there are {} apps", array.len());
        problems.push(Problem::new(
            apps.span(),
            error,
            format!("at most {MAX_APPS} are taken"),
        ));
        return Vec::new();
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
