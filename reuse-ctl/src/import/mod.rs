//! Translates PM2's `ecosystem.config.*` to a `reuse.toml`, and reports what became of every option in the file.
//!
//! ```text
//! file → read (JSON, YAML; JavaScript by the user's own Node or Bun) → Value → apps → translate (by the table) → toml + findings
//! ```
//!
//! The translation is pure. What it needs to know about the machine (existing files, number of CPUs) is passed as [`Surroundings`].
//! [`table`] has every option that PM2 knows. Any other option is reported as unknown, with the most similar known one.

mod apps;
mod command;
mod environment;
mod error;
mod json;
mod keys;
mod name;
mod options;
mod pm2;
mod read;
mod report;
mod runtime;
mod scalar;
mod script_error;
mod surroundings;
pub mod table;
mod toml;
mod translate;
mod translated;
mod value;
mod watch;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::ImportError;
pub(crate) use report::to_text;
pub use report::{Fate, Finding};
pub use surroundings::{ScriptFile, Surroundings};

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `reuse.toml`.
    pub toml: String,
    /// A finding for each option in the file, in order.
    pub findings: Vec<Finding>,
    /// Notes about the whole file, one line each.
    pub notes: Vec<String>,
}

/// Reads `file` and translates it. JavaScript is evaluated first, as the calling user (also under sudo).
///
/// # Errors
/// See [`ImportError`].
pub async fn import(file: &Path) -> Result<Imported, ImportError> {
    let document = read::read(file).await?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    translate::translate(file, &document, &Surroundings::of(folder))
}
