//! The JSON Schema (2020-12) of the file, from the same source as the keys: what clap knows of the options of `run`.

use std::ffi::OsStr;

use serde_json::{Map, Value, json};

use super::keys::{CWD, Key, Keys, Kind, NAME};

/// Options whose help speaks of the command line.
const DIFFERENT: [(&str, &str); 2] = [
    (
        NAME,
        "The app's name [default: the command's file name]; needed if there are several",
    ),
    (CWD, "Run the command in this folder [default: that of the file]"),
];

/// As it is printed and kept in `docs/reuse.schema.json`.
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
        "description": "Apps for reuse-ctl: one, with its keys at the top, or several as [[app]], each with a name. Relative paths are relative to the file's folder.",
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
                types.into()
            },
        );
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

/// A number where it is one.
fn as_value(text: &OsStr) -> Value {
    let text = text.to_string_lossy();
    text.parse::<u64>().map_or_else(|_| text.as_ref().into(), Value::from)
}

/// Which types make sense, found out by asking the option itself. One that takes any text takes a string, though it would take the text of
/// a number too.
fn types(key: &Key, keys: &Keys) -> Vec<&'static str> {
    let takes = |samples: &[&str]| samples.iter().any(|sample| keys.judge(key, OsStr::new(sample)).is_ok());
    if takes(&["any-text"]) || !takes(&["2"]) {
        return vec!["string"];
    }
    let mut types = vec![if takes(&["0.5"]) { "number" } else { "integer" }];
    if takes(&["2M", "2s", "max", "SIGTERM"]) {
        types.push("string");
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reuse.schema.json");

    #[test]
    fn the_committed_schema_is_current() {
        if std::env::var_os("REUSE_UPDATE_SCHEMA").is_some() {
            std::fs::write(COMMITTED, text()).expect("write the schema");
        }
        let committed = std::fs::read_to_string(COMMITTED).expect("docs/reuse.schema.json");
        assert!(
            committed == text(),
            "REUSE_UPDATE_SCHEMA=1 cargo test -p reuse-ctl schema writes it anew"
        );
    }

    #[test]
    fn types_are_what_the_options_take() {
        let keys = Keys::new();
        for (name, expected) in [
            ("workers", &["integer", "string"][..]),
            ("policy", &["string"]),
            ("port", &["integer"]),
            ("listen", &["string"]),
            ("drain_timeout", &["string"]),
            ("stop_signal", &["integer", "string"]),
            ("max_memory", &["integer", "string"]),
            ("max_connections", &["integer"]),
            ("cpu_limit", &["number"]),
            ("max_hung", &["integer"]),
            ("name", &["string"]),
        ] {
            let key = &keys.all()[keys.find(name).expect(name)];
            assert_eq!(types(key, &keys), expected, "{name}");
        }
    }

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        let properties = schema["$defs"]["app"]["properties"].as_object().expect("a table");
        let keys = Keys::new();
        assert_eq!(properties.len(), keys.all().len() + 2);
        for (name, property) in properties {
            let text = property["description"].as_str().unwrap_or_default();
            assert!(!text.is_empty() && keys.spoken_of(text).is_empty(), "{name}: {text}");
        }
    }
}
