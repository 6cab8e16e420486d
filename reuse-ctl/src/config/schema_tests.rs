use super::*;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reuse.schema.json");

#[test]
fn the_committed_schema_is_current() {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(COMMITTED, text()).expect("write the schema");
    }
    let committed = std::fs::read_to_string(COMMITTED).expect("docs/reuse.schema.json");
    assert!(
        committed == text(),
        "UPDATE_DOCS=1 cargo test -p reuse-ctl schema writes it anew"
    );
}

#[test]
fn types_are_what_the_options_take() {
    let keys = Keys::new();
    for (name, expected) in [
        ("workers", &["integer", "string"][..]),
        ("policy", &["string"]),
        ("port", &["integer", "string"]),
        ("listen", &["string"]),
        ("drain_timeout", &["string"]),
        ("stop_signal", &["integer", "string"]),
        ("max_memory", &["integer", "string"]),
        ("max_connections", &["integer", "string"]),
        ("cpu_limit", &["number", "string"]),
        ("settle", &["string"]),
        ("surge", &["integer", "string"]),
        ("max_hung", &["integer", "string"]),
        ("name", &["string"]),
        ("user", &["integer", "string"]),
        ("env_file", &["string"]),
    ] {
        let key = &keys.all()[keys.find(name).expect(name)];
        assert_eq!(types(key, &keys), expected, "{name}");
    }
}

/// Whether the schema allows the value, as far as types, enumerations and patterns are concerned.
fn allows(schema: &Value, value: &Value) -> bool {
    if let Some(ways) = schema["anyOf"].as_array() {
        return ways.iter().any(|way| allows(way, value));
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let is_of = |kind: &Value| match kind.as_str().expect("a type") {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        other => panic!("{other}"),
    };
    let is_listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    let pattern = schema["pattern"].as_str().map(|pattern| match pattern {
        "^[0-9]+$" => |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()),
        r"^[0-9]*\.?[0-9]+$" => |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
        other => panic!("{other}"),
    });
    let fits = value.as_str().zip(pattern).is_none_or(|(text, fits)| fits(text));
    types.iter().any(is_of) && is_listed && fits
}

type Is = fn(&Value) -> bool;

#[test]
fn the_schema_takes_what_the_file_takes() {
    let schema = schema();
    let strings = [
        "2",
        "0.5",
        "2s",
        "2M",
        "25%",
        "max",
        "hash",
        "park",
        "file",
        "tcp",
        "listener",
        "mixed",
        "SIGTERM",
        "any-text",
        "N=1",
        "127.0.0.1:80",
        "0 4 * * *",
        "at-once",
        "mixed",
    ];
    let mut samples: Vec<Value> = strings.iter().map(|text| (*text).into()).collect();
    samples.extend([json!(2), json!(2_000_000_000_u64), json!(0.5), json!(true)]);
    for key in Keys::new().all() {
        let property = &schema["$defs"]["app"]["properties"][&key.name];
        let mut taken = Vec::new();
        for sample in &samples {
            // Ignored paths are only valid with watched ones.
            let text = format!("command = 'x'\n{} = {sample}\n", key.name);
            let more = if key.name == "watch_ignore" {
                "watch = '/'\n"
            } else {
                ""
            };
            let folder = std::env::temp_dir();
            let source = super::super::source::Source::of("reuse.toml", &folder, text + more);
            if super::super::file::read(&source).is_ok_and(|content| content.specs(&source, None).is_ok()) {
                assert!(
                    allows(property, sample),
                    "{} = {sample} is taken, and not by {property}",
                    key.name
                );
                taken.push(sample);
            }
        }
        let kinds = [
            ("string", Value::is_string as Is),
            ("integer", Value::is_u64),
            ("number", Value::is_f64),
            ("boolean", Value::is_boolean),
        ];
        for (kind, is_kind) in kinds
            .iter()
            .filter(|(kind, _)| property.to_string().contains(&format!("\"{kind}\"")))
        {
            assert!(
                taken.iter().any(|sample| is_kind(sample)),
                "{}: no {kind} is taken",
                key.name
            );
        }
    }
}

#[test]
fn the_schema_takes_the_default_values() {
    for (name, property) in schema()["$defs"]["app"]["properties"].as_object().expect("a table") {
        if let Some(default) = property.get("default") {
            assert!(
                allows(property, default),
                "{name}: {default} is not taken by {property}"
            );
        }
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
