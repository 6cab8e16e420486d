//! The one schema that is not derived: `base` does not know what describes the API.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::base::OutputOf;

impl JsonSchema for OutputOf {
    fn schema_name() -> Cow<'static, str> {
        "OutputOf".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A new one does not compile until it is listed.
        let listed = |output_of| match output_of {
            Self::BothInstances | Self::Controller => output_of,
        };
        let all = [Self::BothInstances, Self::Controller].map(listed);
        json_schema!({
            "description": "Who wrote the last lines that are shown when a worker has failed, if not that worker alone.",
            "type": "string",
            "enum": all,
        })
    }
}
