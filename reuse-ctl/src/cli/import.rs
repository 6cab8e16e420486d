//! `import FILE`: translates a PM2 ecosystem file to a `reuse.toml`, and reports what became of each option.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{args, output};
use crate::{
    base::Failure,
    cli::context::Context,
    import::{self, Finding, Imported},
};

pub(super) async fn run(context: &Context, arguments: &args::Import) -> Result<(), Failure> {
    let file = &arguments.file;
    let imported = import::import(file).await;
    let Imported { toml, findings, notes } =
        imported.map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    if context.json {
        return output::print_json(&output::Okay::new(Json {
            toml: &toml,
            options: &findings,
            notes: &notes,
        }));
    }
    output::print(&toml)?;
    // Errors are ignored: the report may have no reader, and the translated file is the main result.
    drop(io::stderr().write_all(import::to_text(&file.display().to_string(), &findings, &notes).as_bytes()));
    Ok(())
}

#[derive(Serialize)]
struct Json<'a> {
    toml: &'a str,
    options: &'a [Finding],
    notes: &'a [String],
}
