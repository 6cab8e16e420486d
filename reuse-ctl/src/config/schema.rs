//! The JSON Schema (2020-12) of the file, from the same source as the keys: clap's definition of the options of `run`.

use std::ffi::OsStr;

use serde_json::{Map, Value, json};

use crate::app::{
    key_numbers::Numbers,
    keys::{CWD, Key, Keys, Kind, NAME},
};

/// Options whose help text concerns the command line, with other descriptions.
const DIFFERENT: [(&str, &str); 2] = [
    (
        NAME,
        "The app's name [default: the command's file name]; needed if there are several",
    ),
    (CWD, "Run the command in this folder [default: that of the file]"),
];

/// The schema as printed, and as kept in `docs/reuse.schema.json`.
pub(crate) fn text() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).expect("plain data");
    text.push('\n');
    text
}

fn schema() -> Value {
    let keys = Keys::new();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reuse.toml",
        "description": "Apps for reuse-ctl: one, with its keys at the top, or several as [[app]], each with a name. Relative paths are relative to the file's folder; those of command and watch to cwd, which is that folder unless it is said.",
        "if": { "required": ["app"] },
        "then": {
            "type": "object",
            "properties": {
                "app": {
                    "description": "One of several apps",
                    "type": "array",
                    "minItems": 1,
                    "items": { "$ref": "#/$defs/app" },
                    "if": { "minItems": 2 },
                    "then": { "items": { "required": [NAME] } }
                }
            },
            "additionalProperties": false
        },
        "else": { "$ref": "#/$defs/app" },
        "$defs": {
            "app": {
                "type": "object",
                "required": ["command"],
                "properties": properties(&keys),
                "additionalProperties": false
            },
            "value": { "type": ["string", "number", "boolean"] }
        }
    })
}

fn properties(keys: &Keys) -> Map<String, Value> {
    let mut properties = Map::new();
    properties.insert(
        "command".into(),
        json!({
            "description": "The command and its arguments: split into words as a shell would, but no shell runs it",
            "type": ["string", "array"],
            "minLength": 1,
            "minItems": 1,
            "items": { "type": "string" }
        }),
    );
    properties.insert(
        "env".into(),
        json!({
            "description": "Variables of the workers; a table in it is added with --env and its name",
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    { "$ref": "#/$defs/value" },
                    { "type": "object", "additionalProperties": { "$ref": "#/$defs/value" } }
                ]
            }
        }),
    );
    for key in keys.all() {
        properties.insert(key.name.clone(), property(key, keys));
    }
    properties
}

fn property(key: &Key, keys: &Keys) -> Value {
    let mut one = Map::new();
    if key.kind == Kind::Flag {
        one.insert("type".into(), "boolean".into());
    } else {
        let types = types(key, keys);
        one.insert(
            "type".into(),
            if let [one] = types[..] {
                one.into()
            } else {
                types.clone().into()
            },
        );
        one.extend(pattern(key, keys).map(|pattern| ("pattern".to_owned(), pattern.into())));
        let valid = key.argument.get_possible_values();
        if !valid.is_empty() {
            let names: Vec<&str> = valid.iter().map(clap::builder::PossibleValue::get_name).collect();
            one.insert("enum".into(), names.into());
        }
    }
    let mut property = match key.kind {
        Kind::Flag | Kind::One => one,
        Kind::Many => {
            let list = json!({ "type": "array", "items": one });
            Map::from_iter([("anyOf".to_owned(), json!([one, list]))])
        }
    };
    let different = DIFFERENT.iter().find(|(name, _)| *name == key.name);
    let help = || {
        key.argument
            .get_help()
            .map(|help| keys.in_words_of_the_file(&help.to_string()))
    };
    if let Some(text) = different.map(|(_, text)| (*text).to_owned()).or_else(help) {
        property.insert("description".into(), text.into());
    }
    if let ([default], true) = (key.argument.get_default_values(), key.kind == Kind::One) {
        property.insert("default".into(), as_value(default));
    }
    Value::Object(property)
}

/// The value as a JSON number if it is one.
fn as_value(text: &OsStr) -> Value {
    let text = text.to_string_lossy();
    text.parse::<u64>().map_or_else(|_| text.as_ref().into(), Value::from)
}

/// The types that an option accepts, found by trying values. A number may also be in quotes.
fn types(key: &Key, keys: &Keys) -> Vec<&'static str> {
    let (integer, fraction) = takes(key, keys);
    let mut types = Vec::new();
    if fraction {
        types.push("number");
    } else if integer {
        types.push("integer");
    }
    types.push("string");
    types
}

/// The pattern of strings that may stand for a number; `None` if other strings are accepted too.
fn pattern(key: &Key, keys: &Keys) -> Option<&'static str> {
    let judged = |sample: &&str| keys.judge(key, OsStr::new(*sample)).is_ok();
    let takes_words = keys.takes_any_text(key) || ["2M", "2s", "2%", "max", "SIGTERM"].iter().any(judged);
    match takes(key, keys) {
        _ if takes_words => None,
        (_, true) => Some(r"^[0-9]*\.?[0-9]+$"),
        (true, false) => Some("^[0-9]+$"),
        (false, false) => None,
    }
}

/// Whether the option accepts integers, and fractions.
fn takes(key: &Key, keys: &Keys) -> (bool, bool) {
    let one_of = |samples: &[&str]| samples.iter().any(|sample| keys.judge(key, OsStr::new(sample)).is_ok());
    let numbers = keys.numbers(key);
    // An option in bytes accepts only large numbers.
    let integer = numbers != Numbers::None && one_of(&["2", "2000000000"]);
    let fraction = numbers == Numbers::Any && one_of(&["0.5"]);
    (integer, fraction)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
