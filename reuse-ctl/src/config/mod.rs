//! Apps as a file describes them (`reuse.toml`).
//!
//! Each becomes an [`AppSpec`]: the arguments of an equivalent `reuse-ctl run`, and variables for the workers' environment. So every key is
//! an option of `run`, and is checked by the same code.

mod command;
mod conflicts;
mod file;
mod host;
mod parsed;
pub(crate) mod schema;
mod source;
#[cfg(test)]
mod tests;
pub(crate) mod value;
mod variables;

use std::path::Path;

use crate::app::AppSpec;
use crate::{
    app::{options::RunOptions, requirements::Extent},
    base::Failure,
};
use source::Source;

/// An app of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// Its specification.
    pub spec: AppSpec,
}

/// A file without mistakes.
#[derive(Debug)]
pub struct Loaded {
    /// The apps, in the order of the file.
    pub apps: Vec<NamedSpec>,
    /// The options of each app.
    options: Vec<RunOptions>,
    source: Source,
    content: file::Content,
    environment: Option<String>,
}

impl Loaded {
    /// Reads a file and checks it by itself. `environment` is the value of `--env`: that `[env.NAME]` overrides `[env]`, in every app that
    /// has it.
    ///
    /// # Errors
    /// Usage, with every mistake in the file and its place.
    pub fn read(path: &Path, environment: Option<&str>) -> Result<Self, Failure> {
        let source = Source::read(path)?;
        let content = file::read(&source).map_err(|problems| source.refuse(problems))?;
        let known = content.environments();
        if let Some(name) = environment
            && !known.contains(&name)
        {
            let hint = match known.as_slice() {
                [] => format!("write its variables below [env.{name}]"),
                known => format!("it has {}", known.join(", ")),
            };
            return Err(Failure::usage(
                format!("{}: there is no environment {name:?}", source.shown),
                hint,
            ));
        }
        let specs = content.specs(&source, environment);
        let (apps, options) = specs.map_err(|problems| source.refuse(problems))?.into_iter().unzip();
        Ok(Self {
            apps,
            options,
            source,
            content,
            environment: environment.map(str::to_owned),
        })
    }
}

/// Reads a file, and checks it together with the folders and env files that it names.
///
/// # Errors
/// As [`Loaded::read`] and [`Loaded::judge`].
pub fn load(path: &Path, environment: Option<&str>) -> Result<Vec<NamedSpec>, Failure> {
    let loaded = Loaded::read(path, environment)?;
    loaded.judge(|_| Some(Extent::Files), &[])?;
    Ok(loaded.apps)
}
