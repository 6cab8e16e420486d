use std::collections::BTreeSet;

use super::*;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
const MANUAL: &str = include_str!("../../../docs/api.md");

/// The sections of the manual with fields in their tables, and the types of which these are.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "Requests",
        &[
            "DrainRequest",
            "RestartRequest",
            "ReloadRequest",
            "ScaleRequest",
            "PolicyRequest",
            "WeightRequest",
            "CanaryRequest",
            "GetRequest",
            "SendRequest",
            "SpecRequest",
            "StopRequest",
        ],
    ),
    ("Reply", &["Reply"]),
    (
        "Status",
        &[
            "Status",
            "GroupStatus",
            "Verdicts",
            "WorkerStatus",
            "FaultStatus",
            "InstanceStatus",
            "LeftOutStatus",
        ],
    ),
    ("Events", &["Event"]),
    ("Spec", &["SpecReply", "AppSpec", "OptionChange"]),
];

#[test]
fn the_committed_document_is_current() {
    let mut text = serde_json::to_string_pretty(&document()).expect("plain data");
    text.push('\n');
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(COMMITTED, &text).expect("write the description");
    }
    let committed = std::fs::read_to_string(COMMITTED).expect("docs/openapi.json");
    assert!(
        committed == text,
        "UPDATE_DOCS=1 cargo test -p reuse-ctl openapi writes it anew"
    );
}

#[test]
fn the_manual_names_every_route_with_the_fields_of_its_body_and_no_other() {
    let named: BTreeSet<(String, Words)> = rows(section(MANUAL, "Requests"), "route")
        .map(|cells| (words_of(cells[0]).concat(), fields_of(cells[1])))
        .collect();
    let schemas = schemas();
    let served: BTreeSet<(String, Words)> = routes::all()
        .iter()
        .map(|route| {
            let mut described = Schemas::new();
            let fields = match route.takes {
                Takes::Nothing => Words::new(),
                Takes::Optional(schema) | Takes::Required(schema) => {
                    let reference = described.request(schema);
                    let name = reference["$ref"].as_str().expect("a type").rsplit('/').next();
                    properties(&schemas, name.expect("its last part"))
                }
            };
            (format!("{} {}", route.method, route.path), fields)
        })
        .collect();
    assert_eq!(named, served);
}

#[test]
fn the_manual_names_every_field_and_no_other() {
    let schemas = schemas();
    let mut types: BTreeSet<&str> = BTreeSet::new();
    for (title, names) in SECTIONS {
        types.extend(*names);
        let text = section(MANUAL, title);
        let fields: Words = names.iter().flat_map(|name| properties(&schemas, name)).collect();
        let spoken: Words = words_of(text).into_iter().map(String::from).collect();
        let missing: Vec<_> = fields.difference(&spoken).collect();
        assert!(missing.is_empty(), "{title} does not name {missing:?}");
        let in_tables: Words = rows(text, "field").flat_map(|cells| fields_of(cells[0])).collect();
        let unknown: Vec<_> = in_tables.difference(&fields).collect();
        assert!(unknown.is_empty(), "{title} names {unknown:?}, which no type has");
    }
    let with_fields = schemas.keys().filter(|name| !properties(&schemas, name).is_empty());
    let without: Vec<_> = with_fields.filter(|name| !types.contains(name.as_str())).collect();
    assert!(without.is_empty(), "add {without:?} to SECTIONS");
}

#[test]
fn operations_have_names_of_their_own_and_references_lead_somewhere() {
    let document = document();
    let paths = document["paths"].as_object().expect("an object");
    let operations: Vec<&Value> = paths
        .values()
        .flat_map(|path| path.as_object().expect("an object").values())
        .collect();
    let names: BTreeSet<&str> = operations
        .iter()
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    assert_eq!(names.len(), routes::all().len());
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let place = reference.split('"').next().expect("there is a first part");
        assert!(document.pointer(place).is_some(), "{place}");
    }
}

#[test]
fn what_need_not_be_in_an_answer_is_never_null() {
    let schemas = schemas();
    let reply = &schemas["Reply"]["properties"];
    assert_eq!(reply["error"]["type"], "string");
    assert_eq!(reply["kind"]["$ref"], "#/components/schemas/ErrorKind");
    assert_eq!(reply["kind"].get("anyOf"), None);
    let pid = &schemas["WorkerStatus"]["properties"]["pid"]["type"];
    assert_eq!(*pid, json!(["integer", "null"]), "it is always there");
}

#[test]
fn every_field_and_type_is_described() {
    for (name, schema) in schemas() {
        assert!(schema["description"].is_string(), "{name}");
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(schema["description"].is_string(), "{name}.{field}");
        }
    }
}

type Words = BTreeSet<String>;

fn schemas() -> Map<String, Value> {
    match document()["components"]["schemas"].take() {
        Value::Object(schemas) => schemas,
        other => panic!("{other}"),
    }
}

fn properties(schemas: &Map<String, Value>, name: &str) -> Words {
    let schema = schemas.get(name).unwrap_or_else(|| panic!("no type {name}"));
    let properties = schema["properties"].as_object();
    properties
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// What is below a heading, up to the next one.
fn section<'a>(manual: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let (_, text) = manual
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no section {title}"));
    text.split("\n## ").next().expect("there is a first part")
}

/// The rows of the tables whose first column is called so.
fn rows<'a>(text: &'a str, column: &str) -> impl Iterator<Item = Vec<&'a str>> {
    let mut is_inside = false;
    text.lines().filter_map(move |line| {
        let Some(row) = line.strip_prefix("| ") else {
            is_inside &= line.starts_with("|-");
            return None;
        };
        let cells: Vec<&str> = row.split(" | ").collect();
        if !is_inside {
            is_inside = cells[0].starts_with(column);
            return None;
        }
        Some(cells)
    })
}

/// What stands between backticks.
fn words_of(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What of it looks like the name of a field.
fn fields_of(text: &str) -> Words {
    let is_field = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    words_of(text).into_iter().filter(is_field).map(String::from).collect()
}
