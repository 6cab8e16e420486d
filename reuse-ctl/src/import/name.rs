//! The name of an app.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::ImportError;
use super::options::Options;
use super::pm2;
use super::translated::Translated;
use super::value::Value;
use crate::process::paths::{AppPaths, MAX_NAME_LEN};

/// The name in the file, or that of the script, made valid and unique.
pub(super) fn choose(options: &Options<'_>, names: &mut BTreeSet<String>) -> Result<String, ImportError> {
    let given = match options.found("name") {
        Some((_, value))
            if !pm2::is_falsy(value) && matches!(value, Value::Text(_) | Value::Integer(_) | Value::Float(_)) =>
        {
            value.word().unwrap_or_default()
        }
        Some((written, value)) if !pm2::is_falsy(value) => {
            return Err(options.wrong(written, format!("it is {}, and should be a text", value.kind())));
        }
        _ => {
            let script = options.value("script").and_then(Value::word).unwrap_or_default();
            let path = Path::new(&script);
            path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
    };
    let base = usable_name(&given);
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let name = std::iter::once(base.clone())
        .chain(numbered)
        .find(|name| !names.contains(name))
        .expect("numbers have no end");
    names.insert(name.clone());
    Ok(name)
}

/// The finding for the option `name`, from which `chosen` was made.
pub(super) fn translated(value: &Value, chosen: &str) -> Translated {
    let given = value.word().unwrap_or_default();
    if pm2::is_falsy(value) {
        return Translated::changed(
            "name",
            format!("{chosen:?}, by the script: it is empty, as if it were not there"),
        );
    }
    if chosen == given {
        Translated::kept("name")
    } else if chosen == usable_name(&given) {
        Translated::changed(
            "name",
            format!("{chosen:?}: a name has letters, digits, `.`, `_` and `-`"),
        )
    } else {
        Translated::changed("name", format!("{chosen:?}: another app has this name already"))
    }
}

/// The name with invalid characters replaced.
fn usable_name(given: &str) -> String {
    let letter = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-') => letter,
        _ => '-',
    };
    let name: String = given.chars().map(letter).collect();
    // Leaves room for a number at the end.
    let name: String = name
        .trim_start_matches(['.', '-'])
        .chars()
        .take(MAX_NAME_LEN - 4)
        .collect();
    if AppPaths::new(&name).is_ok() {
        name
    } else {
        "app".to_owned()
    }
}
