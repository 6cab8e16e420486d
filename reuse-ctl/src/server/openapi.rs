//! `GET /v1/openapi.json`: the API, described as OpenAPI 3.1. The paths come from the list that routes, the schemas from the wire types.

use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::routes::{self, Answers, Route, SchemaOf, Takes, Who};
use crate::{
    base::ErrorKind,
    wire::{Event, Reply, WORKER_HEADER},
};

/// What it describes, as JSON.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in routes::all() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(&route, &mut schemas);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "reuse-ctl",
            "summary": "The control socket of an app",
            "description": "Fields are added, never renamed: ignore those that you don't know. An unknown path is refused with status 404, and a method that a path does not take with 405; both answers are a `Reply`.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT or Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE") }
        },
        "servers": [{
            "url": "http://reuse",
            "description": "HTTP/1.1 on the Unix socket /run/reuse-ctl/<app>/control.sock. The host's name does not matter."
        }],
        "security": [],
        "paths": paths,
        "components": { "schemas": schemas.finish() }
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let words = route.path.trim_start_matches("/v1/").split(['/', '.']);
    let words = words
        .filter(|word| !word.starts_with('{'))
        .collect::<Vec<_>>()
        .join("_");
    let mut operation = json!({
        "operationId": format!("{}_{words}", route.method.as_str().to_lowercase()),
        "summary": route.summary,
    });
    if let Who::StartsCommands(_) = route.who {
        operation["description"] =
            "Only for root, and for the app's owner if the workers run as the owner. Others are refused with status 500.".into();
    }
    if route.is_about_one_worker() {
        operation["parameters"] = json!([{
            "name": "id",
            "in": "path",
            "required": true,
            "description": "The worker's number",
            "schema": { "type": "integer", "minimum": 0, "maximum": u16::MAX }
        }]);
    }
    if let Some((schema, required)) = match route.takes {
        Takes::Nothing => None,
        Takes::Optional(schema) => Some((schema, false)),
        Takes::Required(schema) => Some((schema, true)),
    } {
        operation["requestBody"] = json!({
            "description": format!("At most {} bytes", route.body_bytes),
            "required": required,
            "content": { "application/json": { "schema": schemas.request(schema) } }
        });
    }
    operation["responses"] = responses(route, schemas);
    operation
}

fn responses(route: &Route, schemas: &mut Schemas) -> Value {
    let reply: SchemaOf = SchemaGenerator::subschema_for::<Reply>;
    let mut responses = Map::new();
    let done = match route.answers {
        Answers::Reply | Answers::ReplyInTime => json(schemas.answer(reply), "It is done"),
        Answers::Json(schema) => json(schemas.answer(schema), "What was asked for"),
        Answers::Description => json(json!({ "type": "object" }), "An OpenAPI document: this one"),
        Answers::Events => stream(
            "Server-sent events without a name. The `data:` of each is one `Event`, as JSON on one line.",
            Some(schemas.answer(SchemaGenerator::subschema_for::<Event>)),
        ),
        Answers::Packets => stream(
            "Server-sent events. The `event:` of each is the packet's name, and its `data:` the packet, as JSON on one line. A reader that is too slow gets the event `missed` with `{\"missed\":NUMBER}`.",
            None,
        ),
        Answers::Worker => {
            let own = json!({
                "description": format!(
                    "The worker's own answer, whatever its status, with its content type. It has the header `{WORKER_HEADER}`; the controller's refusals do not."
                ),
                "headers": { WORKER_HEADER: {
                    "description": "The worker's number",
                    "required": true,
                    "schema": { "type": "integer" }
                } },
                "content": { "*/*": {} }
            });
            responses.insert("default".into(), own.clone());
            own
        }
    };
    responses.insert("200".into(), done);
    for kind in route.refuses() {
        let refusal = json(schemas.answer(reply), why(kind));
        responses.insert(kind.http_status().to_string(), refusal);
    }
    responses.sort_keys();
    responses.into()
}

fn json(schema: Value, description: &str) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn stream(description: &str, data: Option<Value>) -> Value {
    let mut schema = json!({ "type": "string" });
    if let Some(data) = data {
        // OpenAPI 3.1 has no word for what an event of a stream is.
        schema["x-data"] = data;
    }
    json!({ "description": description, "content": { "text/event-stream": { "schema": schema } } })
}

fn why(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Failed => "It was tried and did not work, or it can't be done now",
        ErrorKind::Usage => "The request makes no sense",
        ErrorKind::NotFound => "There is no such worker",
        ErrorKind::Timeout => "A deadline has passed",
    }
}

/// What was described so far. A request may leave out what has a default; an answer has it.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let of = |contract| {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
                settings.contract = contract;
            });
            SchemaGenerator::new(settings)
        };
        Self {
            requests: of(Contract::Deserialize),
            answers: of(Contract::Serialize),
        }
    }

    fn request(&mut self, schema: SchemaOf) -> Value {
        schema(&mut self.requests).to_value()
    }

    fn answer(&mut self, schema: SchemaOf) -> Value {
        schema(&mut self.answers).to_value()
    }

    /// All types by their names.
    fn finish(mut self) -> Map<String, Value> {
        let mut all = self.requests.take_definitions(true);
        for (name, mut schema) in self.answers.take_definitions(true) {
            leave_out_nulls(&mut schema);
            let known = all.insert(name, schema.clone());
            debug_assert!(
                known.is_none_or(|known| known == schema),
                "one name, two schemas: {schema}"
            );
        }
        all.sort_keys();
        all
    }
}

/// What an answer need not have is absent where there is nothing to say, and never null.
fn leave_out_nulls(schema: &mut Value) {
    let required = schema["required"].clone();
    let is_required = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    let properties = properties.into_iter().flatten();
    for (_, property) in properties.filter(|(name, _)| !is_required(name)) {
        if let Some([kind, Value::String(null)]) = property["type"].as_array().map(Vec::as_slice)
            && null == "null"
        {
            property["type"] = kind.clone();
        }
        if let Some([Value::Object(some), null]) = property["anyOf"].as_array().map(Vec::as_slice)
            && null["type"] == "null"
        {
            let some = some.clone();
            let property = property.as_object_mut().expect("it has a member");
            property.remove("anyOf");
            property.extend(some);
        }
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
