//! Finds the apps in a document, and the options beside them.

use super::{
    error::ImportError,
    report::{Fate, Finding},
    table::{self, Becomes},
    value::Value,
};
use crate::base::nearest::nearest;

/// An app of the document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// `None` if the document itself is the app.
    pub(super) at: Option<(&'static str, usize)>,
    pub(super) options: &'a [(String, Value)],
}

impl Entry<'_> {
    /// The path of an option: `apps[0].instances`.
    pub(super) fn place(&self, option: &str) -> String {
        match self.at {
            Some((list, at)) => format!("{list}[{at}].{option}"),
            None => option.to_owned(),
        }
    }
}

/// The apps, and findings about everything else.
pub(super) fn find<'a>(file: &str, document: &'a Value) -> Result<(Vec<Entry<'a>>, Vec<Finding>), ImportError> {
    let wrong = |place: &str, reason: String| ImportError::Wrong {
        place: if place.is_empty() {
            file.to_owned()
        } else {
            format!("{file}: {place}")
        },
        reason,
        hint: "it should have `apps: [{ script: \"./server.js\" }]`",
    };
    let entries = match document {
        // The document may be the list itself, or a single app.
        Value::List(_) => return Ok((list(document, "", &wrong)?, Vec::new())),
        Value::Map(entries) if entries.is_empty() => return Err(wrong("", "it is empty: it has no apps".into())),
        Value::Map(entries) => entries,
        other => return Err(wrong("", format!("it is {}, and has no apps", other.kind()))),
    };
    let Some(name) = ["apps", "pm2"].into_iter().find(|name| document.get(name).is_some()) else {
        if entries
            .iter()
            .any(|(key, _)| table::of_app(key).is_some_and(|row| row.option == "script"))
        {
            let options = entries.as_slice();
            return Ok((vec![Entry { at: None, options }], Vec::new()));
        }
        return Err(wrong("", "it has no `apps`".into()));
    };
    let apps = document.get(name).expect("it was just found");
    let findings = entries
        .iter()
        .filter(|(key, _)| key != name)
        .map(|(key, _)| beside(key));
    Ok((list(apps, name, &wrong)?, findings.collect()))
}

fn list<'a>(
    apps: &'a Value,
    name: &'static str,
    wrong: &dyn Fn(&str, String) -> ImportError,
) -> Result<Vec<Entry<'a>>, ImportError> {
    let items = match apps {
        Value::List(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    if items.is_empty() {
        return Err(wrong(name, "it has no apps: the list is empty".into()));
    }
    let entry = |(at, item): (usize, &'a Value)| match item {
        Value::Map(options) if !matches!(item.kind(), "a function" | "a regular expression") => Ok(Entry {
            at: Some((name, at)),
            options,
        }),
        other => Err(wrong(
            &format!("{name}[{at}]"),
            format!("it is {}, not an app", other.kind()),
        )),
    };
    items.iter().enumerate().map(entry).collect()
}

fn beside(key: &str) -> Finding {
    let (fate, why) = match table::of_top(key).map(|row| row.becomes) {
        Some(Becomes::Nothing(why)) => (Fate::NotApplicable, why.to_owned()),
        Some(_) => (Fate::NotApplicable, "the apps are in `apps`".to_owned()),
        None => (Fate::Unknown, unknown(key, table::names_at_top())),
    };
    Finding {
        app: None,
        option: key.to_owned(),
        fate,
        key: None,
        why: Some(why),
    }
}

/// The finding for an option that PM2 doesn't have.
pub(super) fn unknown(key: &str, known: impl Iterator<Item = &'static str>) -> String {
    match nearest(key, known) {
        Some(meant) => format!("PM2 does not know it, and does nothing with it: is `{meant}` meant?"),
        None => "PM2 does not know it, and does nothing with it".to_owned(),
    }
}
