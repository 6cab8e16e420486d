//! From PM2's `ecosystem.config.*` to a `reuse.toml`, with a word about every option that the file has.
//!
//! ```text
//! file → read (JSON, YAML; JavaScript by the user's own Node or Bun) → Value → apps → translate (by the table) → toml + findings
//! ```
//!
//! Translating is pure: what it must know of the machine (which files are there, how many processors) is [`Surroundings`]. [`table`] has
//! every option that PM2 knows; an option of the file that is not in it is reported as unknown, with the nearest that is.

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

/// What came of an ecosystem file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `reuse.toml`.
    pub toml: String,
    /// One for each option in the file, in its order.
    pub findings: Vec<Finding>,
    /// What is to be known of the whole file, a line each.
    pub notes: Vec<String>,
}

/// Reads `file` and translates it. Runs it first, if it is JavaScript: as the person who called, sudo or not.
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
